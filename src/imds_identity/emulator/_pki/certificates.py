"""Certificate chains that the emulator makes itself (RFC 5280)."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import ssl
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .key_store import pem_of_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from .key_store import KeyStore, PrivateKey

_DAY = dt.timedelta(days=1)
_AUTHORITY_DAYS = 3650
_SERVER_DAYS = 365


def new_ec_key() -> ec.EllipticCurvePrivateKey:
    """A new key on the curve P-256."""
    return ec.generate_private_key(ec.SECP256R1())


class Authority:
    """A certificate authority: its certificate and the key that signs with it.

    Args:
        name: its common name.
        parent: who signs it; itself when left out.
        today: a moment inside the validity of everything it signs; the machine's time when
            left out.
        key: what it signs with; a new one when left out.
        certificate: its certificate; a new one when left out.
    """

    def __init__(
        self,
        name: str,
        parent: Authority | None = None,
        today: dt.datetime | None = None,
        key: PrivateKey | None = None,
        certificate: x509.Certificate | None = None,
    ) -> None:
        self.today = today or dt.datetime.now(dt.timezone.utc)
        self._key = key or new_ec_key()
        self._name = common_name(name)
        self.certificate = certificate or self._certified_by(parent or self)

    def _certified_by(self, signer: Authority) -> x509.Certificate:
        builder = signer.prepare(self._name, self._key.public_key(), _AUTHORITY_DAYS)
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        return signer.sign(builder.add_extension(usage, True))

    def prepare(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
        days: int = _SERVER_DAYS,
    ) -> x509.CertificateBuilder:
        """A certificate with all but its purpose filled in.

        Args:
            subject: whom it is for.
            key: the public key that it is for.
            days: how long it holds.
        """
        own = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.today - _DAY)
            .not_valid_after(self.today + days * _DAY)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)
            .add_extension(own, False)
        )

    def sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        """Sign a certificate."""
        return builder.sign(self._key, hashes.SHA256())

    def issue_for_server(
        self, host: str, more: Iterable[str] = ()
    ) -> tuple[PrivateKey, x509.Certificate]:
        """A key and a certificate for a server on an address, and on the loopback.

        Args:
            host: the address.
            more: further names that it is reached by.
        """
        key = new_ec_key()
        addresses = {ipaddress.ip_address(text) for text in ("127.0.0.1", "::1", host)}
        names: list[x509.GeneralName] = [x509.DNSName(name) for name in ("localhost", *more)]
        names += [x509.IPAddress(address) for address in addresses]
        builder = (
            self.prepare(common_name("localhost"), key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
            .add_extension(x509.SubjectAlternativeName(names), False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        )
        return key, self.sign(builder)


def common_name(name: str) -> x509.Name:
    """A distinguished name of nothing but a common name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def pem(certificate: x509.Certificate) -> bytes:
    """A certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def kept_authority(
    store: KeyStore,
    name: str,
    title: str,
    parent: Authority | None = None,
    today: dt.datetime | None = None,
    make_key: Callable[[], PrivateKey] = new_ec_key,
) -> Authority:
    """The authority that a store keeps; made and kept if it keeps none.

    Args:
        store: the store.
        name: of its files.
        title: its common name.
        parent: who signs it; itself when left out.
        today: a moment inside its validity; the machine's time when left out.
        make_key: makes its key.

    Raises:
        ValueError: if what was kept is damaged.
    """
    key = store.kept_key(name, make_key)
    data = store.kept(f"{name}.pem", lambda: pem(Authority(title, parent, today, key).certificate))
    try:
        certificate = x509.load_pem_x509_certificate(data)
    except ValueError:
        raise ValueError(
            f"state: {name}.pem in {store.directory} is no certificate; remove it."
        ) from None
    _check_kept(store, name, certificate, key, parent)
    return Authority(title, parent, today, key, certificate)


def _check_kept(
    store: KeyStore,
    name: str,
    certificate: x509.Certificate,
    key: PrivateKey,
    parent: Authority | None,
) -> None:
    """Refuse a kept certificate of another key or issuer: nobody could verify what it signs."""
    own = certificate.public_key() == key.public_key()
    try:
        certificate.verify_directly_issued_by(parent.certificate if parent else certificate)
    except (InvalidSignature, ValueError):
        own = False
    if not own:
        raise ValueError(
            f"state: {name}.pem in {store.directory} does not belong to the keys beside it; "
            "remove it."
        )


def server_context(
    authority: Authority, directory: Path, host: str, names: Iterable[str] = ()
) -> ssl.SSLContext:
    """Make a certificate for a server.

    Args:
        authority: who signs it.
        directory: a private one, where the key lies while it is read.
        host: the address that it listens on, for which the certificate is good.
        names: further names that the certificate is good for.

    Returns:
        A TLS context that serves with the chain.
    """
    key, certificate = authority.issue_for_server(host, names)
    combined = directory / "server.pem"
    descriptor = os.open(combined, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem_of_key(key) + pem(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(combined)
    # ssl reads keys from files only, so the file is there for just this moment.
    combined.unlink()
    return context
