"""PKCS#7 SignedData as Azure writes it (RFC 2315, RFC 5652), and in no other form.

A signature covers the content only. All else in the document is held to the one form that the
metadata service gives it: what was read is written again, and must come out the same to the byte.
So there is nothing in a document that somebody could change on the way.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, NamedTuple

from asn1crypto import cms
from asn1crypto import x509 as asn1_x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from ..errors import MalformedDocumentError, SignerNotFoundError, WrongSignatureError
from .trust import UNREADABLE, from_der

if TYPE_CHECKING:
    from cryptography import x509

LARGEST = 32 * 1024
"""Characters. A document is four thousand, and two more for each certificate that comes along.

To read an object identifier takes time with the square of its length: seconds, for 100,000.
"""

_SHA256 = "2.16.840.1.101.3.4.2.1"
_RSA = "1.2.840.113549.1.1.1"
_SHA256_WITH_RSA = "1.2.840.113549.1.1.11"
# The service names a signature algorithm where a digest belongs; SHA-256 itself is what standards
# want there. The signature's algorithm it has always named so. The newer name is one byte away from
# it: to take both would be to take a document with a byte changed.
_DIGESTS = frozenset({_SHA256, _SHA256_WITH_RSA})
_SMALLEST_KEY = 2048


class SignedData(NamedTuple):
    """A document whose signature fits its content; whose signature it is, is for others to ask.

    Attributes:
        content: what was signed.
        signer: the certificate of the key that signed it.
        others: certificates that came along.
    """

    content: bytes
    signer: x509.Certificate
    others: tuple[x509.Certificate, ...]


def open_signed(signature: str | bytes) -> SignedData:
    """Read SignedData in base64 and hold its signature against its content.

    Raises:
        MalformedDocumentError: if it is not in the form that Azure gives it.
        SignerNotFoundError: if it does not hold exactly one certificate of its signer.
        WrongSignatureError: if the signer has not signed this content.
    """
    parts = _parts(_from_base64(signature))
    certificates = [_certificate(der) for der in parts.certificates]
    theirs = [
        certificate
        for certificate in certificates
        if certificate.issuer.public_bytes() == parts.issuer
        and certificate.serial_number == parts.serial
    ]
    if len(theirs) != 1:
        raise SignerNotFoundError(
            f"The document holds {len(theirs)} certificates of the issuer and serial number that "
            "its signature names; it must hold one."
        )
    (signer,) = theirs
    _check_signature(signer, parts)
    others = tuple(certificate for certificate in certificates if certificate is not signer)
    return SignedData(parts.content, signer, others)


def content_of(signature: str | bytes) -> bytes:
    """What a document says, whoever has written it.

    Raises:
        MalformedDocumentError: if it is not in the form that Azure gives it.
    """
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
    if len(signature) > LARGEST:
        raise MalformedDocumentError(f"The document is larger than {LARGEST} characters.")
    try:
        text = signature if isinstance(signature, bytes) else signature.encode("ascii")
        # Some tools wrap lines.
        text = b"".join(text.split())
        der = base64.b64decode(text, validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError):
        raise MalformedDocumentError("The document is not base64.") from None
    if base64.b64encode(der) != text:
        raise MalformedDocumentError("The document is not base64 as everybody writes it.")
    return der


def _parts(der: bytes) -> _Parts:
    try:
        parts, written_again = _read_and_write(der)
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError):
        parts, written_again = None, b""
    if parts is None or written_again != der:
        raise MalformedDocumentError(
            "The document is not PKCS#7 SignedData of one signer as Azure writes it."
        )
    return parts


def _read_and_write(der: bytes) -> tuple[_Parts, bytes]:
    signed = cms.ContentInfo.load(der, strict=True)["content"]
    (info,) = signed["signer_infos"]
    digest, algorithm = info["digest_algorithm"], info["signature_algorithm"]
    if digest["algorithm"].dotted not in _DIGESTS or algorithm["algorithm"].dotted != _RSA:
        raise ValueError("other algorithms")
    if any(each["parameters"].dump() not in (b"", b"\x05\x00") for each in (digest, algorithm)):
        raise ValueError("algorithms with parameters")
    issued = info["sid"].chosen
    content = signed["encap_content_info"]["content"].native
    signature = info["signature"].native
    certificates = [choice.chosen.dump() for choice in signed["certificates"]]
    signer_info = {
        "version": "v1",
        "sid": cms.SignerIdentifier("issuer_and_serial_number", issued),
        "digest_algorithm": digest,
        "signature_algorithm": algorithm,
        "signature": signature,
    }
    written = cms.ContentInfo(
        {
            "content_type": "signed_data",
            "content": {
                "version": "v1",
                "digest_algorithms": [digest],
                "encap_content_info": {"content_type": "data", "content": content},
                "certificates": [asn1_x509.Certificate.load(each) for each in certificates],
                "signer_infos": [signer_info],
            },
        }
    )
    parts = _Parts(
        content, certificates, issued["issuer"].dump(), issued["serial_number"].native, signature
    )
    return parts, written.dump()


def _certificate(der: bytes) -> x509.Certificate:
    try:
        certificate = from_der(der)
        if _written_again(certificate) == der:
            return certificate
    except ValueError:
        pass
    raise MalformedDocumentError("The document holds a certificate that is none.")


def _written_again(certificate: x509.Certificate) -> bytes:
    """The certificate in the one form that its issuer can have given it."""
    body = asn1_x509.TbsCertificate.load(certificate.tbs_certificate_bytes)
    whole: Any = asn1_x509.Certificate(
        {
            "tbs_certificate": body,
            "signature_algorithm": body["signature"],
            "signature_value": certificate.signature,
        }
    )
    written: bytes = whole.dump()
    return written


def _check_signature(signer: x509.Certificate, parts: _Parts) -> None:
    try:
        key = signer.public_key()
    except UNREADABLE:
        key = None
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < _SMALLEST_KEY:
        raise WrongSignatureError(
            f"The signer's key is not an RSA key of {_SMALLEST_KEY} bits or more."
        )
    try:
        key.verify(parts.signature, parts.content, padding.PKCS1v15(), SHA256())
    except InvalidSignature:
        raise WrongSignatureError(
            "The signature is not the signer's over this content: one of them was changed."
        ) from None
