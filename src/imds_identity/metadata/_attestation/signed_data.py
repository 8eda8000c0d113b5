"""PKCS#7 SignedData (RFC 2315, RFC 5652), only in the form that Azure writes.

The signature covers only the content. For the rest, the document must have exactly the form of the
metadata service: it is created again from the parsed values, in DER, and must match byte for byte.
`verify_attested_document` also refuses certificates that the chain does not contain. So only this
can be changed in transit: which of two names the digest has, and whether it has parameters; and
issuers' certificates can be added or removed. None of them changes what is verified.
"""

from __future__ import annotations

import base64
import binascii
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from asn1crypto import cms, core
from asn1crypto import x509 as asn1_x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from ..errors import MalformedDocumentError, SignerNotFoundError, WrongSignatureError
from .trust import CERTIFICATE_ERRORS, from_der

if TYPE_CHECKING:
    from cryptography import x509

# A document has 4,000 characters, plus 2,000 for each further certificate. The limit is necessary
# because parsing an object identifier takes quadratic time: seconds for 100,000 bytes.
MAX_CHARACTERS = 32 * 1024

_SHA256 = "2.16.840.1.101.3.4.2.1"
_RSA = "1.2.840.113549.1.1.1"
_SHA256_WITH_RSA = "1.2.840.113549.1.1.11"
# As the digest, the service names a signature algorithm; the standard requires SHA-256. As the
# signature algorithm it has always named RSA. The newer name differs from it in one byte: accepting
# both would accept a document with a modified byte.
_DIGESTS = frozenset({_SHA256, _SHA256_WITH_RSA})
_NULL = b"\x05\x00"
_MIN_KEY_BITS = 2048


class SignedData(NamedTuple):
    """A document with a valid signature of a signer that is not verified yet."""

    content: bytes
    signer: x509.Certificate
    others: tuple[x509.Certificate, ...]


def open_signed_data(signature: str | bytes) -> SignedData:
    """Parse base64 SignedData, and verify the signature over its content."""
    parts = _parts(_from_base64(signature))
    certificates = [_certificate(der) for der in parts.certificates]
    matches = [
        each
        for each in certificates
        if (each.issuer.public_bytes(), each.serial_number) == (parts.issuer, parts.serial)
    ]
    if len(matches) != 1:
        raise SignerNotFoundError(
            f"The document contains {len(matches)} certificates with the issuer and serial number "
            "of its signer; it must contain one."
        )
    signer = matches[0]
    _check_signature(signer, parts)
    others = tuple(each for each in certificates if each is not signer)
    return SignedData(parts.content, signer, others)


def unverified_content(signature: str | bytes) -> bytes:
    """Return the content of a document without verifying its signature."""
    return _parts(_from_base64(signature)).content


class _Parts(NamedTuple):
    content: bytes
    certificates: list[bytes]
    issuer: bytes
    serial: int
    signature: bytes


def _from_base64(signature: str | bytes) -> bytes:
    if not isinstance(signature, str | bytes):
        raise TypeError(f"signature must be base64 text, not {type(signature).__name__}")
    if len(signature) > MAX_CHARACTERS:
        raise MalformedDocumentError(f"The document is larger than {MAX_CHARACTERS} characters.")
    try:
        text = signature if isinstance(signature, bytes) else signature.encode("ascii")
        text = b"".join(text.split())  # some tools wrap lines
        der = base64.b64decode(text, validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError):
        raise MalformedDocumentError("The document is not base64.") from None
    if base64.b64encode(der) != text:
        raise MalformedDocumentError("The document is not canonical base64.")
    return der


def _parts(der: bytes) -> _Parts:
    try:
        parts, encoded = _parse_and_encode(der)
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError):
        parts, encoded = None, b""
    if parts is None or encoded != der:
        raise MalformedDocumentError(
            "The document is not PKCS#7 SignedData with one signer in Azure's form."
        )
    return parts


def _parse_and_encode(der: bytes) -> tuple[_Parts, bytes]:
    signed = cms.ContentInfo.load(der, strict=True)["content"]
    (info,) = signed["signer_infos"]
    digest = _digest(info["digest_algorithm"])
    issued = info["sid"].chosen
    # From their values, because asn1crypto encodes a parsed object with the bytes that it had.
    sid = {"issuer": issued["issuer"], "serial_number": issued["serial_number"].native}
    content = signed["encap_content_info"]["content"].native
    signature = info["signature"].native
    certificates = [choice.chosen.dump() for choice in signed["certificates"]]
    signer_info = {
        "version": "v1",
        "sid": cms.SignerIdentifier("issuer_and_serial_number", sid),
        "digest_algorithm": digest,
        "signature_algorithm": {"algorithm": _RSA, "parameters": core.Null()},
        "signature": signature,
    }
    signed_data = {
        "version": "v1",
        "digest_algorithms": [digest],
        "encap_content_info": {"content_type": "data", "content": content},
        "certificates": [asn1_x509.Certificate.load(each) for each in certificates],
        "signer_infos": [signer_info],
    }
    encoded = cms.ContentInfo({"content_type": "signed_data", "content": signed_data})
    issuer, serial = issued["issuer"].dump(), issued["serial_number"].native
    return _Parts(content, certificates, issuer, serial, signature), encoded.dump()


def _digest(parsed: cms.DigestAlgorithm) -> cms.DigestAlgorithm:
    """Return the digest algorithm in DER."""
    name, parameters = parsed["algorithm"].dotted, parsed["parameters"].dump()
    if name not in _DIGESTS or parameters not in (b"", _NULL):
        raise ValueError("unexpected algorithm")
    return cms.DigestAlgorithm(
        {"algorithm": name, "parameters": core.Null()} if parameters else {"algorithm": name}
    )


def _certificate(der: bytes) -> x509.Certificate:
    with suppress(ValueError):
        certificate = from_der(der)
        if _encoded(certificate) == der:
            return certificate
    raise MalformedDocumentError("The document contains a malformed certificate.")


def _encoded(certificate: x509.Certificate) -> bytes:
    """Return the canonical encoding of the certificate."""
    body = asn1_x509.TbsCertificate.load(certificate.tbs_certificate_bytes)
    parts = {
        "tbs_certificate": body,
        "signature_algorithm": body["signature"],
        "signature_value": certificate.signature,
    }
    return bytes(asn1_x509.Certificate(parts).dump())


def _check_signature(signer: x509.Certificate, parts: _Parts) -> None:
    key = None
    with suppress(*CERTIFICATE_ERRORS):
        key = signer.public_key()
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < _MIN_KEY_BITS:
        raise WrongSignatureError(
            f"The signer's key is not an RSA key of at least {_MIN_KEY_BITS} bits."
        )
    try:
        key.verify(parts.signature, parts.content, padding.PKCS1v15(), SHA256())
    except InvalidSignature:
        raise WrongSignatureError(
            "The signature does not match the content: the document was modified."
        ) from None
