"""Verification of the certificate chain from the signer of a document to a trusted root.

cryptography's verifier decides (RFC 5280 and the profile of the CA/Browser Forum, as for a TLS
server). All real documents from 2019 to 2026 pass it, in its versions 42 and 50. The code here
downloads missing intermediates, limits the search, and explains why a chain was refused.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from ..._core.failure import sanitize
from ..errors import (
    AttestedDocumentError,
    CertificateExpiredError,
    MissingIntermediateError,
    NotYetValidError,
    UnknownRootError,
    UntrustedSignerError,
)
from .trust import CERTIFICATE_ERRORS, roots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeAlias

    Anchors: TypeAlias = tuple[x509.Certificate, ...]

SKEW = dt.timedelta(minutes=5)  # the maximum difference between two clocks

# cryptography 42 does not limit its search: four self-issued intermediates with the same name and
# key take 20 s, and each further one multiplies that. Azure's chains have one or two intermediates.
_MAX_DEPTH = 4
_MAX_INTERMEDIATES = 16
_MIN_RSA_BITS = 2048


class TrustMaterial(NamedTuple):
    """The certificates that a chain may contain; anchors are trusted, self-signed or not."""

    anchors: tuple[x509.Certificate, ...]
    intermediates: tuple[x509.Certificate, ...]
    fetch_issuers: Callable[[x509.Certificate], Iterable[x509.Certificate]]


def check_chain(
    signer: x509.Certificate, host: str, at: dt.datetime, material: TrustMaterial
) -> Sequence[x509.Certificate]:
    """Return the chain from ``signer``, which has the name ``host``, to an anchor, or raise."""
    _check_signer(signer, at)
    if signer in material.anchors:
        return (signer,)
    pool, consulted = list(material.intermediates), list[x509.Certificate]()
    chain = _candidates(signer, pool, at)
    verified, reason = _verify(chain, host, at, material.anchors)
    while reason and (above := [each for each in reversed(chain) if each not in consulted]):
        consulted.append(above[0])
        for issuer in material.fetch_issuers(above[0]):
            pool.append(issuer)
            chain = _candidates(signer, pool, at)
            verified, reason = _verify(chain, host, at, material.anchors)
            if not reason:
                break
    if reason:
        raise _explain(chain, at, material.anchors, reason)
    return verified


def _check_signer(signer: x509.Certificate, at: dt.datetime) -> None:
    error = _validity_error(signer, at)
    if error is not None:
        raise error
    # cryptography does not require this usage, because keys of TLS servers need not have it.
    try:
        usage = signer.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not usage.digital_signature:
        raise UntrustedSignerError(
            f"The certificate of {_name(signer)} must not be used for signatures."
        )


def _validity_error(certificate: x509.Certificate, at: dt.datetime) -> AttestedDocumentError | None:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if at > end + SKEW:
        return CertificateExpiredError(
            f"The certificate of {_name(certificate)} expired on {end}; the document was verified "
            f"for {at}."
        )
    if at < start - SKEW:
        return NotYetValidError(
            f"The certificate of {_name(certificate)} is valid from {start} on; the document was "
            f"verified for {at}."
        )
    return None


def _candidates(
    signer: x509.Certificate, pool: Iterable[x509.Certificate], at: dt.datetime
) -> list[x509.Certificate]:
    """Return the signer and the certificates whose names form a chain from it toward a root."""
    # Certificates that are valid at the time come first, because renewed ones have the same key.
    pool = sorted(pool, key=lambda each: _validity_error(each, at) is not None)
    found, keys = [signer], {_identity(signer)}
    for certificate in found:
        for issuer in pool:
            if issuer.subject == certificate.issuer and _identity(issuer) not in keys:
                keys.add(_identity(issuer))
                found.append(issuer)
                if len(found) > _MAX_INTERMEDIATES:
                    return found
    return found


def _identity(certificate: x509.Certificate) -> object:
    try:
        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except CERTIFICATE_ERRORS:
        return certificate
    return certificate.subject, certificate.issuer, key


def _verify(
    chain: list[x509.Certificate], host: str, at: dt.datetime, anchors: Anchors
) -> tuple[list[x509.Certificate], str]:
    """Return the valid chain from cryptography, or why it refuses to verify one."""
    signer = chain[0]
    # cryptography compares times exactly. A time within the validity of the signer tolerates SKEW
    # for its issuers as well, because they are valid for longer.
    moment = min(max(at, signer.not_valid_before_utc), signer.not_valid_after_utc)
    policy = (
        PolicyBuilder()
        .store(Store(list(anchors)))
        .time(moment.astimezone(dt.timezone.utc).replace(tzinfo=None))
        .max_chain_depth(_MAX_DEPTH)
    )
    try:
        # A wildcard is not a valid name of a server, but matches any name.
        name = x509.DNSName(host.replace("*", "any", 1))
        valid_chain = policy.build_server_verifier(name).verify(signer, chain[1:])
    except (VerificationError, *CERTIFICATE_ERRORS) as error:
        return [], sanitize(str(error)) or type(error).__name__
    for certificate in valid_chain:  # version 42 accepts short keys of authorities
        key = certificate.public_key()
        if isinstance(key, rsa.RSAPublicKey) and key.key_size < _MIN_RSA_BITS:
            return [], f"{_name(certificate)} has an RSA key of only {key.key_size} bits"
    return valid_chain, ""


def _explain(
    chain: list[x509.Certificate], at: dt.datetime, anchors: Anchors, reason: str
) -> AttestedDocumentError:
    """Return the error for an invalid chain: follow the signatures up to the first problem."""
    certificate = signer = chain[0]
    for _ in chain:
        others = [each for each in (*anchors, *chain) if each != certificate]
        named = [each for each in others if each.subject == certificate.issuer]
        if not named:
            return _missing_issuer(certificate, is_authority=certificate != signer)
        issuers = [each for each in named if _has_signed(each, certificate)]
        if not issuers:
            return UntrustedSignerError(
                f"The certificate of {_name(certificate)} is not signed by {_name(named[0])}, "
                "which it names as its issuer."
            )
        issuer = min(issuers, key=lambda each: _validity_error(each, at) is not None)
        error = _validity_error(issuer, at)
        if error is not None:
            return error
        if issuer in anchors:
            break
        certificate = issuer
    return UntrustedSignerError(f"The certificate chain of {_name(signer)} is not valid: {reason}.")


def _has_signed(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *CERTIFICATE_ERRORS):
        return False
    return True


def _missing_issuer(certificate: x509.Certificate, *, is_authority: bool) -> AttestedDocumentError:
    has_url = any(
        each.oid == ExtensionOID.AUTHORITY_INFORMATION_ACCESS for each in certificate.extensions
    )
    is_known_root = any(root.subject == certificate.issuer for root in roots())
    issuer = certificate.issuer.rfc4514_string()
    # An authority without a URL for its issuer's certificate is directly below a root.
    if is_known_root or certificate.subject == certificate.issuer or (is_authority and not has_url):
        return UnknownRootError(
            f"The chain ends at {issuer}, which is not a trusted root. To trust it, pass its "
            "certificate with the roots."
        )
    return MissingIntermediateError(
        f"The intermediate certificate of {issuer} is missing, which issued the certificate of "
        f"{_name(certificate)}. Pass it with the intermediates, or allow its download from hosts "
        "of Microsoft and DigiCert; name the proxy if this machine requires one."
    )


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()
