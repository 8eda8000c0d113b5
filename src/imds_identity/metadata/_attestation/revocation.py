"""Revocation of a chain's certificates, by the lists that they name (RFC 5280, section 6.3).

The lists come from the same hosts as missing issuers, with similar limits. Without a current list,
a certificate counts as possibly revoked.
"""

from __future__ import annotations

import datetime as dt
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from ..._core.failure import sanitize
from ..._platform.clock import SYSTEM_CLOCK
from ..errors import CertificateRevokedError, RevocationUnknownError
from .chain import SKEW
from .issuers import DownloadFailed, add_bounded, cache_for, download, is_allowed_url
from .trust import CERTIFICATE_ERRORS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..._platform.clock import Clock
    from .issuers import Download

MAX_BYTES = 4 * 1024 * 1024
_MAX_URLS = 2  # of one certificate
_LIST_SECONDS = 3600.0
_FAILURE_SECONDS = 300.0
_MAX_CACHED = 16


class RevocationCache:
    """Downloads revocation lists; keeps valid ones for an hour, and failures for five minutes."""

    def __init__(self, download: Download, clock: Clock = SYSTEM_CLOCK) -> None:
        self._download = download
        self._clock = clock
        self._cached: dict[str, tuple[float, x509.CertificateRevocationList | str]] = {}

    def check(self, chain: Sequence[x509.Certificate]) -> None:
        """Raise unless current lists show that no certificate below the anchor is revoked."""
        for certificate, issuer in pairwise(chain):
            name = certificate.subject.rfc4514_string()
            entry = self._list_for(certificate, issuer).get_revoked_certificate_by_serial_number(
                certificate.serial_number
            )
            if entry is not None:
                raise CertificateRevokedError(
                    f"The certificate of {name} was revoked on {entry.revocation_date_utc}."
                )

    def _list_for(
        self, certificate: x509.Certificate, issuer: x509.Certificate
    ) -> x509.CertificateRevocationList:
        """Return a current list that covers ``certificate``, or raise RevocationUnknownError."""
        reason = "it names no revocation list at an allowed host"
        for url, point in _urls(certificate)[:_MAX_URLS]:
            found = self._cached_or_downloaded(url)
            if isinstance(found, str):
                reason = found
                continue
            reason = self._invalid(found, point, certificate, issuer)
            if not reason:
                return found
            self._cache(url, reason, _FAILURE_SECONDS)
        raise RevocationUnknownError(
            f"Whether the certificate of {certificate.subject.rfc4514_string()} is revoked is "
            f"unknown: {reason}."
        )

    def _cached_or_downloaded(self, url: str) -> x509.CertificateRevocationList | str:
        """Return the list at ``url``, or why there is none."""
        until, found = self._cached.get(url, (self._clock.now(), ""))
        if self._clock.now() < until:
            return found
        try:
            data = self._download(url)
            found = x509.load_der_x509_crl(data)
        except (DownloadFailed, *CERTIFICATE_ERRORS) as error:
            found = f"no revocation list from {url} ({sanitize(str(error))})"
        self._cache(url, found, _FAILURE_SECONDS if isinstance(found, str) else _LIST_SECONDS)
        return found

    def _cache(self, url: str, found: x509.CertificateRevocationList | str, seconds: float) -> None:
        add_bounded(self._cached, url, (self._clock.now() + seconds, found), _MAX_CACHED)

    def _invalid(
        self,
        found: x509.CertificateRevocationList,
        point: x509.DistributionPoint,
        certificate: x509.Certificate,
        issuer: x509.Certificate,
    ) -> str:
        """Return why a list is not valid for ``certificate``; empty if it is."""
        now = dt.datetime.fromtimestamp(self._clock.wall(), dt.timezone.utc)
        try:
            if found.issuer != issuer.subject or not _may_sign_lists(issuer):
                return "its revocation list has another issuer"
            if not found.is_signature_valid(issuer.public_key()):  # type: ignore[arg-type]
                return "the signature of its revocation list is not valid"
            if found.last_update_utc > now + SKEW:
                return f"its revocation list is valid from {found.last_update_utc} on"
            if found.next_update_utc is None or found.next_update_utc < now:
                return f"its revocation list expired on {found.next_update_utc}"
            if not _covers(found, point, certificate):
                return "its revocation list is for other certificates"
        except CERTIFICATE_ERRORS as error:
            return f"its revocation list is malformed ({sanitize(str(error))})"
        return ""


def _urls(certificate: x509.Certificate) -> list[tuple[str, x509.DistributionPoint]]:
    """Return the allowed URLs of complete revocation lists, and the point that each belongs to."""
    try:
        points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except (x509.ExtensionNotFound, *CERTIFICATE_ERRORS):
        return []
    return [
        (name.value, point)
        for point in points
        if not point.reasons and not point.crl_issuer
        for name in point.full_name or ()
        if isinstance(name, x509.UniformResourceIdentifier) and is_allowed_url(name.value)
    ]


def _may_sign_lists(issuer: x509.Certificate) -> bool:
    try:
        return issuer.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound:
        return True


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _covers(
    found: x509.CertificateRevocationList,
    point: x509.DistributionPoint,
    certificate: x509.Certificate,
) -> bool:
    """Return whether a list covers ``certificate``: Azure's lists are partitioned."""
    scope = None
    for extension in found.extensions:
        if extension.oid == ExtensionOID.ISSUING_DISTRIBUTION_POINT:
            scope = extension.value
        elif extension.critical:  # for example a delta list
            return False
    if not isinstance(scope, x509.IssuingDistributionPoint):
        return scope is None
    if scope.indirect_crl or scope.only_some_reasons or scope.only_contains_attribute_certs:
        return False
    is_authority = _is_authority(certificate)
    if scope.only_contains_user_certs if is_authority else scope.only_contains_ca_certs:
        return False
    if scope.full_name is None:
        return scope.relative_name is None
    return not set(scope.full_name).isdisjoint(point.full_name or ())


def revocation_cache(proxy: str | None) -> RevocationCache:
    """Return the cache of this process for downloads through ``proxy``."""
    get = partial(download, max_bytes=MAX_BYTES, proxy=proxy)
    return cache_for(proxy, _caches, lambda: RevocationCache(get))


_caches: dict[str | None, RevocationCache] = {}
