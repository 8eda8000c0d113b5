"""The chain from a signer's certificate to a root, and whether each link holds (RFC 5280, 6.1).

What a chain may look like is what the web's public authorities issue, and nothing more: RSA or
elliptic keys, SHA-2, and no extension that is critical and not understood here.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from ..errors import (
    AttestedDocumentError,
    CertificateExpiredError,
    MissingIntermediateError,
    NotYetValidError,
    UnknownRootError,
    UntrustedSignerError,
)
from .trust import UNREADABLE, roots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

E = TypeVar("E", bound=x509.ExtensionType)
SKEW = dt.timedelta(minutes=5)
"""By how much two clocks may differ."""

_LONGEST = 6
_MOST_TRIED = 64
_SMALLEST_RSA_KEY = 2048
_DIGESTS = frozenset({"sha256", "sha384", "sha512"})
_PURPOSES = frozenset(
    {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    }
)
_UNDERSTOOD = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.CERTIFICATE_POLICIES,
    }
)


class Certificates(NamedTuple):
    """What a chain may be built of.

    Attributes:
        anchors: trusted as they are, self-signed or not.
        intermediates: trusted below an anchor only.
        fetched: gives the issuers that a certificate tells where to fetch, one after another.
    """

    anchors: tuple[x509.Certificate, ...]
    intermediates: tuple[x509.Certificate, ...]
    fetched: Callable[[x509.Certificate], Iterable[x509.Certificate]]


def check_chain(signer: x509.Certificate, at: dt.datetime, known: Certificates) -> None:
    """Make sure that ``signer`` stands under an anchor.

    Args:
        signer: a certificate that signs documents.
        at: for which time.
        known: what the chain may be built of.

    Raises:
        CertificateExpiredError, NotYetValidError: if a chain holds but for its times.
        MissingIntermediateError: if a certificate of the chain is not at hand.
        UnknownRootError: if it ends at a root that is no anchor.
        UntrustedSignerError: if a link of it does not hold.
    """
    check_validity(signer, at)
    _check_usable(signer, authorities_below=None)
    _Search(at, known).climb(signer, 0)


def check_validity(certificate: x509.Certificate, at: dt.datetime) -> None:
    """Make sure that ``certificate`` is valid ``at`` that time.

    Raises:
        CertificateExpiredError: if it was, before.
        NotYetValidError: if it will be, later.
    """
    name = certificate.subject.rfc4514_string()
    if at > certificate.not_valid_after_utc + SKEW:
        raise CertificateExpiredError(
            f"The certificate of {name} expired on {certificate.not_valid_after_utc}; "
            f"the document was verified for {at}."
        )
    if at < certificate.not_valid_before_utc - SKEW:
        raise NotYetValidError(
            f"The certificate of {name} is valid from {certificate.not_valid_before_utc} on; "
            f"the document was verified for {at}."
        )


class _Search:
    """Looks for one chain that holds; bounded, because names in certificates may run in circles."""

    def __init__(self, at: dt.datetime, known: Certificates) -> None:
        self._at = at
        self._known = known
        self._tried = 0

    def climb(self, certificate: x509.Certificate, depth: int) -> None:
        """Return if ``certificate``, with ``depth`` certificates below it, stands under an anchor.

        Raises:
            AttestedDocumentError: if it does not, with the reason of the chain that went furthest.
        """
        if certificate in self._known.anchors:
            return
        if depth >= _LONGEST:
            raise UntrustedSignerError(f"The chain is longer than {_LONGEST} certificates.")
        reason: AttestedDocumentError | None = None
        for issuer, trusted in self._issuers(certificate):
            self._tried += 1
            if self._tried > _MOST_TRIED:
                raise UntrustedSignerError(
                    f"More than {_MOST_TRIED} certificates were tried without finding a chain."
                )
            try:
                self._check_link(certificate, issuer, depth)
                if not trusted:
                    self.climb(issuer, depth + 1)
            except AttestedDocumentError as error:
                reason = reason or error
            else:
                return
        raise reason or _nobody(certificate, depth)

    def _issuers(self, certificate: x509.Certificate) -> Iterator[tuple[x509.Certificate, bool]]:
        """Who may have issued it, what is trusted and near first, and whether it is trusted."""
        for anchor in self._known.anchors:
            if anchor.subject == certificate.issuer:
                yield anchor, True
        if certificate.subject == certificate.issuer:
            return
        for other in self._known.intermediates:
            if other.subject == certificate.issuer and other != certificate:
                yield other, False
        for other in self._known.fetched(certificate):
            if other.subject == certificate.issuer and other != certificate:
                yield other, False

    def _check_link(
        self, certificate: x509.Certificate, issuer: x509.Certificate, depth: int
    ) -> None:
        try:
            certificate.verify_directly_issued_by(issuer)
        except (InvalidSignature, *UNREADABLE):
            raise UntrustedSignerError(
                f"The certificate of {certificate.subject.rfc4514_string()} is not signed by "
                f"{issuer.subject.rfc4514_string()}, which it names as its issuer."
            ) from None
        check_validity(issuer, self._at)
        _check_usable(issuer, authorities_below=depth)


def _nobody(certificate: x509.Certificate, depth: int) -> AttestedDocumentError:
    """Why there is no issuer of ``certificate``, which has ``depth`` certificates below it."""
    issuer = certificate.issuer.rfc4514_string()
    # An authority that names no place of its issuer's stands right below a root.
    below_a_root = depth > 0 and not _extension(certificate, x509.AuthorityInformationAccess)
    known = any(root.subject == certificate.issuer for root in roots())
    if below_a_root or known or certificate.subject == certificate.issuer:
        return UnknownRootError(
            f"The chain ends at {issuer}, which is not a trusted root. If you trust it, name a "
            "file with its certificate as ca_file."
        )
    return MissingIntermediateError(
        f"The certificate of {issuer}, which issued that of "
        f"{certificate.subject.rfc4514_string()}, is not at hand. Give it as one of the "
        "intermediates, or let it be fetched: with offline=False, where Microsoft's and DigiCert's "
        "hosts are reached without a proxy."
    )


def _check_usable(certificate: x509.Certificate, authorities_below: int | None) -> None:
    """Make sure that a certificate may stand where it does.

    Args:
        certificate: a certificate of the chain.
        authorities_below: how many authorities stand between it and the signer; None for the
            signer itself.
    """
    try:
        complaint = _key_complaint(certificate) or _extensions_complaint(
            certificate, authorities_below
        )
    except UNREADABLE:
        complaint = "cannot be read"
    if complaint:
        raise UntrustedSignerError(
            f"The certificate of {certificate.subject.rfc4514_string()} {complaint}."
        )


def _key_complaint(certificate: x509.Certificate) -> str | None:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < _SMALLEST_RSA_KEY:
            return f"has an RSA key of {key.key_size} bits, which is too short"
    elif not isinstance(key, ec.EllipticCurvePublicKey):
        return "has a key of a kind that is not expected"
    algorithm = certificate.signature_hash_algorithm
    self_signed = certificate.subject == certificate.issuer
    if not self_signed and (algorithm is None or algorithm.name not in _DIGESTS):
        return f"is signed with {algorithm.name if algorithm else 'no digest'}, which is not safe"
    return None


def _extensions_complaint(
    certificate: x509.Certificate, authorities_below: int | None
) -> str | None:
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD:
            return f"has a critical extension {extension.oid.dotted_string} not understood here"
    purposes = _extension(certificate, x509.ExtendedKeyUsage)
    if purposes and not _PURPOSES & set(purposes):
        return "is for another purpose than naming a server"
    usage = _extension(certificate, x509.KeyUsage)
    if authorities_below is not None:
        return _authority_complaint(certificate, usage, authorities_below)
    if usage and not usage.digital_signature:
        return "may not be used for signatures"
    return None


def _authority_complaint(
    certificate: x509.Certificate, usage: x509.KeyUsage | None, authorities_below: int
) -> str | None:
    if _extension(certificate, x509.NameConstraints):
        return "limits the names below it, which is not understood here"
    basic = _extension(certificate, x509.BasicConstraints)
    if basic is None or not basic.ca:
        return "is no authority's, so it can issue none"
    if basic.path_length is not None and basic.path_length < authorities_below:
        return f"allows {basic.path_length} authorities below it, not {authorities_below}"
    if usage and not usage.key_cert_sign:
        return "may not be used to issue certificates"
    return None


def _extension(certificate: x509.Certificate, cls: type[E]) -> E | None:
    try:
        return certificate.extensions.get_extension_for_class(cls).value
    except x509.ExtensionNotFound:
        return None
