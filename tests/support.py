"""Fakes and helpers for all tests."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import re
import signal
import socket
import ssl
import sys
import threading
import time
import traceback
from email.message import Message
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, TypeVar

from azure.core.credentials import AccessToken

from imds_identity._core.key import Key
from imds_identity._core.token import Token
from imds_identity._http.messages import Response
from imds_identity._platform.clock import SYSTEM_CLOCK
from imds_identity._shared_cache.directory import Directory
from imds_identity._shared_cache.namespace import Namespace
from imds_identity._shared_cache.store import SharedCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from typing_extensions import Self

    from imds_identity._platform.clock import Clock

EPOCH = 1_750_000_000.0


class FakeClock:
    """A clock that advances when a test changes it or when code sleeps."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.skew = 0.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.seconds

    def tick(self) -> float:
        return self.seconds

    def wall(self) -> float:
        return EPOCH + self.seconds + self.skew

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds

    def service(self) -> float:
        """Return the time of the service's clock, which is always correct."""
        return EPOCH + self.seconds


def no_jitter() -> float:
    """Return the random number that adds no jitter."""
    return 0.5


class ResponseFactory:
    """Builds responses of a token endpoint at the current time of a clock."""

    def __init__(self, clock: Any) -> None:
        self.clock = clock

    def raw(self, status: int, body: bytes | str = b"", **headers: str) -> Response:
        return Response(
            status=status,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
            body=body.encode() if isinstance(body, str) else body,
            sent_at=self.clock.now(),
            received_at=self.clock.now(),
            received_wall=self.clock.wall(),
        )

    def json(self, status: int, payload: Any, **headers: str) -> Response:
        headers.setdefault("content_type", "application/json; charset=utf-8")
        return self.raw(status, json.dumps(payload), **headers)

    def token(self, value: str = "a-token", *, lifetime: Any = 86400, **more: Any) -> Response:
        payload = {
            "access_token": value,
            "expires_on": str(int(self.clock.service() + lifetime)),
            "expires_in": str(int(lifetime)),
            "token_type": "Bearer",
            **more,
        }
        fields = {name: field for name, field in payload.items() if field is not None}
        return self.json(200, fields, date=formatdate(self.clock.service(), usegmt=True))

    def error(self, status: int, **headers: str) -> Response:
        body = {"error": "an_error", "error_description": "what the service says"}
        return self.json(status, body, **headers)


class BackgroundQueue:
    """Runs blocking work immediately; queues background work until the test runs it."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []

    def __call__(self, run: Callable[[], object], *, blocks: bool) -> None:
        if blocks:
            run()
        else:
            self.waiting.append(run)

    def run(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


T = TypeVar("T")


class ExchangeDriver:
    """Runs an exchange step by step, with outcomes from the test."""

    def __init__(self, steps: Any) -> None:
        self.steps = steps
        self.step: Any = next(steps)

    def respond(self, outcome: Any) -> Any:
        """Send the outcome of the current step; return the next step."""
        self.step = (
            self.steps.throw(outcome)
            if isinstance(outcome, BaseException)
            else self.steps.send(outcome)
        )
        return self.step

    def finish(self, outcome: Any) -> Any:
        """Send the outcome of the last step; return the result of the exchange."""
        try:
            step = self.respond(outcome)
        except StopIteration as done:
            return done.value
        raise AssertionError(f"the exchange continues with {step!r}")


KEY = Key("imds", "http://service/token", "client_id", "1234-secret-identity", "https://vault")
LIFETIME = 86400.0
NAMESPACE = Namespace("this-boot", "this-network")


def shared_cache_in(
    path: str | os.PathLike[str], clock: FakeClock, namespace: Namespace = NAMESPACE
) -> SharedCache:
    """Return a shared cache in the directory ``path``."""
    return SharedCache(Directory.at(str(path)), clock, namespace)


def new_token(clock: Clock, value: str = "s3cret", life: float = LIFETIME) -> Token:
    """Return a token that the service has just issued."""
    now, wall = clock.now(), int(clock.wall())
    return Token(
        value, "Bearer", int(wall + life), int(wall + life / 2), now, now + life / 2, now + life
    )


class FakeService:
    """Returns new tokens, or raises `error`, and counts the fetches."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.fetches = 0
        self.error: BaseException | None = None

    def token(self) -> Token:
        return new_token(self.clock, f"token-{self.fetches}")

    def __call__(self) -> Token:
        self.fetches += 1
        if self.error:
            raise self.error
        return self.token()


class RawServer:
    """A server on 127.0.0.1 that sends arbitrary bytes, such as invalid responses.

    Args:
        response: sent first.
        then: sent repeatedly afterwards, until the client disconnects.
        every: seconds between the repetitions.
        hold: whether to keep the connection open at the end.
        tls: the context for https; None for http.
    """

    def __init__(
        self,
        response: bytes = b"",
        then: bytes = b"",
        every: float = 0.01,
        *,
        hold: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.requests: list[bytes] = []
        self.closed = threading.Event()
        self._response, self._then, self._every, self._hold = response, then, every, hold
        self._stopped = threading.Event()
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._threads = [threading.Thread(target=self._listen, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        # Closing a listener does not interrupt accept(); a connection does.
        socket.create_connection(("127.0.0.1", self.port)).close()
        for thread in list(self._threads):
            thread.join(10)
            assert not thread.is_alive()
        self._listener.close()

    def _listen(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._stopped.is_set():
                connection.close()
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._tls:
                connection.settimeout(10)
                connection = self._tls.wrap_socket(connection, server_side=True)
            connection.settimeout(0.05)
            with connection:
                if self._received(connection):
                    connection.sendall(self._response)
                    self._go_on(connection)
        except OSError:
            pass
        self.closed.set()

    def _received(self, connection: socket.socket) -> bool:
        head = b""
        while not _is_complete(head):
            if self._stopped.is_set():
                return False
            with contextlib.suppress(TimeoutError):
                more = connection.recv(65536)
                if not more:
                    return False
                head += more
        self.requests.append(head)
        return True

    def _go_on(self, connection: socket.socket) -> None:
        while (self._then or self._hold) and not self._stopped.wait(self._every):
            if self._then:
                with contextlib.suppress(TimeoutError):
                    connection.sendall(self._then)
            else:
                with contextlib.suppress(TimeoutError):
                    if not connection.recv(1):
                        return


class RealTimeClock(FakeClock):
    """A clock in real time, for tests that wait for sockets; its sleeps take no real time."""

    def now(self) -> float:
        return SYSTEM_CLOCK.now() + sum(self.slept)

    def tick(self) -> float:
        return self.now()


def _is_complete(request: bytes) -> bool:
    head, end, body = request.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head)
    return bool(end) and len(body) >= (int(length[1]) if length else 0)


class TlsServer(RawServer):
    """A `RawServer` with TLS.

    Args:
        directory: the folder for the certificate of its authority.
        arguments: passed to `RawServer`.
        keywords: passed to `RawServer`.

    Attributes:
        certificates: the file with the certificate of its authority.
        thumbprint: of its certificate, in Service Fabric's format.
    """

    def __init__(self, directory: Path, *arguments: Any, **keywords: Any) -> None:
        from imds_identity.emulator._pki.certificates import Authority, pem, server_context

        authority = Authority("a root")
        self._context = server_context(authority, directory, "127.0.0.1")
        super().__init__(*arguments, **keywords)
        self.certificates = str(directory / f"authority-{self.port}.pem")
        (directory / f"authority-{self.port}.pem").write_bytes(pem(authority.certificate))
        self.url = self.url.replace("http:", "https:")
        certificate = ssl.get_server_certificate(("127.0.0.1", self.port))
        self.thumbprint = hashlib.sha1(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            super()._serve(self._context.wrap_socket(connection, server_side=True))


CLAIMS = '{"access_token":{"nbf":{"essential":true,"value":"1"}}}'
CHALLENGE = (
    'Bearer realm="", authorization_uri="https://login.example/", '
    f'error="insufficient_claims", claims="{base64.b64encode(CLAIMS.encode()).decode()}"'
)


class QuietHandler(BaseHTTPRequestHandler):
    """Responds with a known length, and logs nothing."""

    def respond(
        self,
        status: int,
        body: bytes = b"",
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send a response; an empty ``content_type`` is not sent."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if content_type:
            self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class _ScriptedHandler(QuietHandler, BaseHTTPRequestHandler):
    """Sends scripted responses and records the requests."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        server: Any = self.server
        server.requests.append((self.path, self.headers.get("Authorization"), body))
        status, headers = server.script.pop(0) if server.script else (200, {})
        self.respond(status, content_type="", headers=headers)

    do_GET = do_POST  # noqa: N815 - the base class's name


class ScriptedServer(ThreadingHTTPServer):
    """A server with scripted responses.

    Attributes:
        script: the status and headers of each response; the default is 200.
        requests: path, Authorization and body of each request.
    """

    script: list[tuple[int, dict[str, str]]]
    requests: list[tuple[str, str | None, bytes]]

    @classmethod
    @contextlib.contextmanager
    def running(cls) -> Iterator[Self]:
        with cls(("127.0.0.1", 0), _ScriptedHandler) as server:
            server.script, server.requests = [], []
            threading.Thread(target=server.serve_forever, args=(0.01,)).start()
            yield server
            server.shutdown()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class FakeCredential:
    """An azure-core credential that records the claims of each call."""

    def __init__(self) -> None:
        self.claims: list[str | None] = []

    def get_token(self, *scopes: str, claims: str | None = None, **kwargs: Any) -> AccessToken:
        self.claims.append(claims)
        return AccessToken(f"token-{len(self.claims)}", 0)


class FakeHttpResponse(io.BytesIO):
    """A response of http.client, and the `ApiResponse` for it."""

    length = 0

    def __init__(self, status: int, body: Any = None, **headers: str) -> None:
        self.body = b"" if body is None else json.dumps(body).encode()
        super().__init__(self.body)
        self.status = status
        self.reason = "Reason"
        self.headers = Message()
        for name, value in headers.items():
            self.headers[name.replace("_", "-")] = value


def count_traced_lines(
    work: Callable[[], object],
    counts: Callable[[str, int], bool],
    stop: int,
    error: type[BaseException],
) -> int:
    """Run ``work``, raise an error before one of its lines, and return how many lines it ran.

    Args:
        work: runs in this thread.
        counts: returns whether to count a line, from its file and its number.
        stop: the number of the counted line before which to raise, or 0 to raise nothing.
        error: raised there, as a signal handler could.
    """
    count = 0

    def trace(frame: Any, event: str, _: object) -> Any:
        nonlocal count
        file = frame.f_code.co_filename
        if "imds_identity" not in file and not file.endswith("threading.py"):
            return None  # tracing other code takes too long
        if event == "line" and counts(file, frame.f_lineno):
            count += 1
            if count == stop:
                raise error
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def run_concurrently(*work: Callable[[], object], seconds: float = 60) -> None:
    """Run functions in concurrent threads that switch as often as possible.

    Args:
        work: the functions.
        seconds: the timeout of each thread.

    Raises:
        BaseException: the first error of a function, if any.
    """
    start, errors = threading.Barrier(len(work)), []

    def run(each: Callable[[], object]) -> None:
        try:
            start.wait()
            each()
        except BaseException as error:  # noqa: BLE001 - raised below, in the thread of the test
            errors.append(error)

    threads = [threading.Thread(target=run, args=(each,), daemon=True) for each in work]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(seconds)
    finally:
        sys.setswitchinterval(interval)
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"


@contextlib.contextmanager
def in_another_thread(hold: Callable[[Callable[[], object]], object]) -> Iterator[None]:
    """Call ``hold`` in a thread, with a function that returns at the end of the ``with`` block."""
    inside, over = threading.Event(), threading.Event()

    def wait() -> None:
        inside.set()
        over.wait(60)

    thread = threading.Thread(target=hold, args=(wait,))
    thread.start()
    inside.wait(60)
    yield
    over.set()
    thread.join()


def run_after_fork_in_c(work: Callable[[], object]) -> None:
    """Run ``work`` in a child process that was forked without Python's fork hooks.

    Raises:
        AssertionError: if it raises or hangs.
    """
    import ctypes

    time.sleep(0.02)  # a child may hang if a thread of its parent was waiting for the GIL
    child = ctypes.PyDLL(None).fork()  # PyDLL keeps the GIL
    if not child:
        signal.alarm(20)
        status = 1
        try:
            work()
            status = 0
        except BaseException:  # noqa: BLE001 - the child must not return into the test
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def _is_wine() -> bool:
    if sys.platform != "win32":
        return False
    import ctypes

    return hasattr(ctypes.WinDLL("ntdll"), "wine_get_version")


WINE = _is_wine()
"""Whether this is wine, which does not support links and access times."""
