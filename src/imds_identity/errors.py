"""The public exceptions.

    azure.core.exceptions.ClientAuthenticationError
    └── ManagedIdentityError              any of the errors below
        ├── CredentialUnavailableError    no managed identity is available
        ├── TokenRefusedError             the service exists but issued no token
        ├── MalformedAnswerError          the response was not a token, or not the requested one
        └── ArcSecretError                Azure Arc's challenge failed

If `azure.identity` is imported, a `CredentialUnavailableError` of this module is also an instance
of azure-identity's class, so that `ChainedTokenCredential` tries its next credential.
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
    """The base class: no token of the managed identity is available.

    Attributes:
        message: what failed, what was requested, the number and duration of attempts, and what to
            do about it.
        reason_code: the cause, for programs: a short constant such as ``unreachable``,
            ``identity-not-found``, or ``throttled``. Messages may change; these values do not.
        help_url: the section about this cause in the documentation: other texts of the error, the
            fix, and the doctor's check.
        status_code: the HTTP status of the last response, or None if there was no response.
        attempts: the number of requests that were sent.
        seconds: the duration of all attempts.
        retry_after: seconds to wait before the next request, if the service requires it, or None.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (_public(type(self)), str(self.message), self._facts())


class CredentialUnavailableError(ManagedIdentityError):
    """No managed identity is available here; another credential may work."""


class TokenRefusedError(ManagedIdentityError):
    """The service exists but issued no token: a chain must not continue with another credential.

    It refused the request, or did not respond although the environment names it.
    """


class MalformedAnswerError(ManagedIdentityError):
    """The response of the service was not a token, or not the requested token."""


class ArcSecretError(ManagedIdentityError):
    """Azure Arc's challenge failed.

    The key file cannot be read or is not valid, or a process of another user listens on the agent's
    port.
    """


_CLASSES: dict[type[Failure], type[ManagedIdentityError]] = {
    Unavailable: CredentialUnavailableError,
    Refused: TokenRefusedError,
    Malformed: MalformedAnswerError,
    SecretUnreadable: ArcSecretError,
}


def error_from(failure: Failure) -> ManagedIdentityError:
    """Return the public exception for ``failure``."""
    return error_details(_chained(_CLASSES[type(failure)]), failure)


def _chained(cls: type[ManagedIdentityError]) -> type[ManagedIdentityError]:
    """Return ``cls``, or a subclass that azure-identity's chains recognize."""
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
