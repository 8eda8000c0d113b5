"""HTTP connections with limits on name resolution, connecting, and response time and size."""

from __future__ import annotations

import contextvars
import errno
import functools
import http.client
import io
import socket
import sys
import threading

from .._core.failure import Malformed, sanitize
from .._platform.threads import check_ending, close_at_end, start_thread
from .exchange import ConnectFailed, ErrorKind, ReadFailed
from .local_errors import local_failure
from .messages import MAX_BODY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from email.message import Message
    from typing import Any, TypeVar

    from .._platform.clock import Clock

    T = TypeVar("T")

# Bytes to read, at most, per byte of the body: header fields and the sizes of chunks count, too.
_MAX_OVERHEAD = 8
# Minimum seconds for each address of a name: an unreachable one leaves time for the next.
_MIN_SECONDS_PER_ADDRESS = 1.0


_KINDS = {
    errno.ECONNREFUSED: ErrorKind.REFUSED,
    **dict.fromkeys((errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN), ErrorKind.NO_ROUTE),
    **dict.fromkeys((errno.EPERM, errno.EACCES, errno.EAFNOSUPPORT), ErrorKind.FORBIDDEN),
}


class Deadline:
    """The end of a timeout that starts now."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock = clock
        self._seconds = seconds
        self._end = clock.now() + seconds

    def remaining(self) -> float:
        """Return the remaining seconds, more than 0; raise ReadFailed if none remain."""
        remaining = self._end - self.clock.now()
        if remaining <= 0:
            raise self.error()
        return remaining

    def error(self) -> ReadFailed:
        """Return the error to raise past the deadline."""
        return timed_out(self._seconds)


class BoundedConnection(http.client.HTTPConnection):
    """A plain-text connection for one request."""

    # http.client's class attribute, which a program may set to debug, would print secret headers.
    debuglevel = 0

    def __init__(
        self,
        host: str,
        port: int,
        clock: Clock,
        connect_seconds: float,
        seconds: float,
        max_body: int = MAX_BODY,
    ) -> None:
        super().__init__(host, port)
        self._max_body = max_body
        self._connect_seconds = min(connect_seconds, seconds)
        self._deadline = Deadline(clock, seconds)

    def connect(self) -> None:
        """Connect; raise ConnectFailed if that fails or takes too long."""
        sys.audit("http.client.connect", self, self.host, self.port)
        clock = self._deadline.clock
        self.sock = connect(self.host, self.port, self._connect_seconds, clock)
        self.sock.settimeout(self._deadline.remaining())

    def response_class(self, sock: Any, **kwargs: Any) -> BoundedResponse:  # type: ignore[override]
        """Return the response that http.client reads from ``sock``."""
        return bounded_response(sock, self._deadline, self._max_body, **kwargs)


def kind_of(error: Exception) -> ErrorKind:
    """Return the kind of an error that the system reported."""
    if isinstance(error, socket.gaierror):
        return ErrorKind.NAME
    if isinstance(error, TimeoutError):
        return ErrorKind.TIMEOUT
    if isinstance(error, ConnectionResetError | BrokenPipeError | ConnectionAbortedError):
        return ErrorKind.RESET
    number = error.errno if isinstance(error, OSError) else None
    return _KINDS.get(number or 0, ErrorKind.OTHER)


def connect(host: str, port: int, seconds: float, clock: Clock) -> socket.socket:
    """Return a socket connected to ``host``; try all of its addresses.

    ``seconds`` is the timeout for all addresses together.

    Raise ConnectFailed if no address is reachable in time.
    """
    end = clock.now() + seconds
    addresses = _resolve(host, port, seconds)
    reason, problem = "", ErrorKind.TIMEOUT
    for others, address in zip(range(len(addresses))[::-1], addresses, strict=True):
        remaining = end - clock.now()
        if remaining <= 0:
            break
        share = max(remaining / (others + 1), _MIN_SECONDS_PER_ADDRESS)
        try:
            return _connected(address, min(remaining, share))
        except TimeoutError:
            continue
        except OSError as error:
            if failure := local_failure(error):
                raise failure from None
            reason, problem = error.strerror or type(error).__name__, kind_of(error)
    raise ConnectFailed(reason or f"no connection within {seconds:.0f} s", problem)


def bounded_response(
    sock: socket.socket, deadline: Deadline, max_body: int = MAX_BODY, **kwargs: Any
) -> BoundedResponse:
    """Return the response from ``sock``; ``kwargs`` are those of ``http.client.HTTPResponse``."""
    response = BoundedResponse(sock, **kwargs)
    reader = _BoundedReader(response.fp.detach(), sock, deadline, max_body)
    response.fp = io.BufferedReader(reader)
    return response


class BoundedResponse(http.client.HTTPResponse):
    """A response with valid header fields."""

    def begin(self) -> None:
        """Read the status line and the header fields.

        Raises:
            Malformed: if the fields are invalid. urllib3 would log them, and they may contain a
                secret.
        """
        super().begin()
        lengths = set(self.headers.get_all("content-length", ["0"]))
        invalid = self.headers.defects or self.headers.get_payload() or len(lengths) > 1
        if invalid or not all(value.isascii() and value.isdigit() for value in lengths):
            raise Malformed(
                "the response's header fields are invalid",
                "This is not HTTP: another program may be listening at this address.",
            )

    def _read_status(self) -> tuple[str, int, str]:
        """Return the status line; skip informational ones that http.client does not know (103)."""
        while True:
            line: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            if not 101 < line[1] < 200:
                return line
            http.client.parse_headers(self.fp)


class _BoundedReader(io.RawIOBase):
    """Reads from a socket until a deadline and up to a size."""

    def __init__(
        self, raw: Any, connection: socket.socket, deadline: Deadline, max_body: int
    ) -> None:
        super().__init__()
        self._raw = raw
        self._connection = connection
        self._deadline = deadline
        self._max_body = max_body
        self._size = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what has arrived.

        Raise ReadFailed past the deadline; Malformed past the size limit.
        """
        try:
            self._connection.settimeout(self._deadline.remaining())
            size: int = self._raw.readinto(buffer)
        except (TimeoutError, ReadFailed):
            error = self._deadline.error()
            if self._size:  # as opposed to a server that sends nothing
                error.kind = ErrorKind.INCOMPLETE
            raise error from None
        self._size += size
        if self._size > _MAX_OVERHEAD * self._max_body:
            raise too_large(self._max_body)
        return size

    def close(self) -> None:
        """Close the socket's file."""
        self._raw.close()
        super().close()


def timed_out(seconds: float) -> ReadFailed:
    """Return the error to raise past a deadline."""
    text = f"no complete response within {round(seconds, 1):g} s"
    return ReadFailed(text, ErrorKind.TIMEOUT)


def too_large(max_body: int = MAX_BODY) -> Malformed:
    """Return the error to raise past the size limit of a body."""
    return Malformed(f"the response is larger than {max_body} bytes")


def check_encoding(headers: Mapping[str, str] | Message) -> None:
    """Raise Malformed for a compressed body: one kilobyte may expand to gigabytes."""
    encoding = str(headers.get("content-encoding") or "identity").strip()
    if encoding.lower() != "identity":
        raise Malformed(
            f"the response is compressed ({sanitize(encoding)}), which was not requested",
            "A proxy or another program modifies responses of the service: bypass or remove it.",
        )


def read_all(chunks: Iterable[bytes], max_body: int = MAX_BODY) -> bytes:
    """Return all ``chunks`` joined; raise Malformed if they exceed the size limit."""
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > max_body:
            raise too_large(max_body)
    return bytes(body)


def call_with_timeout(call: Callable[[], T], seconds: float, error: Exception) -> T:
    """Return the result of ``call``, which runs in another thread; raise ``error`` on timeout.

    The thread continues after a timeout, because such a call cannot be canceled.
    """
    outcome: list[tuple[T | None, BaseException | None]] = []
    done = threading.Event()

    def run() -> None:
        try:
            outcome.append((call(), None))
        except BaseException as raised:  # noqa: BLE001 - it is raised in the calling thread
            outcome.append((None, raised))
        done.set()

    context = contextvars.copy_context()
    start_thread(functools.partial(context.run, run))
    if not done.wait(seconds):
        raise error
    value, raised = outcome.pop()
    if raised is not None:
        raise raised
    return value  # type: ignore[return-value]


def _resolve(host: str, port: int, seconds: float) -> list[Any]:
    # As bytes: the idna codec, which encodes a str, raises errors of its own.
    name = host.strip("[]").encode("ascii")
    look_up = functools.partial(socket.getaddrinfo, name, port, 0, socket.SOCK_STREAM, 0)
    try:
        return look_up(socket.AI_NUMERICHOST)
    except socket.gaierror:
        text = f"its name was not resolved within {seconds:.0f} s"
        timeout = ConnectFailed(text, ErrorKind.NAME_TIMEOUT)
    try:
        return call_with_timeout(look_up, seconds, timeout)
    except socket.gaierror as error:
        text = error.strerror or "its name does not resolve"
        raise local_failure(error) or ConnectFailed(text, ErrorKind.NAME) from None


def _connected(address: Any, seconds: float) -> socket.socket:
    family, kind, protocol, _, where = address
    connection = socket.socket(family, kind, protocol)
    close_at_end(connection)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(seconds)
        connection.connect(where)
        check_ending()  # the interpreter could not shut it down until here
    except BaseException:
        connection.close()
        raise
    return connection
