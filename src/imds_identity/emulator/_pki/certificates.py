"""Certificate chains that the emulator makes itself (RFC 5280)."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import ssl
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from pathlib import Path

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_DAY = dt.timedelta(days=1)


class Authority:
    """A certificate authority: its certificate and the key that signs with it.

    Args:
        name: its common name.
        parent: who signs it; itself when left out.
        today: a moment inside the validity of everything it signs; the machine's time when
            left out.
        key: what it signs with; a new one when left out.
    """

    def __init__(
        self,
        name: str,
        parent: Authority | None = None,
        today: dt.datetime | None = None,
        key: PrivateKey | None = None,
    ) -> None:
        self.today = today or dt.datetime.now(dt.timezone.utc)
        self._key = key or ec.generate_private_key(ec.SECP256R1())
        self._name = common_name(name)
        signer = parent or self
        builder = signer.prepare(self._name, self._key.public_key())
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
        self.certificate = signer.sign(builder.add_extension(usage, True))

    def prepare(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey
    ) -> x509.CertificateBuilder:
        """A certificate with all but its purpose filled in."""
        own = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.today - _DAY)
            .not_valid_after(self.today + 365 * _DAY)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)
            .add_extension(own, False)
        )

    def sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        """Sign a certificate."""
        return builder.sign(self._key, hashes.SHA256())

    def issue_for_server(self, host: str) -> tuple[PrivateKey, x509.Certificate]:
        """A key and a certificate for a server on an address, and on the loopback."""
        key = ec.generate_private_key(ec.SECP256R1())
        addresses = {ipaddress.ip_address(text) for text in ("127.0.0.1", "::1", host)}
        names: list[x509.GeneralName] = [x509.DNSName("localhost")]
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


def server_context(directory: Path, host: str) -> ssl.SSLContext:
    """Make a chain for a server.

    Args:
        directory: where its root is left as ``ca.pem``; the key does not stay.
        host: the address that it listens on, for which the certificate is good.

    Returns:
        A TLS context that serves with the chain.
    """
    authority = Authority("imds-identity emulator root")
    key, certificate = authority.issue_for_server(host)
    (directory / "ca.pem").write_bytes(pem(authority.certificate))
    combined = directory / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    descriptor = os.open(combined, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(private + pem(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(combined)
    # ssl reads keys from files only, so the file is there for just this moment.
    combined.unlink()
    return context
