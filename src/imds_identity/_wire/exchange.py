"""The steps that an exchange yields, what it is sent back, and what may be thrown into it.

An exchange is a generator that does no I/O and reads no clock: it yields what it wants done and
gets the outcome. `drive` runs one; a test steps it by hand.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple, TypeAlias, TypeVar

from .._core.failure import quote

T = TypeVar("T")
Random: TypeAlias = Callable[[], float]
"""Gives a number in [0, 1), as ``random.random`` does."""

REQUEST_SECONDS = 12.0
"""Seconds for one whole request, from looking up the name to the last byte of the answer."""


class Request:
    """One HTTP request. Its repr shows the names of the headers only: one may carry Arc's secret.

    It is no tuple, because error trackers that show the locals of a failed frame look into tuples
    and not into objects.

    Attributes:
        url: where to.
        headers: header fields.
        method: the HTTP method.
        body: the body to send with it, if there is one.
        seconds: the whole request's deadline; past it the attempt counts as `Dropped`.
    """

    __slots__ = ("body", "headers", "method", "seconds", "url")

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        method: str = "GET",
        body: bytes | None = None,
        seconds: float = REQUEST_SECONDS,
    ) -> None:
        self.url = url
        self.headers = headers
        self.method = method
        self.body = body
        self.seconds = seconds

    def __repr__(self) -> str:
        return f"Request({self.method} {self.url!r}, headers={sorted(self.headers)})"


class Response(NamedTuple):
    """An answer, when it was asked for and when it came. Its repr hides the body, a token maybe.

    Attributes:
        status: the HTTP status.
        headers: header fields by lower-case name.
        body: the whole body, bounded by who received it.
        sent_at: ``Clock.now()`` just before the request was sent.
        received_at: ``Clock.now()`` when the answer had been received.
        received_wall: ``Clock.wall()`` at that same moment.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    sent_at: float
    received_at: float
    received_wall: float

    def __repr__(self) -> str:
        return f"Response({self.status}, {len(self.body)} bytes)"

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ValueError: if it is none.
        """
        return json.loads(self.body)

    @property
    def words(self) -> str:
        """What the service says of an error, fit for a message. Not for a 200: that is a token."""
        text = self.body.decode("utf-8", "replace")
        try:
            said = self.json()
            parts = [said[name] for name in ("error", "error_description") if said.get(name)]
        except (ValueError, AttributeError):
            parts = []
        return quote(": ".join(map(str, parts)) or text) or "nothing"


class Send(NamedTuple):
    """Send this and give me the `Response`; throw a `TransportError` if there is none."""

    request: Request


class Pause(NamedTuple):
    """Wait this many seconds."""

    seconds: float


class ReadSecret(NamedTuple):
    """Give me the content of the key file that Arc's challenge named."""

    path: str


class TransportError(Exception):
    """No answer. ``seconds`` is how long it took to find out."""

    seconds = 0.0


class Unreached(TransportError):
    """No connection: refused, unreachable, or connecting took too long."""


class Dropped(TransportError):
    """A connection, but no complete answer: reset, closed early, or too slow."""


Step: TypeAlias = Send | Pause | ReadSecret
Steps: TypeAlias = Generator[Step, Any, T]


def send(request: Request) -> Steps[Response]:
    """One request, one answer."""
    response: Response = yield Send(request)
    return response


def pause(seconds: float) -> Steps[None]:
    """Wait."""
    yield Pause(seconds)


def read_secret(path: str) -> Steps[str]:
    """The content of Arc's key file."""
    secret: str = yield ReadSecret(path)
    return secret


def url_with(endpoint: str, query: Mapping[str, str]) -> str:
    """``endpoint`` with ``query``, each value percent-encoded."""
    from urllib.parse import quote as percent_encode

    pairs = (f"{name}={percent_encode(value, safe='')}" for name, value in query.items())
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{'&'.join(pairs)}"
