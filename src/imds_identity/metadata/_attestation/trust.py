"""The certificates that chains may consist of: this package's, certifi's, and the caller's."""

from __future__ import annotations

import functools
from contextlib import suppress
from importlib import resources
from typing import TYPE_CHECKING, TypeAlias

from asn1crypto import pem
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

if TYPE_CHECKING:
    import os

CertificateInput: TypeAlias = "x509.Certificate | bytes | str"  # any number in PEM, or one in DER

CERTIFICATE_ERRORS = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    KeyError,  # from version 42 and older, for names with an unknown string type
    Warning,  # for callers that turn warnings into errors
)
"""The exceptions of cryptography for malformed certificates."""

_PEM = b"-----BEGIN CERTIFICATE-----"


@functools.cache
def roots() -> tuple[x509.Certificate, ...]:
    """Return the roots of this package and of certifi."""
    import certifi

    with open(certifi.where(), "rb") as file:
        return tuple(dict.fromkeys((*_bundled("roots.pem"), *_readable(file.read()))))


@functools.cache
def intermediates() -> tuple[x509.Certificate, ...]:
    """Return the authorities between those roots and Azure's signers."""
    return _bundled("intermediates.pem")


def load_anchors(path: str | os.PathLike[str]) -> tuple[x509.Certificate, ...]:
    """Return the valid certificates of a file; bundles of some systems have malformed ones, too."""
    with open(path, "rb") as file:
        found = _readable(file.read())
    if not found:
        raise ValueError(f"{path} contains no valid certificates in PEM or DER")
    return tuple(dict.fromkeys(found))


def certificates_from(given: CertificateInput) -> tuple[x509.Certificate, ...]:
    """Return the certificates in ``given``."""
    if isinstance(given, x509.Certificate):
        return (given,)
    if not isinstance(given, str | bytes):
        raise ValueError(  # noqa: TRY004 - one error for any invalid certificate
            f"a certificate must be PEM, DER or x509.Certificate, not {type(given).__name__}"
        )
    data = given.encode() if isinstance(given, str) else given
    if _PEM not in data:
        return (from_der(data),) if data.strip() else ()
    blocks = pem.unarmor(data, multiple=True)
    return tuple(from_der(der) for name, _, der in blocks if name == "CERTIFICATE")


def from_der(der: bytes) -> x509.Certificate:
    """Parse a certificate."""
    try:
        # cryptography warns about such serial numbers now, and will refuse them later.
        if asn1_x509.Certificate.load(der).serial_number <= 0:
            raise ValueError("its serial number is not positive")
        certificate = x509.load_der_x509_certificate(der)
        # cryptography parses these on first access.
        _ = certificate.subject, certificate.issuer, certificate.extensions
    except CERTIFICATE_ERRORS as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"not a certificate in PEM or DER ({reason})") from None
    return certificate


def _readable(bundle: bytes) -> list[x509.Certificate]:
    """Return the certificates of ``bundle`` without malformed ones."""
    found: list[x509.Certificate] = []
    for block in [_PEM + each for each in bundle.split(_PEM)[1:]] or [bundle]:
        with suppress(ValueError):
            found += certificates_from(block)
    return found


def _bundled(name: str) -> tuple[x509.Certificate, ...]:
    return certificates_from(resources.files(__package__).joinpath(name).read_bytes())
