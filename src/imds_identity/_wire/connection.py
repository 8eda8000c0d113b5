"""A connection that ends: resolving, connecting, and the time and size of an answer are bounded."""

from __future__ import annotations

import contextvars
import functools
import http.client
import io
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from urllib3.connection import HTTPConnection, HTTPSConnection

from .._core.failure import Malformed
from .._runtime.background import start_thread
from .exchange import Dropped, Unreached

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._runtime.clock import Clock

T = TypeVar("T")

LARGEST_BODY = 256 * 1024
"""Bytes. One with a token has some two thousand."""
# Bytes with all header fields and chunk sizes, of which there are six for a chunk of one byte.
_LARGEST_ANSWER = 8 * LARGEST_BODY
# Seconds that each address of a name has at least: a dead one leaves time for those after it.
_FAIR_CHANCE = 1.0


class BoundedConnection(HTTPConnection):
    """Connects within its time-out, however many addresses a name has, and bounds each answer."""

    def __init__(self, *args: Any, clock: Clock, **kwargs: Any) -> None:
        self._clock = clock
        super().__init__(*args, **kwargs)

    def _new_conn(self) -> socket.socket:
        seconds = float(self.timeout or 0)
        ends = self._clock.now() + seconds
        addresses = _addresses(self._dns_host, self.port or self.default_port, seconds)
        sys.audit("http.client.connect", self, self.host, self.port)
        reason = ""
        for others, address in zip(range(len(addresses))[::-1], addresses, strict=True):
            left = ends - self._clock.now()
            if left <= 0:
                break
            try:
                connection = _connected(address, min(left, max(left / (others + 1), _FAIR_CHANCE)))
            except TimeoutError:
                continue
            except OSError as error:
                reason = error.strerror or type(error).__name__
            else:
                connection.settimeout(seconds)
                return connection
        raise Unreached(reason or f"no connection within {seconds:.0f} s")

    def response_class(self, sock: Any, **kwargs: Any) -> _Answer:  # type: ignore[override]
        """How http.client reads an answer from ``sock``."""
        answer = _Answer(sock, **kwargs)
        reader = _Reader(answer.fp.detach(), sock, float(self.timeout or 0), self._clock)
        answer.fp = io.BufferedReader(reader)
        return answer


class BoundedTlsConnection(BoundedConnection, HTTPSConnection):
    pass


class _Answer(http.client.HTTPResponse):
    def begin(self) -> None:
        """Read the status line and the header fields.

        Raises:
            Malformed: if the fields are broken. urllib3 would log them, an echoed secret maybe.
        """
        super().begin()
        lengths = set(self.headers.get_all("content-length", ["0"]))
        broken = self.headers.defects or self.headers.get_payload() or len(lengths) > 1
        if broken or not all(value.isascii() and value.isdigit() for value in lengths):
            raise Malformed(
                "the answer's header fields are broken",
                "That is no way to speak HTTP: something else may answer at this address.",
            )

    def _read_status(self) -> tuple[str, int, str]:
        """The status line, after what http.client does not know to be provisional (103, say)."""
        while True:
            line: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            if not 101 < line[1] < 200:
                return line
            http.client.parse_headers(self.fp)


class _Reader(io.RawIOBase):
    """Reads from a socket until a moment and up to a size, however slowly or fast that comes."""

    def __init__(self, raw: Any, connection: socket.socket, seconds: float, clock: Clock) -> None:
        super().__init__()
        self._raw = raw
        self._connection = connection
        self._seconds = seconds
        self._clock = clock
        self._ends = clock.now() + seconds
        self._size = 0

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """As much as has come.

        Raises:
            Dropped: past the deadline.
            Malformed: past the bound.
        """
        left = self._ends - self._clock.now()
        if left <= 0:
            raise late_after(self._seconds)
        self._connection.settimeout(left)
        try:
            size: int = self._raw.readinto(buffer)
        except TimeoutError:
            raise late_after(self._seconds) from None
        self._size += size
        if self._size > _LARGEST_ANSWER:
            raise too_large()
        return size

    def close(self) -> None:
        """Let go of the socket."""
        self._raw.close()
        super().close()


def late_after(seconds: float) -> Dropped:
    """What is raised past a deadline."""
    return Dropped(f"no complete answer within {round(seconds, 1):g} s")


def too_large() -> Malformed:
    """What is raised past the bound of a body."""
    return Malformed(f"the answer is larger than {LARGEST_BODY} bytes")


def in_time(call: Callable[[], T], seconds: float, late: Exception) -> T:
    """What ``call`` returns, run in a thread of its own that is left behind if it takes too long.

    Args:
        call: what cannot be given a time-out.
        seconds: how long to wait for it.
        late: what to raise after that.
    """
    outcome: list[tuple[T | None, BaseException | None]] = []
    done = threading.Event()

    def run() -> None:
        try:
            outcome.append((call(), None))
        except BaseException as error:  # noqa: BLE001 - it is raised where the caller waits
            outcome.append((None, error))
        done.set()

    context = contextvars.copy_context()
    start_thread(functools.partial(context.run, run))
    if not done.wait(seconds):
        raise late
    value, error = outcome.pop()
    if error is not None:
        raise error
    return value  # type: ignore[return-value]


def _addresses(host: str, port: int, seconds: float) -> list[Any]:
    # As bytes: the idna codec, which a string goes through, has errors of its own.
    name = host.strip("[]").encode("ascii")
    look_up = functools.partial(socket.getaddrinfo, name, port, 0, socket.SOCK_STREAM, 0)
    try:
        return look_up(socket.AI_NUMERICHOST)
    except socket.gaierror:
        late = Unreached(f"its name was not resolved within {seconds:.0f} s")
    try:
        return in_time(look_up, seconds, late)
    except socket.gaierror as error:
        raise Unreached(error.strerror or "its name does not resolve") from None


def _connected(address: Any, seconds: float) -> socket.socket:
    family, kind, protocol, _, where = address
    connection = socket.socket(family, kind, protocol)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(seconds)
        connection.connect(where)
    except BaseException:
        connection.close()
        raise
    return connection
