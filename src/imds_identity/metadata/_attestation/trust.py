"""The certificates that chains are built of: this package's own, certifi's and the caller's."""

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

Given: TypeAlias = "x509.Certificate | bytes | str"
"""A certificate, or PEM of some, or DER of one."""

UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    KeyError,
    Warning,
)
"""What cryptography raises for a certificate that is none.

Warnings where those are errors; KeyError by 42 and older, for a name whose type of string they
do not know.
"""

_PEM = b"-----BEGIN CERTIFICATE-----"


@functools.cache
def roots() -> tuple[x509.Certificate, ...]:
    """The roots of this package, and those of certifi."""
    import certifi

    with open(certifi.where(), "rb") as file:
        return _each_once((*_bundled("roots.pem"), *_readable(file.read())))


@functools.cache
def intermediates() -> tuple[x509.Certificate, ...]:
    """The authorities between those roots and Azure's signers."""
    return _bundled("intermediates.pem")


def anchors_in(path: str | os.PathLike[str]) -> tuple[x509.Certificate, ...]:
    """The certificates of a file in PEM or DER.

    Raises:
        OSError: if it cannot be read.
        ValueError: if there are none in it.
    """
    # What cannot be read is trusted by nobody; systems' bundles have some of those.
    with open(path, "rb") as file:
        found = _readable(file.read())
    if not found:
        raise ValueError(f"{path} has no certificates in it that can be read, in PEM or DER")
    return _each_once(found)


def certificates(given: Given) -> tuple[x509.Certificate, ...]:
    """The certificates of ``given``.

    Raises:
        ValueError: if it holds something else.
    """
    if isinstance(given, x509.Certificate):
        return (given,)
    if not isinstance(given, str | bytes):
        raise ValueError(  # noqa: TRY004 - one error for whatever is no certificate
            f"a certificate is given as PEM, DER or x509.Certificate, not {type(given).__name__}"
        )
    data = given.encode() if isinstance(given, str) else given
    if _PEM not in data:
        return (from_der(data),) if data.strip() else ()
    blocks = pem.unarmor(data, multiple=True)
    return tuple(from_der(der) for name, _, der in blocks if name == "CERTIFICATE")


def from_der(der: bytes) -> x509.Certificate:
    """The certificate that ``der`` is.

    Raises:
        ValueError: if it is none.
    """
    try:
        # cryptography warns of such numbers today and will refuse them one day.
        if asn1_x509.Certificate.load(der).serial_number <= 0:
            raise ValueError("its serial number is not positive")
        certificate = x509.load_der_x509_certificate(der)
        # What is wrong inside is found by looking.
        _ = certificate.subject, certificate.issuer, certificate.extensions
    except UNREADABLE as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"this is no certificate in PEM or DER ({reason})") from None
    return certificate


def _readable(bundle: bytes) -> list[x509.Certificate]:
    """The certificates of ``bundle`` but for those that cryptography cannot or will not read."""
    return [
        certificate
        for block in ([_PEM + each for each in bundle.split(_PEM)[1:]] or [bundle])
        for certificate in _readable_one(block)
    ]


def _readable_one(block: bytes) -> tuple[x509.Certificate, ...]:
    try:
        return certificates(block)
    except ValueError:
        return ()


def _bundled(name: str) -> tuple[x509.Certificate, ...]:
    return certificates(resources.files(__package__).joinpath(name).read_bytes())


def _each_once(found: Iterable[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    return tuple(dict.fromkeys(found))
