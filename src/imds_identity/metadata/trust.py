"""The certificates that chains are built of: this package's own, certifi's and the caller's."""

from __future__ import annotations

import functools
from importlib import resources
from typing import TYPE_CHECKING, TypeAlias

from cryptography import x509

if TYPE_CHECKING:
    from collections.abc import Iterable

Given: TypeAlias = "x509.Certificate | bytes | str"
"""A certificate, or PEM of some, or DER of one."""

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


def anchors_in(path: str) -> tuple[x509.Certificate, ...]:
    """The certificates of a file in PEM or DER.

    Raises:
        OSError: if it cannot be read.
        ValueError: if there are none in it.
    """
    with open(path, "rb") as file:
        found = certificates(file.read())
    if not found:
        raise ValueError(f"{path} has no certificates in it")
    return _each_once(found)


def certificates(given: Given) -> tuple[x509.Certificate, ...]:
    """The certificates of ``given``.

    Raises:
        ValueError: if it holds something else.
    """
    if isinstance(given, x509.Certificate):
        return (given,)
    data = given.encode() if isinstance(given, str) else given
    if _PEM in data:
        return tuple(x509.load_pem_x509_certificates(data))
    return (x509.load_der_x509_certificate(data),) if data.strip() else ()


def _readable(bundle: bytes) -> list[x509.Certificate]:
    """The certificates of ``bundle`` but for those that cryptography cannot or will not read."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [_read(_PEM + block) for block in bundle.split(_PEM)[1:]]
    return [certificate for certificate in found if certificate is not None]


def _read(pem: bytes) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(pem)
    except (ValueError, Warning):
        return None


def _bundled(name: str) -> tuple[x509.Certificate, ...]:
    return certificates(resources.files(__package__).joinpath(name).read_bytes())


def _each_once(found: Iterable[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    return tuple(dict.fromkeys(found))
