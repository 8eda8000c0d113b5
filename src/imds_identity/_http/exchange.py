"""The steps that an exchange yields, what it is sent back, and what may be thrown into it.

An exchange is a generator that does no I/O and reads no clock: it yields what it wants done and
gets the outcome. A `ExchangeRunner` runs one; a test steps it by hand.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Generator, Mapping

from .._core.failure import sanitize
from .._core.token_response import Fields
from .._platform.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias, TypeVar

    from .._core.secret import Secret

    T = TypeVar("T")

Random: TypeAlias = Callable[[], float]
"""Gives a number in [0, 1), as ``random.random`` does."""

CONNECT_SECONDS = 2.0
"""Seconds for one attempt to connect."""
REQUEST_SECONDS = 12.0
"""Seconds for one whole request, from looking up the name to the last byte of the answer."""
# As OAuth 2 names them, and as Azure's other services do.
_SERVICE_CODE = r"\bAADSTS[0-9]{4,7}\b"
_ERROR_FIELDS = ("error", "error_description", "code", "message")


class Request:
    """One HTTP request. Its repr shows the names of the headers only: one may carry Arc's secret.

    It is no tuple, because error trackers that show the locals of a failed frame look into tuples
    and not into objects.

    Attributes:
        url: where to.
        headers: header fields; a value that is a `Secret` is revealed by who sends it.
        method: the HTTP method.
        body: the body to send with it, if there is one.
        seconds: the whole request's deadline; past it the attempt counts as `ReadFailed`.
        certificate: the SHA-1 fingerprint, in hexadecimal digits, of the one certificate that the
            server may have; empty for any that the system trusts.
        listener: the port of 127.0.0.1 of which it is made sure, each time that this is sent, that
            who listens there may have Arc's secret; 0 where nothing secret is sent.
        connect_seconds: seconds of these for one attempt to connect.
        over_internet: whether it leaves this machine's own network, and so goes by the proxies and
            certificates that the environment names.
    """

    __slots__ = (
        "body", "certificate", "connect_seconds", "headers", "listener", "method", "over_internet",
        "seconds", "url",
    )  # fmt: skip

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str | Secret],
        method: str = "GET",
        body: bytes | None = None,
        seconds: float = REQUEST_SECONDS,
        certificate: str = "",
        listener: int = 0,
        connect_seconds: float = CONNECT_SECONDS,
        *,
        over_internet: bool = False,
    ) -> None:
        self.url = url
        self.headers = headers
        self.method = method
        self.body = body
        self.seconds = seconds
        self.certificate = certificate
        self.listener = listener
        self.connect_seconds = connect_seconds
        self.over_internet = over_internet

    def with_timeouts(self, connect_seconds: float | None, seconds: float | None) -> Request:
        """The same request with other bounds; None leaves one as it is."""
        if connect_seconds is None and seconds is None:
            return self
        twin = copy.copy(self)
        twin.connect_seconds = connect_seconds or self.connect_seconds
        twin.seconds = seconds or self.seconds
        return twin

    def __repr__(self) -> str:
        return f"Request({self.method} {self.url!r}, headers={sorted(self.headers)})"


class Response:
    """An answer, when it was asked for and when it came. Its repr hides the body, a token maybe.

    Like `Request` it is no tuple.

    Attributes:
        status: the HTTP status.
        headers: header fields by lower-case name.
        body: the whole body, bounded by who received it.
        sent_at: ``Clock.now()`` just before the request was sent.
        received_at: ``Clock.now()`` when the answer had been received.
        received_wall: ``Clock.wall()`` at that same moment.
    """

    __slots__ = ("body", "headers", "received_at", "received_wall", "sent_at", "status")

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        sent_at: float,
        received_at: float,
        received_wall: float,
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.sent_at = sent_at
        self.received_at = received_at
        self.received_wall = received_wall

    def __repr__(self) -> str:
        return f"Response({self.status}, {len(self.body)} bytes)"

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ValueError: if it is none, or too deeply nested.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            pass
        # Not inside the handler: the parser's own exception holds the whole text.
        raise ValueError("not JSON")

    def fields(self) -> Fields | None:
        """The fields of the JSON object that the body is; None if it is another kind of JSON.

        Raises:
            ValueError: if it is no JSON.
        """
        values = self.json()
        return Fields(values) if isinstance(values, dict) else None

    @property
    def is_metadata_error(self) -> bool:
        """Whether it is JSON that names an ``error``, as IMDS and the Arc agent say what is wrong.

        Others that answer in their place (another cloud, a proxy, a portal) do not.
        """
        try:
            fields = self.fields()
        except ValueError:
            return False
        return fields is not None and isinstance(fields.get("error"), str)

    @property
    def error_text(self) -> str:
        """What the service says of an error, fit for a message. Not for a 200: that is a token."""
        try:
            said = self.fields() or Fields({})
            nested = said.get("error")
            said = Fields(nested) if isinstance(nested, dict) else said
            parts = [said.get(name) for name in _ERROR_FIELDS]
            error_text = ": ".join(str(part) for part in parts if part)
        except (ValueError, RecursionError):
            error_text = ""
        return sanitize(error_text or self.body.decode("utf-8", "replace")) or "nothing"

    @property
    def service_code(self) -> str:
        """Microsoft Entra ID's code in the error, such as ``AADSTS500011``; empty without one."""
        import re

        match = re.search(_SERVICE_CODE, self.error_text)
        return match[0] if match else ""


class Send(NamedTuple):
    """Send this and give me the `Response`; throw a `TransportError` if there is none."""

    request: Request


class Pause(NamedTuple):
    """Wait this many seconds."""

    seconds: float


class ConfirmListener(NamedTuple):
    """Make sure that who listens on this port of 127.0.0.1 may have Arc's secret."""

    port: int


class ReadSecret(NamedTuple):
    """Give me the content of the key file that Arc's challenge named, as a `Secret`."""

    path: str


class TransportError(Exception):
    """No answer. ``seconds`` is how long it took to find out."""

    seconds = 0.0


class ConnectFailed(TransportError):
    """No connection: refused, unreachable, or connecting took too long."""


class ReadFailed(TransportError):
    """A connection, but no complete answer: reset, closed early, or too slow."""


Step: TypeAlias = Send | Pause | ConfirmListener | ReadSecret
Steps: TypeAlias = "Generator[Step, Any, T]"


def send(request: Request) -> Steps[Response]:
    """One request, one answer."""
    response: Response = yield Send(request)
    return response


def pause(seconds: float) -> Steps[None]:
    """Wait."""
    yield Pause(seconds)


def confirm_listener(port: int) -> Steps[None]:
    """Make sure that Arc's secret may be sent to ``port`` of 127.0.0.1."""
    yield ConfirmListener(port)


def read_secret(path: str) -> Steps[Secret]:
    """The content of Arc's key file."""
    secret: Secret = yield ReadSecret(path)
    return secret


def url_with(endpoint: str, query: Mapping[str, str]) -> str:
    """``endpoint`` with ``query``, each value percent-encoded."""
    from urllib.parse import quote as percent_encode

    pairs = (f"{name}={percent_encode(value, safe='')}" for name, value in query.items())
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{'&'.join(pairs)}"
