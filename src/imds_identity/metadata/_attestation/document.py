"""Attested documents: proofs of a machine's identity that Azure signs.

https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service#attested-data
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography import x509

from ..._core.failure import Failure, sanitize
from ..._platform.clock import SYSTEM_CLOCK
from .._models.compute import Plan
from .._models.json_object import to_text
from .._models.parsing import from_json
from ..clouds import CLOUDS, GERMANY, Cloud, cloud_named, is_stack_hub
from ..errors import (
    DocumentExpiredError,
    MalformedDocumentError,
    NotYetValidError,
    UnsupportedOnHostError,
    WrongCloudError,
    WrongNonceError,
    WrongSignerError,
)
from . import issuers, trust
from .chain import SKEW, TrustMaterial, check_chain
from .revocation import revocation_cache
from .signed_data import open_signed_data, unverified_content

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    from .trust import CertificateInput

_TIME = re.compile(r"(\d\d)/(\d\d)/(\d\d) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestedDocument:
    """The content that Azure signed for a machine.

    Attributes:
        vm_id: the unique ID of the machine.
        subscription_id: its subscription; None before API version 2019-04-30.
        nonce: the nonce of the request, or the time if the request had none.
        created_on: the time of the signature; None in some documents of classic VMs.
        expires_on: the end of the validity, six hours later; None as above.
        sku: the SKU of the machine's image; None if there is none, or before 2019-11-01.
        license_type: its Azure Hybrid Benefit; None if there is none, or before 2020-09-01.
        plan: the plan of its Marketplace image; empty and therefore falsy if there is none.
        cloud: the cloud of the signer; None if the signer was not verified.
        raw: the signed content as JSON.
    """

    vm_id: str
    subscription_id: str | None
    nonce: str | None
    created_on: dt.datetime | None
    expires_on: dt.datetime | None
    sku: str | None
    license_type: str | None
    plan: Plan
    cloud: Cloud | None
    raw: Mapping[str, Any] = field(repr=False, hash=False)


def verify_attested_document(
    signature: str | bytes,
    *,
    nonce: str | None,
    at: dt.datetime | float | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    roots: Iterable[CertificateInput] = (),
    intermediates: Iterable[CertificateInput] = (),
    cloud: Cloud | str | None = None,
    offline: bool = False,
    check_revocation: bool = False,
    max_age: float | None = None,
    proxy: str | None = None,
) -> AttestedDocument:
    """Verify an attested document that a machine sent.

    The verification proves that Azure's metadata service signed the document, with this nonce and
    for this time. It does not prove who sent it, because a document can be passed on. To prevent
    the use of a stolen document, use each nonce once and look up its ``vm_id`` in Azure.

    Args:
        signature: the ``signature`` of the service's response, in base64.
        nonce: the nonce that the machine was given; None to accept any. A document without times,
            as classic VMs may have, requires a nonce.
        at: the time to verify for: a datetime, by default in UTC, or a Unix time; now by default.
        ca_file: a PEM or DER file of certificates to trust instead of the usual roots; they need
            not be self-signed.
        roots: certificates to trust in addition, each a certificate, PEM or DER.
        intermediates: more certificates for the chain, in the same forms.
        cloud: the only cloud to accept, as `Cloud` or ``azEnvironment``; by default any of
            `CLOUDS`, so not the German cloud, which has been closed.
        offline: whether not to download missing intermediates from Microsoft and DigiCert.
        check_revocation: whether to download the revocation lists that the certificates name, from
            the same hosts, and refuse the document unless they show that no certificate of the
            chain has been revoked by now. Off by default: a revoked certificate is accepted.
        max_age: the maximum number of seconds since the document was signed; by default the six
            hours of its validity. A document without times is refused.
        proxy: the URL of an http proxy for the downloads, such as ``http://proxy:3128``. The
            environment's proxies are not used.

    Returns:
        The verified content.

    Raises:
        AttestedDocumentError: if the verification fails; its class states the reason.
        ValueError: if an argument is invalid.
        OSError: if ``ca_file`` cannot be read.
    """
    if nonce is not None and not isinstance(nonce, str):
        raise ValueError(f"nonce must be a string, or None to accept any, not {nonce!r}")
    if check_revocation and offline:
        raise ValueError("check_revocation=True requires downloads: omit offline=True")
    if max_age is not None and not max_age > 0:
        raise ValueError(f"max_age must be a positive number of seconds, not {max_age!r}")
    moment, clouds = _to_datetime(at), _accepted_clouds(cloud)
    issuer_cache = issuers.issuer_cache(issuers.validated_proxy(proxy))
    fetch_issuers = (lambda _: ()) if offline else issuer_cache.fetcher()
    material = _trust_material(ca_file, roots, intermediates, fetch_issuers)
    signed = open_signed_data(signature)
    signer_cloud, host = _cloud_and_host(_host_names(signed.signer), clouds)
    document = _document(signed.content, signer_cloud)
    _check_times(document, moment, nonce, max_age)
    # The document's own come first, so that the chain consists of them if possible.
    material = material._replace(intermediates=(*signed.others, *material.intermediates))
    chain = check_chain(signed.signer, host, moment, material)
    if len(set(signed.others)) < len(signed.others) or not set(signed.others) <= set(chain):
        raise MalformedDocumentError("The document contains a certificate outside its chain.")
    issuer_cache.keep(chain)
    if nonce is not None and document.nonce != nonce:
        raise WrongNonceError(
            f"The document has the nonce {sanitize(str(document.nonce))!r}, not "
            f"{sanitize(nonce)!r}: it was created for another request."
        )
    if check_revocation:
        revocation_cache(proxy).check(chain)
    return document


def read_attested_document_without_verifying(signature: str | bytes) -> AttestedDocument:
    """Parse a document without verifying it. Trust nothing in it: anyone may have written it.

    Args:
        signature: the ``signature`` of the service's response, in base64.

    Returns:
        The content; its ``cloud`` is None.

    Raises:
        AttestedDocumentError: if it is malformed.
    """
    return _document(unverified_content(signature), None)


def _trust_material(
    ca_file: str | os.PathLike[str] | None,
    roots: Iterable[CertificateInput],
    intermediates: Iterable[CertificateInput],
    fetch_issuers: Callable[[x509.Certificate], Iterable[x509.Certificate]],
) -> TrustMaterial:
    usual = trust.roots() if ca_file is None else trust.load_anchors(ca_file)
    return TrustMaterial(
        anchors=tuple(dict.fromkeys((*usual, *_certificates(roots)))),
        intermediates=(*trust.intermediates(), *_certificates(intermediates)),
        fetch_issuers=fetch_issuers,
    )


def _certificates(given: Iterable[CertificateInput]) -> list[x509.Certificate]:
    if isinstance(given, str | bytes | x509.Certificate):
        given = (given,)
    return [found for each in given for found in trust.certificates_from(each)]


def _to_datetime(at: dt.datetime | float | None) -> dt.datetime:
    if isinstance(at, dt.datetime):
        return at.replace(tzinfo=dt.timezone.utc) if at.tzinfo is None else at
    seconds = SYSTEM_CLOCK.wall() if at is None else at
    try:
        return dt.datetime.fromtimestamp(seconds, dt.timezone.utc)
    except (TypeError, ValueError, OverflowError, OSError):
        raise ValueError(f"at must be a datetime or seconds since 1970, not {at!r}") from None


def _accepted_clouds(cloud: Cloud | str | None) -> tuple[Cloud, ...]:
    if cloud is None:
        return CLOUDS
    if not isinstance(cloud, str | Cloud):
        raise ValueError(f"cloud must be a Cloud or its azEnvironment, not {cloud!r}")  # noqa: TRY004
    name = cloud if isinstance(cloud, str) else cloud.name
    if is_stack_hub(name):
        raise UnsupportedOnHostError("Attested documents are not available on Azure Stack Hub.")
    return (cloud_named(cloud) if isinstance(cloud, str) else cloud,)


def _host_names(signer: x509.Certificate) -> list[str]:
    try:
        names = signer.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name).lower() for name in names.get_values_for_type(x509.DNSName)]


def _cloud_and_host(names: list[str], clouds: tuple[Cloud, ...]) -> tuple[Cloud, str]:
    """Return the cloud of the signer, and the host name that identifies it."""
    if found := _first_match(names, clouds):
        return found
    shown = sanitize(", ".join(names)) or "no host"
    if other := _first_match(names, (*CLOUDS, GERMANY)):
        accepted = " or ".join(cloud.name for cloud in clouds)
        raise WrongCloudError(
            f"The signer is {shown}, the metadata service of {other[0].name}, not of {accepted}."
        )
    raise WrongSignerError(
        f"The signer's certificate names {shown}, which is not an Azure metadata service."
    )


def _first_match(names: list[str], clouds: tuple[Cloud, ...]) -> tuple[Cloud, str] | None:
    for cloud in clouds:
        for name in names:
            if cloud.attestation_domain and issuers.is_in_domain(name, cloud.attestation_domain):
                return cloud, name
    return None


def _document(content: bytes, cloud: Cloud | None) -> AttestedDocument:
    try:
        raw = from_json(content)
        times = raw.get("timeStamp") or {} if isinstance(raw, dict) else None
        if not isinstance(raw, dict) or not isinstance(times, dict):
            raise MalformedDocumentError("The signed content is not a JSON object of this kind.")
        plan = Plan.parse(raw.get("plan"), "plan")
    except Failure as failure:
        raise MalformedDocumentError(f"The signed content is malformed: {failure}") from None
    if (vm_id := to_text(raw.get("vmId"))) is None:
        raise MalformedDocumentError("The signed content has no vmId.")
    return AttestedDocument(
        vm_id=vm_id,
        subscription_id=to_text(raw.get("subscriptionId")),
        nonce=to_text(raw.get("nonce")),
        created_on=_parse_time(times.get("createdOn")) if any(times.values()) else None,
        expires_on=_parse_time(times.get("expiresOn")) if any(times.values()) else None,
        sku=to_text(raw.get("sku")),
        license_type=to_text(raw.get("licenseType")),
        plan=plan,
        cloud=cloud,
        raw=raw,
    )


def _parse_time(text: object) -> dt.datetime:
    match = _TIME.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise MalformedDocumentError("The signed content has an invalid timeStamp.")
    month, day, year, hour, minute, second = (int(match[i]) for i in range(1, 7))
    offset = dt.timedelta(hours=int(match[8]), minutes=int(match[9]))
    try:
        zone = dt.timezone(-offset if match[7] == "-" else offset)
        return dt.datetime(2000 + year, month, day, hour, minute, second, tzinfo=zone)
    except ValueError:
        raise MalformedDocumentError("The signed content has an invalid timeStamp.") from None


def _check_times(
    document: AttestedDocument, at: dt.datetime, nonce: str | None, max_age: float | None
) -> None:
    if document.created_on is None or document.expires_on is None:
        # Only vmId is certain for a classic VM. Without times, only a nonce shows that it is new.
        if nonce is None or max_age is not None:
            raise MalformedDocumentError(
                "The signed content has no timeStamp, so it may be old: verify it with a nonce and "
                "without a maximum age."
            )
        return
    if at > document.expires_on + SKEW:
        raise DocumentExpiredError(
            f"The document expired on {document.expires_on}; it was verified for {at}."
        )
    if at < document.created_on - SKEW:
        raise NotYetValidError(
            f"The document was signed on {document.created_on}; it was verified for {at}."
        )
    if max_age is not None and (age := (at - document.created_on).total_seconds()) > max_age:
        raise DocumentExpiredError(
            f"The document was signed {age:.0f} s ago, on {document.created_on}; its maximum age "
            f"is {max_age:g} s."
        )
