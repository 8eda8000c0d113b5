"""Certificate chains (RFC 5280)."""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import os
import ssl
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .key_store import KeyStore, pem_of_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from .key_store import PrivateKey

_DAY = dt.timedelta(days=1)
_AUTHORITY_DAYS = 3650
_SERVER_DAYS = 365


def new_ec_key() -> ec.EllipticCurvePrivateKey:
    """Return a new key on the curve P-256."""
    return ec.generate_private_key(ec.SECP256R1())


class Authority:
    """A certificate authority, signed by its parent or by itself."""

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
        self.certificate = certificate or self._new_certificate(parent or self)

    def _new_certificate(self, signer: Authority) -> x509.Certificate:
        builder = signer.prepare(self._name, self._key.public_key(), _AUTHORITY_DAYS)
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True,
            content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        return signer.sign(builder.add_extension(usage, True))

    def prepare(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
        days: int = _SERVER_DAYS,
    ) -> x509.CertificateBuilder:
        """Return a builder of a certificate with everything but its purpose."""
        issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.today - _DAY)
            .not_valid_after(self.today + days * _DAY)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)
            .add_extension(issuer_key, False)
        )

    def sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        return builder.sign(self._key, hashes.SHA256())

    def issue(
        self, key: PrivateKey, subjects: Iterable[x509.GeneralName], days: int = _SERVER_DAYS
    ) -> x509.Certificate:
        """Return the certificate of a server."""
        builder = (
            self.prepare(common_name("localhost"), key.public_key(), days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
            .add_extension(x509.SubjectAlternativeName(subjects), False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        )
        return self.sign(builder)


def server_names(host: str, names: Iterable[str] = ()) -> list[x509.GeneralName]:
    """Return the names of a server: its address, the loopback addresses and more names."""
    addresses = {ipaddress.ip_address(text) for text in ("127.0.0.1", "::1", host)}
    subjects: list[x509.GeneralName] = [x509.DNSName(name) for name in ("localhost", *names)]
    return [*subjects, *map(x509.IPAddress, sorted(addresses, key=str))]


def common_name(name: str) -> x509.Name:
    """Return a distinguished name that consists of a common name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def thumbprint(certificate: x509.Certificate) -> str:
    """Return the SHA-1 hash of a certificate, in the form that Windows shows."""
    return certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303 - as Service Fabric


def pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate in PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def load_or_create_authority(
    store: KeyStore,
    name: str,
    title: str,
    parent: Authority | None = None,
    today: dt.datetime | None = None,
    make_key: Callable[[], PrivateKey] = new_ec_key,
) -> Authority:
    """Load an authority from a store, or create it there; ValueError if its files are damaged."""
    key = store.load_or_create_key(name, make_key)
    certificate = _load_or_create(
        store, name, key, parent, lambda: Authority(title, parent, today, key).certificate
    )
    return Authority(title, parent, today, key, certificate)


def load_or_create_server(
    store: KeyStore, authority: Authority, subjects: list[x509.GeneralName]
) -> tuple[PrivateKey, x509.Certificate]:
    """Load the key and certificate of a server with these names, or create them."""
    # Nothing renews a stored certificate.
    days = _SERVER_DAYS if store.directory is None else _AUTHORITY_DAYS
    name = "server-" + hashlib.sha256(repr(subjects).encode()).hexdigest()[:8]
    key = store.load_or_create_key(name, new_ec_key)
    certificate = _load_or_create(
        store, name, key, authority, lambda: authority.issue(key, subjects, days)
    )
    return key, certificate


def _load_or_create(
    store: KeyStore,
    name: str,
    key: PrivateKey,
    parent: Authority | None,
    create: Callable[[], x509.Certificate],
) -> x509.Certificate:
    data = store.load_or_create(f"{name}.pem", lambda: pem(create()))
    where = f"state: {name}.pem in {store.directory}"
    try:
        certificate = x509.load_pem_x509_certificate(data)
    except ValueError:
        raise ValueError(f"{where} is not a certificate; remove it.") from None
    if not _belongs(certificate, key, parent):
        raise ValueError(f"{where} does not belong to the keys next to it; remove it.")
    return certificate


def _belongs(certificate: x509.Certificate, key: PrivateKey, parent: Authority | None) -> bool:
    """Return whether a certificate is for this key, and signed by the parent or by itself."""
    try:
        certificate.verify_directly_issued_by(parent.certificate if parent else certificate)
    except (InvalidSignature, ValueError):
        return False
    return certificate.public_key() == key.public_key()


def server_context(
    authority: Authority, directory: Path, host: str, names: Iterable[str] = ()
) -> ssl.SSLContext:
    """Return a TLS context with a new certificate for a server."""
    identity = load_or_create_server(KeyStore(), authority, server_names(host, names))
    return context_of(*identity, directory)


def context_of(key: PrivateKey, certificate: x509.Certificate, directory: Path) -> ssl.SSLContext:
    """Return a server's TLS context; the directory holds its key for a moment."""
    combined = directory / "server.pem"
    descriptor = os.open(combined, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem_of_key(key) + pem(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(combined)
    # ssl reads keys from files only; the file is not needed any more.
    combined.unlink()
    return context


def accept_server_name(context: ssl.SSLContext, name: str) -> None:
    """Let a server reject clients that send another server name (SNI, RFC 6066, section 3)."""

    def check(_socket: object, sent: str | None, _context: ssl.SSLContext) -> int | None:
        return None if sent in (None, name) else ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    context.sni_callback = check
