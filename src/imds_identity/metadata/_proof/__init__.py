"""Attested documents, and what it takes to believe one: this room needs the extra ``attested``."""

from importlib.util import find_spec

for _needed in ("asn1crypto", "certifi", "cryptography"):
    if find_spec(_needed) is None:
        raise ModuleNotFoundError(
            f"attested documents take {_needed}: pip install 'imds-identity[attested]'",
            name=_needed,
        )
