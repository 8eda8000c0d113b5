"""What users catch.

    azure.core.exceptions.ClientAuthenticationError
    └── ManagedIdentityError              any of the below
        ├── CredentialUnavailableError    no managed identity here; another credential may do
        ├── TokenRefusedError             the service answered, and would not give a token
        ├── MalformedAnswerError          the service answered with no token, or another than asked
        └── ArcSecretError                Azure Arc's challenge could not be met

Where `azure.identity` is loaded, a `CredentialUnavailableError` of this module is one of its own,
too, so that `ChainedTokenCredential` goes on to its next link.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

from azure.core.exceptions import ClientAuthenticationError

from ._core.failure import (
    ErrorDetails,
    Failure,
    Malformed,
    Refused,
    SecretUnreadable,
    Unavailable,
    error_details,
)

__all__ = [
    "ArcSecretError",
    "CredentialUnavailableError",
    "MalformedAnswerError",
    "ManagedIdentityError",
    "TokenRefusedError",
]


class ManagedIdentityError(ErrorDetails, ClientAuthenticationError):
    """A managed identity's token could not be had.

    Attributes:
        message: what failed, what was requested, the number and duration of attempts, and what to
            do about it.
        reason_code: the cause, for programs: a short constant such as ``unreachable``,
            ``identity-not-found``, or ``throttled``. Messages may change; these values do not.
        status_code: the HTTP status of the last response, or None if there was no response.
        attempts: the number of requests that were sent.
        seconds: the duration of all attempts.
        retry_after: seconds to wait before the next request, if the service requires it, or None.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (_public(type(self)), str(self.message), self._facts())


class CredentialUnavailableError(ManagedIdentityError):
    """There is no managed identity to be had here; another kind of credential may do."""


class TokenRefusedError(ManagedIdentityError):
    """The service answered, and would not give a token."""


class MalformedAnswerError(ManagedIdentityError):
    """The service answered with something that is no token, or not the one that was asked for."""


class ArcSecretError(ManagedIdentityError):
    """Azure Arc's challenge could not be met.

    Its key file may not be read, or is none, or another user listens in the agent's place.
    """


_CLASSES: dict[type[Failure], type[ManagedIdentityError]] = {
    Unavailable: CredentialUnavailableError,
    Refused: TokenRefusedError,
    Malformed: MalformedAnswerError,
    SecretUnreadable: ArcSecretError,
}


def error_from(failure: Failure) -> ManagedIdentityError:
    """What users catch, for what the engine says."""
    return error_details(_chained(_CLASSES[type(failure)]), failure)


def _chained(cls: type[ManagedIdentityError]) -> type[ManagedIdentityError]:
    """``cls``, as a link of azure-identity's chains understands it."""
    azure_identity = sys.modules.get("azure.identity")
    theirs = getattr(azure_identity, "CredentialUnavailableError", None)
    if cls is not CredentialUnavailableError or theirs is None:
        return cls
    return _both(theirs)


@functools.cache
def _both(theirs: type[Exception]) -> type[CredentialUnavailableError]:
    return type(
        "CredentialUnavailableError", (CredentialUnavailableError, theirs), {"__module__": __name__}
    )


def _public(cls: type[ManagedIdentityError]) -> type[ManagedIdentityError]:
    return next(
        base for base in cls.__mro__ if base in _CLASSES.values() or base is ManagedIdentityError
    )


def _rebuilt(
    cls: type[ManagedIdentityError], message: str, facts: dict[str, Any]
) -> ManagedIdentityError:
    return _chained(cls)(message, **facts)
