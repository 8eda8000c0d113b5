"""Signatures of attested documents, like those of the real service (RFC 2315, RFC 5652)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import AuthorityInformationAccessOID

from .certificates import Authority, common_name, load_or_create_authority, pem
from .key_store import ATTESTED_CA, ATTESTED_ROOT, KeyStore
from .signing_key import rsa_key

if TYPE_CHECKING:
    import datetime as dt

_DOMAIN_OF = {
    "AzurePublicCloud": "metadata.azure.com",
    "AzureUSGovernmentCloud": "metadata.azure.us",
    "AzureChinaCloud": "metadata.azure.cn",
    "AzureGermanCloud": "metadata.microsoftazure.de",
    "AzureStack": "metadata.azure.com",
}
_SHA256 = bytes.fromhex("0609608648016503040201")
_SHA256_WITH_RSA = bytes.fromhex("06092a864886f70d01010b")
_OPTIONS = (pkcs7.PKCS7Options.Binary, pkcs7.PKCS7Options.NoAttributes)


class _CertifiedKey:
    """A key with a certificate for one name."""

    def __init__(self, issuer: Authority, name: str, issuer_url: str) -> None:
        self._key = rsa_key()
        access = x509.AccessDescription(
            AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(issuer_url)
        )
        builder = (
            issuer.prepare(common_name(name), self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
            .add_extension(x509.AuthorityInformationAccess([access]), False)
        )
        self.certificate = issuer.sign(builder)

    def sign(self, content: bytes, additional: x509.Certificate | None = None) -> bytes:
        """Return SignedData with the content, the signer's certificate and an additional one."""
        builder = pkcs7.PKCS7SignatureBuilder().set_data(content)
        builder = builder.add_signer(self.certificate, self._key, hashes.SHA256())
        if additional is not None:
            builder = builder.add_certificate(additional)
        signed = builder.sign(serialization.Encoding.DER, _OPTIONS)
        # The real documents have a signature algorithm in place of the digest algorithm. Both OIDs
        # have the same length, so the enclosing lengths stay correct.
        return signed.replace(_SHA256, _SHA256_WITH_RSA)


class AttestationSigner:
    """A root, an intermediate, and a signer whose name is like that of the cloud's real signer."""

    def __init__(
        self, environment: str, now: dt.datetime, intermediate_url: str, store: KeyStore
    ) -> None:
        self._now = now
        self._url = intermediate_url
        self._name = "emulator." + _DOMAIN_OF[environment]
        self._root, self._intermediate = _authorities(now, store)
        self._signer = _CertifiedKey(self._intermediate, self._name, intermediate_url)

    @property
    def root_pem(self) -> bytes:
        return pem(self._root.certificate)

    @property
    def intermediate_pem(self) -> bytes:
        return pem(self._intermediate.certificate)

    @property
    def ca_pem(self) -> bytes:
        return self.root_pem + self.intermediate_pem

    @property
    def intermediate_der(self) -> bytes:
        return self._intermediate.certificate.public_bytes(serialization.Encoding.DER)

    def sign(self, content: bytes, defect: str | None = None) -> bytes:
        """Return PKCS#7 SignedData in DER; verifiers must reject it if it has a defect."""
        if defect == "tampered":
            return self._signer.sign(content).replace(content, _tampered(content))
        if defect == "wrong-name":
            name = "emulator.metadata.azure.com.example.net"
            return _CertifiedKey(self._intermediate, name, self._url).sign(content)
        if defect in ("unknown-root", "decoy-signer"):
            other_signer = _CertifiedKey(
                _authorities(self._now, KeyStore())[1], self._name, self._url
            )
            decoy = self._signer.certificate if defect == "decoy-signer" else None
            return other_signer.sign(content, decoy)
        return self._signer.sign(content)


def _authorities(now: dt.datetime, store: KeyStore) -> tuple[Authority, Authority]:
    title = "imds-identity emulator attestation"
    root = load_or_create_authority(store, ATTESTED_ROOT, f"{title} root", None, now, rsa_key)
    return root, load_or_create_authority(store, ATTESTED_CA, f"{title} CA", root, now, rsa_key)


def _tampered(content: bytes) -> bytes:
    """Return the content with another vmId of the same length."""
    head, key, value = content.partition(b'"vmId":"')
    return head + key + (b"1" if value[:1] == b"0" else b"0") + value[1:]
