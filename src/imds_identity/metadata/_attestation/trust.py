"""The certificates that chains may consist of: this package's, certifi's, and the caller's."""

from __future__ import annotations

import functools
from importlib import resources
from typing import TYPE_CHECKING, TypeAlias

from asn1crypto import pem
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

CertificateInput: TypeAlias = "x509.Certificate | bytes | str"
"""A certificate, PEM with any number of certificates, or the DER of one."""

CERTIFICATE_ERRORS = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    KeyError,
    Warning,
)
"""The exceptions of cryptography for malformed certificates.

Warning for callers that turn warnings into errors; KeyError from version 42 and older, for names
with an unknown string type.
"""

_PEM = b"-----BEGIN CERTIFICATE-----"


@functools.cache
def roots() -> tuple[x509.Certificate, ...]:
    """Return the roots of this package and of certifi."""
    import certifi

    with open(certifi.where(), "rb") as file:
        return _unique((*_bundled("roots.pem"), *_readable(file.read())))


@functools.cache
def intermediates() -> tuple[x509.Certificate, ...]:
    """Return the authorities between those roots and Azure's signers."""
    return _bundled("intermediates.pem")


def load_anchors(path: str | os.PathLike[str]) -> tuple[x509.Certificate, ...]:
    """Return the certificates of a PEM or DER file."""
    # Skips malformed certificates, which are never trusted: bundles of some systems have them.
    with open(path, "rb") as file:
        found = _readable(file.read())
    if not found:
        raise ValueError(f"{path} contains no valid certificates in PEM or DER")
    return _unique(found)


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
        # cryptography warns of such serial numbers now, and will refuse them later.
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
    return [
        certificate
        for block in ([_PEM + each for each in bundle.split(_PEM)[1:]] or [bundle])
        for certificate in _readable_block(block)
    ]


def _readable_block(block: bytes) -> tuple[x509.Certificate, ...]:
    try:
        return certificates_from(block)
    except ValueError:
        return ()


def _bundled(name: str) -> tuple[x509.Certificate, ...]:
    return certificates_from(resources.files(__package__).joinpath(name).read_bytes())


def _unique(found: Iterable[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    return tuple(dict.fromkeys(found))
