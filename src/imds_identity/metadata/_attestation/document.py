"""Attested documents: a machine's proof, signed by Azure, of which machine it is.

https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service#attested-data
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from ..._core.failure import Failure, sanitize
from ..._platform.clock import SYSTEM_CLOCK
from .._models.compute import Plan
from .._models.node import as_text
from .._models.parsing import from_json
from ..clouds import CLOUDS, Cloud, cloud_named, is_stack_hub
from ..errors import (
    DocumentExpiredError,
    MalformedDocumentError,
    NotOfferedError,
    NotYetValidError,
    WrongCloudError,
    WrongNonceError,
    WrongSignerError,
)
from . import aia, trust
from .chain import SKEW, Certificates, check_chain
from .signed_data import content_of, open_signed

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from .trust import Given

_MOMENT = re.compile(r"(\d\d)/(\d\d)/(\d\d) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestedDocument:
    """What Azure has signed about a machine.

    Attributes:
        vm_id: the machine's unique id.
        subscription_id: its subscription; None before 2019-04-30.
        nonce: what the request for the document gave, or the time where it gave none.
        created_on: when it was signed.
        expires_on: until when it is good, six hours later.
        sku: the SKU of its image; None if it has none, or before 2019-11-01.
        license_type: its Azure Hybrid Benefit; None if it has none, or before 2020-09-01.
        plan: the plan of its Marketplace image; empty, and so false, if it has none.
        cloud: whose metadata service has signed it; None if that was not verified.
        raw: what was signed, as JSON.
    """

    vm_id: str
    subscription_id: str | None
    nonce: str | None
    created_on: dt.datetime
    expires_on: dt.datetime
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
    intermediates: Iterable[Given] = (),
    cloud: Cloud | str | None = None,
    offline: bool = False,
) -> AttestedDocument:
    """Verify an attested document that a machine has sent.

    It is verified that Azure's metadata service has signed it, for this request, for this time.
    Who sent it is not: a document can be passed on. A nonce that is used once, and the machine's
    ``vm_id`` looked up in Azure, are what keeps a stolen one from being used.

    Args:
        signature: the answer's ``signature``, base64.
        nonce: what the machine was told to ask with; None to take any.
        at: the time to verify for, a datetime (UTC if it names no zone) or seconds since 1970;
            now by default.
        ca_file: a file of certificates in PEM or DER to trust instead of the usual roots, each as
            it is, self-signed or not.
        intermediates: more certificates to build the chain of, each a certificate, PEM or DER.
        cloud: the only cloud to accept, as `Cloud` or ``azEnvironment``; any of Azure's by default.
        offline: whether to go without asking Microsoft and DigiCert for missing intermediates.

    Returns:
        What was signed.

    Raises:
        AttestedDocumentError: of the kind that says what is wrong with it.
        ValueError: if an argument is wrong.
        OSError: if ``ca_file`` cannot be read.
    """
    if nonce is not None and not isinstance(nonce, str):
        raise ValueError(f"nonce must be text, or None to take any, not {nonce!r}")
    moment, wanted = _moment(at), _wanted(cloud)
    known = _certificates(ca_file, intermediates, offline=offline)
    opened = open_signed(signature)
    document = _document(opened.content, _cloud_of(_names(opened.signer), wanted))
    _check_times(document, moment)
    check_chain(
        opened.signer,
        moment,
        known._replace(intermediates=(*known.intermediates, *opened.others)),
    )
    if nonce is not None and document.nonce != nonce:
        raise WrongNonceError(
            f"The document answers the nonce {sanitize(str(document.nonce))!r}, not "
            f"{sanitize(nonce)!r}: it was made for another request."
        )
    return document


def read_attested_document_without_verifying(signature: str | bytes) -> AttestedDocument:
    """Read a document that anybody may have written. Believe nothing that it says.

    Args:
        signature: the answer's ``signature``, base64.

    Raises:
        AttestedDocumentError: if it cannot be read.
    """
    return _document(content_of(signature), None)


def _certificates(
    ca_file: str | os.PathLike[str] | None, intermediates: Iterable[Given], *, offline: bool
) -> Certificates:
    if isinstance(intermediates, str | bytes | x509.Certificate):
        intermediates = (intermediates,)
    given = [found for each in intermediates for found in trust.certificates(each)]
    return Certificates(
        anchors=trust.roots() if ca_file is None else trust.anchors_in(ca_file),
        intermediates=(*trust.intermediates(), *given),
        fetched=(lambda _: ()) if offline else aia.ISSUERS.trip(),
    )


def _moment(at: dt.datetime | float | None) -> dt.datetime:
    if isinstance(at, dt.datetime):
        return at.replace(tzinfo=dt.timezone.utc) if at.tzinfo is None else at
    seconds = SYSTEM_CLOCK.wall() if at is None else at
    try:
        return dt.datetime.fromtimestamp(seconds, dt.timezone.utc)
    except (TypeError, ValueError, OverflowError, OSError):
        raise ValueError(f"at must be a datetime or seconds since 1970, not {at!r}") from None


def _wanted(cloud: Cloud | str | None) -> tuple[Cloud, ...]:
    if cloud is None:
        return CLOUDS
    if not isinstance(cloud, str | Cloud):
        raise ValueError(f"cloud must be a Cloud or its azEnvironment, not {cloud!r}")  # noqa: TRY004
    name = cloud if isinstance(cloud, str) else cloud.name
    if is_stack_hub(name):
        raise NotOfferedError("Attested documents are not available on Azure Stack Hub.")
    return (cloud_named(cloud) if isinstance(cloud, str) else cloud,)


def _names(signer: x509.Certificate) -> list[str]:
    """The host names of a certificate; its common name counts only where it lists none."""
    try:
        listed = signer.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return [str(name).lower() for name in listed.get_values_for_type(x509.DNSName)]
    except x509.ExtensionNotFound:
        named = signer.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return [str(name.value).lower() for name in named]


def _cloud_of(names: list[str], wanted: tuple[Cloud, ...]) -> Cloud:
    for cloud in wanted:
        if any(_names_service_of(name, cloud) for name in names):
            return cloud
    shown = sanitize(", ".join(names)) or "nobody"
    other = [each for each in CLOUDS if any(_names_service_of(name, each) for name in names)]
    if other:
        raise WrongCloudError(
            f"The signer is {shown}, the metadata service of {other[0].name}, not of "
            f"{wanted[0].name}."
        )
    raise WrongSignerError(f"The signer's certificate names {shown}, no metadata service of Azure.")


def _names_service_of(name: str, cloud: Cloud) -> bool:
    domain = cloud.attestation_domain
    return domain is not None and (name == domain or name.endswith(f".{domain}"))


def _document(content: bytes, cloud: Cloud | None) -> AttestedDocument:
    try:
        said = from_json(content)
        if not isinstance(said, dict) or not isinstance(said.get("timeStamp"), dict):
            raise MalformedDocumentError("The signed content is no JSON object with a timeStamp.")
        plan = Plan.parse(said.get("plan"), "plan")
    except Failure as failure:
        raise MalformedDocumentError(f"The signed content is none: {failure}") from None
    vm_id = as_text(said.get("vmId"))
    if vm_id is None:
        raise MalformedDocumentError("The signed content has no vmId.")
    return AttestedDocument(
        vm_id=vm_id,
        subscription_id=as_text(said.get("subscriptionId")),
        nonce=as_text(said.get("nonce")),
        created_on=_time(said["timeStamp"].get("createdOn")),
        expires_on=_time(said["timeStamp"].get("expiresOn")),
        sku=as_text(said.get("sku")),
        license_type=as_text(said.get("licenseType")),
        plan=plan,
        cloud=cloud,
        raw=said,
    )


def _time(written: object) -> dt.datetime:
    match = _MOMENT.fullmatch(written) if isinstance(written, str) else None
    if match is None:
        raise MalformedDocumentError("The signed content has a timeStamp that is no time.")
    month, day, year, hour, minute, second = (int(match[i]) for i in range(1, 7))
    offset = dt.timedelta(hours=int(match[8]), minutes=int(match[9]))
    try:
        zone = dt.timezone(-offset if match[7] == "-" else offset)
        return dt.datetime(2000 + year, month, day, hour, minute, second, tzinfo=zone)
    except ValueError:
        raise MalformedDocumentError(
            "The signed content has a timeStamp that is no time."
        ) from None


def _check_times(document: AttestedDocument, at: dt.datetime) -> None:
    if at > document.expires_on + SKEW:
        raise DocumentExpiredError(
            f"The document expired on {document.expires_on}; it was verified for {at}."
        )
    if at < document.created_on - SKEW:
        raise NotYetValidError(
            f"The document was signed on {document.created_on}; it was verified for {at}."
        )
