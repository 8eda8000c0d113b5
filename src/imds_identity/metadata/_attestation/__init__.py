"""Verification of attested documents. It requires the extra ``attested``."""

from importlib.util import find_spec

from ..._platform.imports import not_installed

for _package in ("asn1crypto", "certifi", "cryptography"):
    if find_spec(_package) is None:
        raise not_installed(_package, "attested", "an attested document")
