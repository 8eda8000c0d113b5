"""Signs attested documents as the cloud's own signer does (RFC 2315, RFC 5652)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import AuthorityInformationAccessOID

from .certificates import Authority, common_name, pem

if TYPE_CHECKING:
    import datetime as dt

_SIGNER_OF = {
    "AzurePublicCloud": "metadata.azure.com",
    "AzureUSGovernmentCloud": "metadata.azure.us",
    "AzureChinaCloud": "metadata.azure.cn",
    "AzureGermanCloud": "metadata.microsoftazure.de",
    "AzureStack": "metadata.azure.com",
}


class AttestationSigner:
    """A root, an intermediate, and a signer named as the cloud's real one.

    Args:
        environment: the cloud, as ``azEnvironment`` names it.
        now: a moment inside the certificates' validity.
        intermediate_url: where the intermediate is served, which the signer's certificate names.
    """

    def __init__(self, environment: str, now: dt.datetime, intermediate_url: str) -> None:
        self._root = Authority("imds-identity emulator attestation root", today=now)
        self._intermediate = Authority("imds-identity emulator attestation CA", self._root, now)
        # The real signer's key is RSA, and clients may expect no other.
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = "emulator." + _SIGNER_OF[environment]
        issuer = x509.AccessDescription(
            AuthorityInformationAccessOID.CA_ISSUERS,
            x509.UniformResourceIdentifier(intermediate_url),
        )
        builder = (
            self._intermediate.prepare(common_name(name), self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
            .add_extension(x509.AuthorityInformationAccess([issuer]), False)
        )
        self._certificate = self._intermediate.sign(builder)

    @property
    def root_pem(self) -> bytes:
        """The root that a verifier must trust, in PEM."""
        return pem(self._root.certificate)

    @property
    def intermediate_der(self) -> bytes:
        """The authority between the root and the signer, in DER."""
        return self._intermediate.certificate.public_bytes(serialization.Encoding.DER)

    def sign(self, content: bytes) -> bytes:
        """PKCS#7 SignedData, in DER, that holds the content and both certificates."""
        builder = (
            pkcs7.PKCS7SignatureBuilder()
            .set_data(content)
            .add_signer(self._certificate, self._key, hashes.SHA256())
            .add_certificate(self._intermediate.certificate)
        )
        options = [pkcs7.PKCS7Options.Binary, pkcs7.PKCS7Options.NoAttributes]
        return builder.sign(serialization.Encoding.DER, options)
