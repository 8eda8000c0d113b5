"""Signs attested documents as the cloud's own signer does (RFC 2315, RFC 5652)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import AuthorityInformationAccessOID

from .certificates import Authority, common_name, kept_authority, pem
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


class _Signer:
    """A key, with a certificate for one name."""

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

    def sign(self, content: bytes, beside: x509.Certificate | None = None) -> bytes:
        """SignedData that holds the content and the signer's certificate, and ``beside``."""
        builder = pkcs7.PKCS7SignatureBuilder().set_data(content)
        builder = builder.add_signer(self.certificate, self._key, hashes.SHA256())
        if beside is not None:
            builder = builder.add_certificate(beside)
        signed = builder.sign(serialization.Encoding.DER, _OPTIONS)
        # The real documents name a signature algorithm where the digest's belongs. Both names are
        # equally long, so that no length around them changes.
        return signed.replace(_SHA256, _SHA256_WITH_RSA)


class AttestationSigner:
    """A root, an intermediate, and a signer named as the cloud's real one.

    Args:
        environment: the cloud, as ``azEnvironment`` names it.
        now: a moment inside the certificates' validity.
        intermediate_url: where the intermediate is served, which the signer's certificate names.
        store: what keeps the authorities.
    """

    def __init__(
        self, environment: str, now: dt.datetime, intermediate_url: str, store: KeyStore
    ) -> None:
        self._now = now
        self._url = intermediate_url
        self._name = "emulator." + _DOMAIN_OF[environment]
        self._root, self._intermediate = _authorities(now, store)
        self._signer = _Signer(self._intermediate, self._name, intermediate_url)

    @property
    def root_pem(self) -> bytes:
        """The root that a verifier must trust, in PEM."""
        return pem(self._root.certificate)

    @property
    def intermediate_pem(self) -> bytes:
        """The authority between the root and the signer, in PEM."""
        return pem(self._intermediate.certificate)

    @property
    def intermediate_der(self) -> bytes:
        """The authority between the root and the signer, in DER."""
        return self._intermediate.certificate.public_bytes(serialization.Encoding.DER)

    def sign(self, content: bytes, wrong: str | None = None) -> bytes:
        """PKCS#7 SignedData, in DER, that holds the content and the signer's certificate.

        Args:
            content: what is signed.
            wrong: ``tampered``, ``wrong-name``, ``unknown-root`` or ``decoy-signer``, for a
                document that no verifier may believe.
        """
        if wrong == "tampered":
            return self._signer.sign(content).replace(content, _tampered(content))
        if wrong == "wrong-name":
            name = "emulator.metadata.azure.com.example.net"
            return _Signer(self._intermediate, name, self._url).sign(content)
        if wrong in ("unknown-root", "decoy-signer"):
            stranger = _Signer(_authorities(self._now, KeyStore())[1], self._name, self._url)
            decoy = self._signer.certificate if wrong == "decoy-signer" else None
            return stranger.sign(content, decoy)
        return self._signer.sign(content)


def _authorities(now: dt.datetime, store: KeyStore) -> tuple[Authority, Authority]:
    title = "imds-identity emulator attestation"
    root = kept_authority(store, ATTESTED_ROOT, f"{title} root", None, now, rsa_key)
    return root, kept_authority(store, ATTESTED_CA, f"{title} CA", root, now, rsa_key)


def _tampered(content: bytes) -> bytes:
    """The content with another vmId, and just as long."""
    head, mark, value = content.partition(b'"vmId":"')
    return head + mark + (b"1" if value[:1] == b"0" else b"0") + value[1:]
