"""Creates attested documents: valid ones and each kind of invalid one."""

from __future__ import annotations

import base64
import datetime as dt
import json
from typing import TYPE_CHECKING, Any

from asn1crypto import cms, core
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

if TYPE_CHECKING:
    from pathlib import Path

AT = dt.datetime(2026, 11, 1, 12, tzinfo=dt.timezone.utc)
AZURE_DIGEST = "1.2.840.113549.1.1.11"


def content(**other: Any) -> bytes:
    """Return the content of a document."""
    document = {
        "licenseType": "",
        "nonce": "42",
        "plan": {"name": "", "product": "", "publisher": ""},
        "sku": "",
        "subscriptionId": "8d10da13-8125-4ba9-a717-bf7490507b3d",
        "timeStamp": {
            "createdOn": "11/01/26 12:00:00 -0000",
            "expiresOn": "11/01/26 18:00:00 -0000",
        },
        "vmId": "02aab8a4-74ef-476e-8182-f6d2ba4166a6",
        **other,
    }
    return json.dumps(document, separators=(",", ":")).encode()


class CertifiedKey:
    """A certificate with its private key."""

    def __init__(self, certificate: x509.Certificate, key: Any) -> None:
        self.certificate = certificate
        self.key = key

    def issue(self, name: str, **form: Any) -> CertifiedKey:
        return issue_certificate(name, self, **form)


def issue_certificate(
    name: str,
    issuer: CertifiedKey | None = None,
    *,
    names: list[str] | None = None,
    ca: bool = False,
    usage: str | None = None,
    purpose: str | None = None,
    critical: bool = False,
    constrained: bool = False,
    path_length: int | None = None,
    days: tuple[int, int] = (-30, 300),
    serial: int | None = None,
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | None = None,
    key_size: int = 2048,
    issuer_urls: list[str] | None = None,
    list_points: list[x509.DistributionPoint] | None = None,
) -> CertifiedKey:
    private_key = key or rsa.generate_private_key(65537, key_size)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(private_key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(AT + dt.timedelta(days=days[0]))
        .not_valid_after(AT + dt.timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca, path_length), critical=True)
    )
    if issuer:
        # cryptography's verifier requires it, as the CA/Browser Forum does.
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        builder = builder.add_extension(identifier, critical=False)
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), critical=False
        )
    if usage:
        builder = builder.add_extension(_usage(usage), critical=True)
    if purpose:
        purposes = x509.ExtendedKeyUsage([x509.ObjectIdentifier(purpose)])
        builder = builder.add_extension(purposes, critical=False)
    if critical:
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
        builder = builder.add_extension(unknown, critical=True)
    if constrained:
        limits = x509.NameConstraints([x509.DNSName("example.com")], None)
        builder = builder.add_extension(limits, critical=False)
    builder = _add_locations(builder, issuer_urls or [], list_points or [])
    return CertifiedKey(
        builder.sign(issuer.key if issuer else private_key, hashes.SHA256()), private_key
    )


def _add_locations(
    builder: x509.CertificateBuilder,
    issuer_urls: list[str],
    list_points: list[x509.DistributionPoint],
) -> x509.CertificateBuilder:
    if issuer_urls:
        issuers = [
            x509.AccessDescription(
                AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(url)
            )
            for url in issuer_urls
        ]
        builder = builder.add_extension(x509.AuthorityInformationAccess(issuers), critical=False)
    if list_points:
        builder = builder.add_extension(x509.CRLDistributionPoints(list_points), critical=False)
    return builder


def _usage(usage: str) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=usage == "signatures",
        key_cert_sign=usage == "certificates",
        crl_sign=usage == "certificates",
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


class DocumentFactory:
    """A root, an authority, and documents in Azure's form."""

    def __init__(self) -> None:
        self.root = issue_certificate("root", ca=True, usage="certificates")
        self.authority = self.root.issue("authority", ca=True, usage="certificates")
        self._key = rsa.generate_private_key(65537, 2048)

    def signer(
        self,
        name: str | None = "metadata.azure.com",
        *,
        common_name: str = "metadata.azure.com",
        **form: Any,
    ) -> CertifiedKey:
        names = [name] if name else None
        return self.authority.issue(common_name, names=names, key=self._key, **form)

    def document(
        self,
        signer: CertifiedKey | None = None,
        *,
        signed: bytes | None = None,
        shown: bytes | None = None,
        certificates: list[CertifiedKey] | None = None,
        digest: str = AZURE_DIGEST,
    ) -> str:
        signer = signer or self.signer()
        signed = content() if signed is None else signed
        return signed_data(signer, signed, certificates or [signer], shown=shown, digest=digest)

    def write(self, path: Path, certified: CertifiedKey) -> str:
        path.write_bytes(certified.certificate.public_bytes(serialization.Encoding.PEM))
        return str(path)


def signed_data(
    signer: CertifiedKey,
    signed: bytes,
    certificates: list[CertifiedKey],
    *,
    shown: bytes | None = None,
    digest: str = AZURE_DIGEST,
    signature_algorithm: str = "1.2.840.113549.1.1.1",
    version: str = "v1",
    signed_attrs: bool = False,
    unsigned_attrs: bool = False,
    signers: int = 1,
) -> str:
    """Return PKCS#7 SignedData in base64."""
    certificate = asn1_x509.Certificate.load(_der(signer))
    issued_by = {"issuer": certificate.issuer, "serial_number": certificate.serial_number}
    algorithm = {"algorithm": digest, "parameters": core.Null()}
    info: dict[str, Any] = {
        "version": version,
        "sid": cms.SignerIdentifier("issuer_and_serial_number", issued_by),
        "digest_algorithm": cms.DigestAlgorithm(algorithm),
        "signature_algorithm": {"algorithm": signature_algorithm, "parameters": core.Null()},
        "signature": signer.key.sign(signed, padding.PKCS1v15(), hashes.SHA256()),
    }
    attribute = {"type": "content_type", "values": ["data"]}
    if signed_attrs:
        info["signed_attrs"] = [attribute]
    if unsigned_attrs:
        info["unsigned_attrs"] = [attribute]
    document = cms.ContentInfo(
        {
            "content_type": "signed_data",
            "content": {
                "version": version,
                "digest_algorithms": [cms.DigestAlgorithm(algorithm)],
                "encap_content_info": {
                    "content_type": "data",
                    "content": signed if shown is None else shown,
                },
                "certificates": [asn1_x509.Certificate.load(_der(each)) for each in certificates],
                "signer_infos": [info] * signers,
            },
        }
    )
    return base64.b64encode(document.dump()).decode()


def _der(certified: CertifiedKey) -> bytes:
    return certified.certificate.public_bytes(serialization.Encoding.DER)
