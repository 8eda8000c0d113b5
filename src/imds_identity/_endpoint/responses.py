"""The endpoint's responses, in the format of App Service or IMDS."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, NamedTuple

from .._core.claims import claims_in

if TYPE_CHECKING:
    from .._core.failure import Failure
    from .._core.identity import Identity
    from .._core.token import Token

_DEFAULT_RETRY_AFTER = 5
_THROTTLED = 429
_CODES = {400: "invalid_request", 500: "server_error", 503: "temporarily_unavailable"}


class HttpResponse:
    """A response. It is not a tuple, because error trackers print the items of tuples."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.status = status
        self.body = body
        self.headers = headers

    def __repr__(self) -> str:
        return f"HttpResponse({self.status}, {len(self.body)} bytes)"


class Refusal(Exception):
    """The endpoint refuses a request; ``response`` gives the reason."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
        self.response = HttpResponse(status, _error_body(status, message), named)


class GrantedRequest(NamedTuple):
    """A granted token request; ``imds`` selects IMDS's response format, not App Service's."""

    resource: str
    identity: Identity
    imds: bool = False


def token_response(granted: GrantedRequest, token: Token, now: float) -> HttpResponse:
    """Return the response with a token; ``now`` is ``Clock.now``."""
    client_id = claims_in(token.value).get("appid")
    fields = {
        "access_token": token.value,
        # Strings, as the services send them: some clients do not accept numbers.
        "expires_on": str(token.expires_on),
        "expires_in": str(max(int(token.expires_at - now), 0)),
        "resource": granted.resource,
        "token_type": token.token_type,
        "client_id": client_id if isinstance(client_id, str) else "",
        **dict(granted.identity.query),
    }
    if granted.imds:
        fields["ext_expires_in"] = fields["expires_in"]
        fields["not_before"] = str(int(token.expires_on - (token.expires_at - token.received_at)))
    return HttpResponse(200, json.dumps(fields).encode())


def failure_response(failure: Failure) -> HttpResponse:
    """Return the response for a failure to get a token from the metadata service."""
    status = failure.status or 0
    if 400 <= status < 500 and status != _THROTTLED and failure.retry_after is None:
        return HttpResponse(400, _error_body(400, str(failure)))
    return busy_response(str(failure), failure.retry_after)


def busy_response(message: str, retry_after: float | None = None) -> HttpResponse:
    """Return a response with which the client retries after ``retry_after`` seconds."""
    seconds = max(math.ceil(retry_after or _DEFAULT_RETRY_AFTER), 1)
    return HttpResponse(503, _error_body(503, message), (("Retry-After", str(seconds)),))


def internal_error_response(error: Exception) -> HttpResponse:
    """Return the response for a bug of this program. Only the error's class is safe to show."""
    message = f"imds-identity failed with an unexpected {type(error).__name__}."
    return HttpResponse(500, _error_body(500, message))


def _error_body(status: int, message: str) -> bytes:
    fields = {
        "error": _CODES.get(status, "access_denied"),
        "error_description": message,
        # App Service's names.
        "statusCode": status,
        "message": message,
    }
    return json.dumps(fields).encode()
