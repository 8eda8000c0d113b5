"""Exceptions of instance metadata, scheduled events, and attested documents.

docs/metadata.md shows them as a tree.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError

from .._core.failure import ErrorDetails, Malformed, Unavailable, error_details
from ._requests.failures import ElementNotFound, UnsupportedOnHost, UnsupportedVersion

if TYPE_CHECKING:
    from .._core.failure import Failure


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

    _failure: Failure | None = None
    """For the command line, which prints its parts in separate lines; not pickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return partial(type(self), **self._facts()), (str(self.message),)


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
    """The signer is the metadata service of a different cloud."""


class UntrustedSignerError(AttestedDocumentError):
    """The certificate chain from the signer to a trusted root is not valid."""


class MissingIntermediateError(UntrustedSignerError):
    """An intermediate certificate between the signer and a trusted root is missing."""


class UnknownRootError(UntrustedSignerError):
    """The chain ends at a root that is not trusted."""


class CertificateRevokedError(UntrustedSignerError):
    """A certificate of the document's chain has been revoked."""


class RevocationUnknownError(UntrustedSignerError):
    """No current revocation list shows whether a certificate has been revoked."""


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
    error = error_details(_CLASSES.get(type(failure), MetadataRefusedError), failure)
    error._failure = failure.copy()
    return error


def is_transient(error: MetadataError) -> bool:
    """Return whether a later request may succeed: the service may be starting or failing."""
    if isinstance(error, UnsupportedOnHostError | UnsupportedVersionError):
        return False
    status = error.status_code
    if status is None or isinstance(error, MetadataUnavailableError):
        return True
    return status in (200, 404, 410, 429) or status >= 500
