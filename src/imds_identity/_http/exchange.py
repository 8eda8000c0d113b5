"""The protocol between an exchange and its runner.

An exchange is a generator that implements one operation of a service without I/O, so that a test
can run it step by step. It yields steps, and the runner resumes it with the outcome:

    def token_exchange(request: Request) -> Steps[Token]:
        response = yield Send(request)      # or: response = yield from send(request)
        if response.status == 503:
            yield Pause(2.0)                # or: yield from pause(2.0)
            response = yield Send(request)
        return token_from(response)         # the result of ExchangeRunner.run

If no complete response arrives, the runner throws a `TransportError` into the exchange at its
``yield``: it may retry, or raise a `Failure`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any, TypeAlias, TypeVar

    from .messages import Request, Response

    T = TypeVar("T")

Random: TypeAlias = Callable[[], float]
"""Returns a number in [0, 1), as ``random.random`` does."""
Step: TypeAlias = "Send | Pause"
Steps: TypeAlias = "Generator[Step, Any, T]"


class Send(NamedTuple):
    """Send the request; the outcome is its `Response`."""

    request: Request


class Pause(NamedTuple):
    """Wait this many seconds."""

    seconds: float


class ErrorKind(enum.Enum):
    """The cause of a `TransportError`. Messages may change, but these values do not."""

    OTHER = "other"
    NAME = "name"  # the host name does not resolve
    NAME_TIMEOUT = "name-timeout"
    FORBIDDEN = "forbidden"  # the system does not let this process connect
    NO_ROUTE = "no-route"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    RESET = "reset"  # closed or reset by the other side before the response
    INCOMPLETE = "incomplete"  # the response began
    PROXY = "proxy"  # a proxy did not open a tunnel
    PROXY_AUTHENTICATION = "proxy-authentication"


class TransportError(Exception):
    """No complete response. ``seconds`` is the time until the failure."""

    seconds = 0.0

    def __init__(self, text: str = "", kind: ErrorKind = ErrorKind.OTHER) -> None:
        super().__init__(text)
        self.kind = kind


class ConnectFailed(TransportError):
    """No connection: refused, no route, name not resolved, or a timeout."""


class ReadFailed(TransportError):
    """A connection, but no complete response: reset, closed early, or a timeout."""


def send(request: Request) -> Steps[Response]:
    """Send one request and return its response."""
    response: Response = yield Send(request)
    return response


def pause(seconds: float) -> Steps[None]:
    """Wait."""
    yield Pause(seconds)
