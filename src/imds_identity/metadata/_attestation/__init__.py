"""Attested documents, and what it takes to believe one: this room needs the extra ``attested``."""

from importlib.util import find_spec

from ..._platform.extras import not_installed

for _needed in ("asn1crypto", "certifi", "cryptography"):
    if find_spec(_needed) is None:
        raise not_installed(_needed, "attested", "an attested document")
