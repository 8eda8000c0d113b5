"""What the endpoint sends back, as App Service or IMDS would."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from .._core.claims import claims_in

if TYPE_CHECKING:
    from .._core.failure import Failure
    from .._core.identity import Identity
    from .._core.token import Token

_PATIENCE = 5
_THROTTLED = 429
_CODES = {400: "invalid_request", 500: "server_error", 503: "temporarily_unavailable"}


class Answer:
    """What is sent back. It is no tuple, because error trackers look into those.

    Attributes:
        status: the HTTP status.
        body: sent as JSON; it may hold a token.
        headers: header fields besides those that every answer has.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.status = status
        self.body = body
        self.headers = headers

    def __repr__(self) -> str:
        return f"Answer({self.status}, {len(self.body)} bytes)"


class Refusal(Exception):
    """The request is not granted; ``answer`` says why."""

    def __init__(self, status: int, problem: str, **headers: str) -> None:
        super().__init__(problem)
        named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
        self.answer = Answer(status, _error(status, problem), named)


class Wanted(NamedTuple):
    """A token that may be given.

    Attributes:
        resource: what it is for.
        identity: whose it is.
        imds: whether it is asked for as of IMDS.
    """

    resource: str
    identity: Identity
    imds: bool = False


def granted(wanted: Wanted, token: Token, now: float) -> Answer:
    """The answer with a token.

    Args:
        wanted: what was asked for.
        token: what there is.
        now: the time (``Clock.now``).
    """
    selector = dict(wanted.identity.query)
    client_id = claims_in(token.value).get("appid")
    said = {
        "access_token": token.value,
        # Strings, as the services have them: some clients take no numbers.
        "expires_on": str(token.expires_on),
        "expires_in": str(max(int(token.expires_at - now), 0)),
        "resource": wanted.resource,
        "token_type": token.token_type,
        "client_id": client_id if isinstance(client_id, str) else "",
        **selector,
    }
    if wanted.imds:
        said["ext_expires_in"] = said["expires_in"]
        said["not_before"] = str(int(token.expires_on - (token.expires_at - token.received_at)))
    return Answer(200, json.dumps(said).encode())


def failed(failure: Failure) -> Answer:
    """The answer where the machine's own service gives no token."""
    status = failure.status or 0
    if 400 <= status < 500 and status != _THROTTLED and failure.retry_after is None:
        return Answer(400, _error(400, str(failure)))
    return busy(str(failure), failure.retry_after)


def busy(problem: str, retry_after: float | None = None) -> Answer:
    """The answer where the request may well be made once more.

    Args:
        problem: what is the matter.
        retry_after: seconds after which.
    """
    seconds = max(math.ceil(retry_after or _PATIENCE), 1)
    return Answer(503, _error(503, problem), (("Retry-After", str(seconds)),))


def broken(what: str) -> Answer:
    """The answer where this very program is at fault.

    Args:
        what: the kind of error.
    """
    return Answer(500, _error(500, f"imds-identity met with an unexpected {what}."))


def _error(status: int, problem: str) -> bytes:
    said: dict[str, Any] = {
        "error": _CODES.get(status, "access_denied"),
        "error_description": problem,
        # As App Service has them.
        "statusCode": status,
        "message": problem,
    }
    return json.dumps(said).encode()
