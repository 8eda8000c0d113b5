"""What users of instance metadata, scheduled events and attested documents catch.

azure.core.exceptions.AzureError
└── MetadataError                           any of the below
    ├── MetadataUnavailableError            no Instance Metadata Service answers here
    │   └── NotOfferedError                 this kind of machine has no such category
    ├── MetadataNotFoundError               the service has no element of that name
    ├── UnsupportedVersionError             the service does not know that api-version
    ├── MetadataRefusedError                the service answered, and would not say
    ├── MalformedMetadataError              it answered with something that is none
    └── AttestedDocumentError               a document is not proven
        ├── MalformedDocumentError          it is no signed document, or its content is none
        ├── SignerNotFoundError             it does not hold exactly one signer's certificate
        ├── WrongSignatureError             the signature is not its signer's over its content
        ├── WrongSignerError                the signer is not Azure's metadata service
        │   └── WrongCloudError             it is that of another cloud than expected
        ├── UntrustedSignerError            the signer's chain is broken
        │   ├── MissingIntermediateError    a certificate between signer and root is missing
        │   └── UnknownRootError            the chain ends at a root that is not trusted
        ├── DocumentExpiredError            the document was for an earlier time
        │   └── CertificateExpiredError     a certificate of its chain was
        ├── NotYetValidError                the document, or a certificate, is for a later time
        └── WrongNonceError                 the document answers another request
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError

from .._core.failure import ErrorDetails, Malformed, Unavailable, error_details
from ._requests.failures import NotFound, NotOffered, UnknownVersion

if TYPE_CHECKING:
    from .._core.failure import Failure

__all__ = [
    "AttestedDocumentError",
    "CertificateExpiredError",
    "DocumentExpiredError",
    "MalformedDocumentError",
    "MalformedMetadataError",
    "MetadataError",
    "MetadataNotFoundError",
    "MetadataRefusedError",
    "MetadataUnavailableError",
    "MissingIntermediateError",
    "NotOfferedError",
    "NotYetValidError",
    "SignerNotFoundError",
    "UnknownRootError",
    "UnsupportedVersionError",
    "UntrustedSignerError",
    "WrongCloudError",
    "WrongNonceError",
    "WrongSignatureError",
    "WrongSignerError",
]


class MetadataError(ErrorDetails, AzureError):
    """Something of the metadata service could not be had, or not be believed.

    Attributes:
        message: what went wrong, and what to do about it.
        status_code: the HTTP status that the service answered last, or None if it answered none.
        attempts: how many requests were sent.
        seconds: how long it was tried.
        retry_after: seconds for which the service asked to be left alone, or None.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), str(self.message), self._facts())


class MetadataUnavailableError(MetadataError):
    """No Instance Metadata Service answers here."""


class NotOfferedError(MetadataUnavailableError):
    """This kind of machine, or this region's service, does not have what was asked for."""


class MetadataNotFoundError(MetadataError):
    """The service has no element of that name."""


class UnsupportedVersionError(MetadataError):
    """The service does not know the api-version that was asked for."""


class MetadataRefusedError(MetadataError):
    """The service answered, and would not say."""


class MalformedMetadataError(MetadataError):
    """What the service said is not what this category says."""


class AttestedDocumentError(MetadataError):
    """An attested document is not proven, so nothing in it may be believed."""


class MalformedDocumentError(AttestedDocumentError):
    """This is no signed document as Azure writes them, or its content is none."""


class SignerNotFoundError(AttestedDocumentError):
    """The document does not hold the certificate of exactly one signer."""


class WrongSignatureError(AttestedDocumentError):
    """The signature is not the signer's over this content."""


class WrongSignerError(AttestedDocumentError):
    """The signer's certificate does not name a metadata service of Azure."""


class WrongCloudError(WrongSignerError):
    """The signer is the metadata service of another cloud than the one expected."""


class UntrustedSignerError(AttestedDocumentError):
    """The chain from the signer's certificate to a trusted root is broken."""


class MissingIntermediateError(UntrustedSignerError):
    """A certificate between the signer's and a trusted root is not at hand."""


class UnknownRootError(UntrustedSignerError):
    """The chain ends at a root that is not trusted."""


class DocumentExpiredError(AttestedDocumentError):
    """The document was good until an earlier time."""


class CertificateExpiredError(DocumentExpiredError):
    """A certificate of the document's chain was good until an earlier time."""


class NotYetValidError(AttestedDocumentError):
    """The document, or a certificate of its chain, is good from a later time on."""


class WrongNonceError(AttestedDocumentError):
    """The document answers another request than this one."""


_CLASSES: dict[type[Failure], type[MetadataError]] = {
    NotOffered: NotOfferedError,
    NotFound: MetadataNotFoundError,
    UnknownVersion: UnsupportedVersionError,
    Unavailable: MetadataUnavailableError,
    Malformed: MalformedMetadataError,
}


def error_from(failure: Failure) -> MetadataError:
    """What users catch, for what an exchange says."""
    return error_details(_CLASSES.get(type(failure), MetadataRefusedError), failure)


def may_pass(error: MetadataError) -> bool:
    """Whether asking again later may help: a service can be slow to start, updated or ill."""
    if isinstance(error, NotOfferedError | UnsupportedVersionError):
        return False
    status = error.status_code
    return (
        status is None
        or status in (200, 404, 410, 429)
        or status >= 500
        or isinstance(error, MetadataUnavailableError)
    )


def _rebuilt(cls: type[MetadataError], message: str, facts: dict[str, Any]) -> MetadataError:
    return cls(message, **facts)
