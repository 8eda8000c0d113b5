"""`requests` with an end to everything: time, size, and how far a request may travel."""

from __future__ import annotations

import contextvars
import functools
import http.client
import io
import logging
import socket
import sys
import threading
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, TypeVar

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from .._core.background import THREAD_NAME, start_thread
from .._core.failure import Malformed, quote
from .exchange import Dropped, Unreached

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .._core.clock import Clock

T = TypeVar("T")

LARGEST_BODY = 256 * 1024
"""Bytes. A token is two thousand."""
# What frames a body of one-byte chunks is six times the body; nothing sound comes near to this.
_LARGEST_ANSWER = 8 * LARGEST_BODY
# Of several addresses one may be dead: the others get their turn, but each a fair chance.
_FAIR_CHANCE = 1.0


def _is_not_ours(_: logging.LogRecord) -> bool:
    """Whether a record of urllib3's may go to handlers.

    A handler that uses the credential holds its own lock while it waits for the fetch, and would
    wait for ever if the fetch had something to log for it.
    """
    return threading.current_thread().name != THREAD_NAME


logging.getLogger("urllib3.connectionpool").addFilter(_is_not_ours)


class BoundedSession(requests.Session):
    """Sends what it is given to whom it is meant for, and to nobody else.

    Follows no redirect, keeps no cookie and reads no ``.netrc``. Of a time-out ``(connect, whole)``
    the second number bounds the whole request.

    Args:
        clock: times the answers.
        proxies: whether the environment's proxies (and its certificates) are used.
    """

    def __init__(self, clock: Clock, *, proxies: bool = False) -> None:
        super().__init__()
        self.trust_env = proxies
        # With any auth at all, requests does not look into .netrc.
        self.auth = _as_it_is
        self.headers.clear()
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = BoundedAdapter(clock)
        for scheme in ("http://", "https://"):
            self.mount(scheme, adapter)

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002
        """None: a redirect is an answer like any other, and its body is read by us alone."""
        return


def body_of(answer: requests.Response) -> bytes:
    """The whole body of a streamed answer, as it came.

    Raises:
        Malformed: if it is compressed or too large.
        Dropped: if it is not complete in time.
    """
    check_encoding(answer.headers)
    chunks = iter(functools.partial(answer.raw.read, 65536, decode_content=False), b"")
    return joined(chunks)


def joined(chunks: Any) -> bytes:
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


def check_encoding(headers: Mapping[str, str]) -> None:
    """Refuse to inflate: a body of a kilobyte may become gigabytes.

    Raises:
        Malformed: if a body is compressed, which was not asked for.
    """
    encoding = str(headers.get("content-encoding") or "identity").strip()
    if encoding.lower() != "identity":
        raise Malformed(
            f"the answer is compressed ({quote(encoding)}), which was not asked for",
            "Something between this machine and the service changes what it says: remove it.",
        )


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


class BoundedAdapter(HTTPAdapter):
    """Sends for a session; ``whole`` of its time-out ``(connect, whole)`` is kept.

    Args:
        clock: times the answers.
        certificate: the fingerprint of the only one that a server may have, in place of those
            that the system trusts.
    """

    def __init__(self, clock: Clock, certificate: str = "") -> None:
        self._clock = clock
        self._certificate = certificate
        super().__init__()

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        """Send ``request``, as `HTTPAdapter.send` does."""
        timeout = kwargs.get("timeout")
        if isinstance(timeout, tuple) and None not in timeout:
            connect, whole = timeout
            kwargs["timeout"] = urllib3.Timeout(connect=min(connect, whole), total=whole)
        if self._certificate:
            kwargs["verify"] = False  # by no authority: its fingerprint is looked at instead
        return super().send(request, *args, **kwargs)

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """The pool of connections for a request, ours."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        # A pool that somebody else has changed, such as a test's recorder, stays as it is.
        if bounded := _BOUNDED.get(pool.ConnectionCls):
            pool.ConnectionCls = functools.partial(bounded, clock=self._clock)
        if self._certificate:
            pool.assert_fingerprint = self._certificate
        return pool


class _Connection(HTTPConnection):
    """Is connected within its time-out, whatever a name resolves to, and reads within its next."""

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


class _TlsConnection(_Connection, HTTPSConnection):
    pass


_BOUNDED: dict[Any, type[_Connection]] = {
    HTTPConnection: _Connection,
    HTTPSConnection: _TlsConnection,
}


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


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
