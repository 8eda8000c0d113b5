"""Exceptions of instance metadata, scheduled events, and attested documents.

azure.core.exceptions.AzureError
└── MetadataError                           any of the below
    ├── MetadataUnavailableError            no Instance Metadata Service is available here
    │   └── UnsupportedOnHostError          this kind of host does not have the category
    ├── MetadataNotFoundError               the service has no element with that name
    ├── UnsupportedVersionError             the service does not support the API version
    ├── MetadataRefusedError                the service refused the request
    ├── MalformedMetadataError              the response is not a document of the category
    └── AttestedDocumentError               a document failed verification
        ├── MalformedDocumentError          not a signed document, or its content is malformed
        ├── SignerNotFoundError             it must contain exactly one signer's certificate
        ├── WrongSignatureError             the signature does not match the content
        ├── WrongSignerError                the signer is not an Azure metadata service
        │   └── WrongCloudError             the signer belongs to another cloud than expected
        ├── UntrustedSignerError            the certificate chain of the signer is not valid
        │   ├── MissingIntermediateError    an intermediate certificate is missing
        │   └── UnknownRootError            the chain ends at a root that is not trusted
        ├── DocumentExpiredError            the document has expired
        │   └── CertificateExpiredError     a certificate of its chain has expired
        ├── NotYetValidError                the document, or a certificate, is not valid yet
        └── WrongNonceError                 the document was created for another request
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError

from .._core.failure import ErrorDetails, Malformed, Unavailable, error_details
from ._requests.failures import ElementNotFound, UnsupportedOnHost, UnsupportedVersion

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
    "NotYetValidError",
    "SignerNotFoundError",
    "UnknownRootError",
    "UnsupportedOnHostError",
    "UnsupportedVersionError",
    "UntrustedSignerError",
    "WrongCloudError",
    "WrongNonceError",
    "WrongSignatureError",
    "WrongSignerError",
]


class MetadataError(ErrorDetails, AzureError):
    """A request to the metadata service failed, or a document cannot be trusted.

    Attributes:
        message: what failed, and what to do about it.
        status_code: the HTTP status of the last response; None if there was none.
        attempts: the number of requests that were sent.
        seconds: the seconds that they took, pauses included.
        retry_after: seconds of the last Retry-After header, or None.
        reason_code: the cause of the failure in a word that does not change between versions.
    """

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuilt, (type(self), str(self.message), self._facts())


class MetadataUnavailableError(MetadataError):
    """No Instance Metadata Service is available here."""


class UnsupportedOnHostError(MetadataUnavailableError):
    """This kind of host, or the service in this region, does not have the requested category."""


class MetadataNotFoundError(MetadataError):
    """The service has no element with that name."""


class UnsupportedVersionError(MetadataError):
    """The service does not support the requested API version."""


class MetadataRefusedError(MetadataError):
    """The service refused the request."""


class MalformedMetadataError(MetadataError):
    """The response is not a document of the requested category."""


class AttestedDocumentError(MetadataError):
    """An attested document failed verification: trust nothing in it."""


class MalformedDocumentError(AttestedDocumentError):
    """The document is not signed data in Azure's form, or its content is malformed."""


class SignerNotFoundError(AttestedDocumentError):
    """The document does not contain exactly one certificate of its signer."""


class WrongSignatureError(AttestedDocumentError):
    """The signature does not match the content and the signer's key."""


class WrongSignerError(AttestedDocumentError):
    """The signer's certificate does not name an Azure metadata service."""


class WrongCloudError(WrongSignerError):
    """The signer is the metadata service of another cloud than expected."""


class UntrustedSignerError(AttestedDocumentError):
    """The certificate chain from the signer to a trusted root is not valid."""


class MissingIntermediateError(UntrustedSignerError):
    """An intermediate certificate between the signer and a trusted root is missing."""


class UnknownRootError(UntrustedSignerError):
    """The chain ends at a root that is not trusted."""


class DocumentExpiredError(AttestedDocumentError):
    """The document had expired at the time of verification."""


class CertificateExpiredError(DocumentExpiredError):
    """A certificate of the document's chain had expired at the time of verification."""


class NotYetValidError(AttestedDocumentError):
    """The document, or a certificate of its chain, was not valid yet."""


class WrongNonceError(AttestedDocumentError):
    """The document was created for another request."""


_CLASSES: dict[type[Failure], type[MetadataError]] = {
    UnsupportedOnHost: UnsupportedOnHostError,
    ElementNotFound: MetadataNotFoundError,
    UnsupportedVersion: UnsupportedVersionError,
    Unavailable: MetadataUnavailableError,
    Malformed: MalformedMetadataError,
}


def error_from(failure: Failure) -> MetadataError:
    """Return the public exception for a failure."""
    return error_details(_CLASSES.get(type(failure), MetadataRefusedError), failure)


def is_transient(error: MetadataError) -> bool:
    """Return whether a later request may succeed: the service may be starting or failing."""
    if isinstance(error, UnsupportedOnHostError | UnsupportedVersionError):
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
