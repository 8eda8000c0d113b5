"""A connection that ends: resolving, connecting, and the time and size of an answer are bounded."""

from __future__ import annotations

import contextvars
import functools
import http.client
import io
import socket
import sys
import threading

from .._core.failure import Malformed, sanitize
from .._platform.threads import start_thread
from .exchange import ConnectFailed, ReadFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from email.message import Message
    from typing import Any, TypeVar

    from .._platform.clock import Clock

    T = TypeVar("T")

LARGEST_BODY = 256 * 1024
"""Bytes. One with a token has some two thousand."""
# Bytes with all header fields and chunk sizes, of which there are six for a chunk of one byte.
_LARGEST_ANSWER = 8 * LARGEST_BODY
# Seconds that each address of a name has at least: a dead one leaves time for those after it.
_FAIR_CHANCE = 1.0


class Deadline:
    """When something must be over.

    Args:
        clock: times it.
        seconds: how long it may take, from now on.
    """

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock = clock
        self._seconds = seconds
        self._ends = clock.now() + seconds

    def left(self) -> float:
        """Seconds that are left, more than none.

        Raises:
            ReadFailed: if none are.
        """
        left = self._ends - self.clock.now()
        if left <= 0:
            raise self.late()
        return left

    def late(self) -> ReadFailed:
        """What is raised past it."""
        return timed_out(self._seconds)


class Connection(http.client.HTTPConnection):
    """A connection of its own for one request, in the clear.

    Args:
        host: a name or an address.
        port: likewise.
        clock: times it.
        connect_seconds: how long connecting may take.
        seconds: how long all of it may take.
    """

    # Whoever debugs a program of his sets http.client's own, which prints header fields: secrets.
    debuglevel = 0

    def __init__(
        self, host: str, port: int, clock: Clock, connect_seconds: float, seconds: float
    ) -> None:
        super().__init__(host, port)
        self._connect_seconds = min(connect_seconds, seconds)
        self._deadline = Deadline(clock, seconds)

    def connect(self) -> None:
        """Connect.

        Raises:
            ConnectFailed: if that cannot be done in time.
        """
        sys.audit("http.client.connect", self, self.host, self.port)
        clock = self._deadline.clock
        self.sock = connect_within(self.host, self.port, self._connect_seconds, clock)
        self.sock.settimeout(self._deadline.left())

    def response_class(self, sock: Any, **kwargs: Any) -> Answer:  # type: ignore[override]
        """How http.client reads an answer from ``sock``."""
        return bounded_answer(sock, self._deadline, **kwargs)


def connect_within(host: str, port: int, seconds: float, clock: Clock) -> socket.socket:
    """A socket that is connected to ``host``, one of whose addresses may be dead.

    Args:
        host: a name or an address, in ASCII.
        port: of it.
        seconds: how long that may take.
        clock: times it.

    Raises:
        ConnectFailed: if it cannot be done in time.
    """
    ends = clock.now() + seconds
    addresses = _addresses(host, port, seconds)
    reason = ""
    for others, address in zip(range(len(addresses))[::-1], addresses, strict=True):
        left = ends - clock.now()
        if left <= 0:
            break
        try:
            return _connected(address, min(left, max(left / (others + 1), _FAIR_CHANCE)))
        except TimeoutError:
            continue
        except OSError as error:
            reason = error.strerror or type(error).__name__
    raise ConnectFailed(reason or f"no connection within {seconds:.0f} s")


def bounded_answer(sock: socket.socket, deadline: Deadline, **kwargs: Any) -> Answer:
    """The answer that comes from ``sock``.

    Args:
        sock: connected.
        deadline: of the answer.
        kwargs: as for ``http.client.HTTPResponse``.
    """
    answer = Answer(sock, **kwargs)
    answer.fp = io.BufferedReader(_Reader(answer.fp.detach(), sock, deadline))
    return answer


class Answer(http.client.HTTPResponse):
    """An answer whose header fields are sound."""

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

    def __init__(self, raw: Any, connection: socket.socket, deadline: Deadline) -> None:
        super().__init__()
        self._raw = raw
        self._connection = connection
        self._deadline = deadline
        self._size = 0

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """As much as has come.

        Raises:
            ReadFailed: past the deadline.
            Malformed: past the bound.
        """
        self._connection.settimeout(self._deadline.left())
        try:
            size: int = self._raw.readinto(buffer)
        except TimeoutError:
            raise self._deadline.late() from None
        self._size += size
        if self._size > _LARGEST_ANSWER:
            raise too_large()
        return size

    def close(self) -> None:
        """Let go of the socket."""
        self._raw.close()
        super().close()


def timed_out(seconds: float) -> ReadFailed:
    """What is raised past a deadline."""
    return ReadFailed(f"no complete answer within {round(seconds, 1):g} s")


def too_large() -> Malformed:
    """What is raised past the bound of a body."""
    return Malformed(f"the answer is larger than {LARGEST_BODY} bytes")


def check_encoding(headers: Mapping[str, str] | Message) -> None:
    """Refuse to inflate: a body of a kilobyte may become gigabytes.

    Raises:
        Malformed: if a body is compressed, which was not asked for.
    """
    encoding = str(headers.get("content-encoding") or "identity").strip()
    if encoding.lower() != "identity":
        raise Malformed(
            f"the answer is compressed ({sanitize(encoding)}), which was not asked for",
            "Something between this machine and the service changes what it says: remove it.",
        )


def read_all(chunks: Iterable[bytes]) -> bytes:
    """All of ``chunks``.

    Raises:
        Malformed: if they are too much.
    """
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > LARGEST_BODY:
            raise too_large()
    return bytes(body)


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
        late = ConnectFailed(f"its name was not resolved within {seconds:.0f} s")
    try:
        return in_time(look_up, seconds, late)
    except socket.gaierror as error:
        raise ConnectFailed(error.strerror or "its name does not resolve") from None


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
