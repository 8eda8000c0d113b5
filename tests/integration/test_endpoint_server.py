"""The endpoint's server stays available whatever its clients do."""

from __future__ import annotations

import http.client
import json
import socket
import sys
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._core.secret import Secret
from imds_identity._endpoint import server as server_module
from imds_identity._endpoint.listen import listen_tcp
from imds_identity._endpoint.policy import AccessPolicy
from imds_identity._endpoint.responses import GrantedRequest, HttpResponse
from imds_identity._endpoint.server import TokenServer
from imds_identity._platform.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "f" * 64
TARGET = "/msi/token?api-version=2019-08-01&resource=https://vault.azure.net"


class RunningServer:
    """A server that responds with the same token each time and records the granted requests."""

    def __init__(self, **policy: Any) -> None:
        self.granted: list[GrantedRequest] = []
        self.proceed = threading.Event()
        self.proceed.set()
        listener = listen_tcp("127.0.0.1")
        self.port: int = listener.getsockname()[1]
        access_policy = AccessPolicy(Secret(SECRET), **policy)
        self.server = TokenServer([listener], access_policy, self.handle, SYSTEM_CLOCK)
        self.thread = threading.Thread(target=self.server.serve)

    def handle(self, granted: GrantedRequest) -> HttpResponse:
        self.granted.append(granted)
        self.proceed.wait(10)
        return HttpResponse(200, b'{"access_token": "a-token"}')

    def request(self, headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            fields = {"X-IDENTITY-HEADER": SECRET} if headers is None else headers
            connection.request("GET", TARGET, headers=fields)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def send(self, raw: bytes) -> bytes:
        """Send ``raw``; return all received data."""
        with self.connect() as peer:
            peer.sendall(raw)
            received = b""
            while data := peer.recv(65536):
                received += data
            return received


@contextmanager
def started(**policy: Any) -> Iterator[RunningServer]:
    running = RunningServer(**policy)
    running.thread.start()
    try:
        yield running
    finally:
        running.proceed.set()
        running.server.stop()
        running.thread.join(10)
        assert not running.thread.is_alive()


@pytest.fixture
def running() -> Iterator[RunningServer]:
    with started() as server:
        yield server


def head(*lines: str) -> bytes:
    return "\r\n".join((*lines, "", "")).encode()


def valid_headers(running: RunningServer) -> tuple[str, ...]:
    return (f"Host: 127.0.0.1:{running.port}", f"X-IDENTITY-HEADER: {SECRET}")


def test_client_with_the_secret_gets_a_token(running: RunningServer) -> None:
    assert running.request() == (200, {"access_token": "a-token"})


def test_request_without_the_secret_fetches_no_token(running: RunningServer) -> None:
    status, body = running.request({})
    assert status == 401
    assert "access_token" not in body
    assert running.granted == []


@pytest.mark.parametrize(
    ("status", "lines"),
    [
        ("400", ["GARBAGE"]),
        ("400", ["GET /msi/token HTTP/9.9"]),
        ("400", [f"GET {TARGET} HTTP/1.1", "X-IDENTITY-HEADER : " + SECRET]),
        ("400", [f"GET {TARGET} HTTP/1.1", "no colon"]),
        ("400", [f"GET {TARGET} HTTP/1.1", "Host: {host}", "Content-Length: 5"]),
        ("400", [f"GET {TARGET} HTTP/1.1", "Host: {host}", "Transfer-Encoding: chunked"]),
        ("400", [f"GET {TARGET} HTTP/1.1", "Host: {host}", "Host: evil.example"]),
        ("400", [f"GET {TARGET} HTTP/1.1"]),
        ("403", [f"GET {TARGET} HTTP/1.0"]),
        ("403", [f"GET {TARGET} HTTP/1.1", "Host: rebound.example:{port}"]),
        ("404", [f"GET http://127.0.0.1:{{port}}{TARGET} HTTP/1.1", "Host: {host}"]),
        ("405", ["CONNECT 169.254.169.254:80 HTTP/1.1", "Host: {host}"]),
        ("405", [f"POST {TARGET} HTTP/1.1", "Host: {host}", "Content-Length: 100000"]),
        ("431", [f"GET {TARGET} HTTP/1.1", "X: " + "x" * 20_000]),
    ],
)
def test_invalid_request_is_refused(running: RunningServer, status: str, lines: list[str]) -> None:
    host = f"127.0.0.1:{running.port}"
    formatted = [line.format(host=host, port=running.port) for line in lines]
    response = running.send(head(*formatted, f"X-IDENTITY-HEADER: {SECRET}"))
    assert response.startswith(f"HTTP/1.1 {status} ".encode())
    assert running.granted == []
    assert running.request()[0] == 200


def test_connection_serves_one_request(running: RunningServer) -> None:
    request = head(f"GET {TARGET} HTTP/1.1", *valid_headers(running))
    assert running.send(request + request).count(b"HTTP/1.1 ") == 1
    assert len(running.granted) == 1


def test_client_that_sends_a_body_receives_the_response(running: RunningServer) -> None:
    lines = head(f"POST {TARGET} HTTP/1.1", *valid_headers(running), "Content-Length: 500000")
    assert running.send(lines + b"x" * 500_000).startswith(b"HTTP/1.1 405 ")


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_thousand_silent_connections_do_not_block_others(running: RunningServer) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    try:
        with ExitStack() as stack:
            for number in range(1000):
                peer = stack.enter_context(running.connect())
                peer.sendall(b"GET /msi/token HTTP/1.1\r\n"[: number % 20])
            assert running.request()[0] == 200
            assert len(running.server._connections) <= server_module.MAX_CONNECTIONS
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_server_survives_too_many_open_files(
    running: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = iter((OSError(24, "Too many open files"),))
    accept = socket.socket.accept

    def accept_after_an_error(listener: socket.socket) -> Any:
        for error in errors:
            raise error
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", accept_after_an_error)
    assert running.request()[0] == 200


def test_slow_request_is_disconnected(
    running: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "READ_SECONDS", 0.05)
    with running.connect() as slow:
        slow.sendall(b"GET /msi/token HTTP/1.1\r\nX: ")
        assert slow.recv(1) == b""


def test_waiting_client_does_not_block_others(running: RunningServer) -> None:
    running.proceed.clear()
    waiting = threading.Thread(target=running.request)
    waiting.start()
    assert running.request({})[0] == 401
    running.proceed.set()
    waiting.join(10)
    assert len(running.granted) == 1


@pytest.mark.parametrize(("size", "handled"), [(100, 0), (20_000, 1)])
def test_only_a_small_cached_response_is_sent_without_a_thread(
    running: RunningServer, size: int, handled: int
) -> None:
    cached = HttpResponse(200, json.dumps({"access_token": "x" * size}).encode())
    running.server._cached = lambda _: cached
    assert running.request()[0] == 200
    assert running.request({})[0] == 401
    assert len(running.granted) == handled


def test_too_many_waiting_clients_get_a_busy_response(
    running: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.server._thread_slots = threading.Semaphore(0)
    response = running.send(head(f"GET {TARGET} HTTP/1.1", *valid_headers(running)))
    assert response.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: " in response


def test_additional_host_name_can_be_allowed() -> None:
    with started(names=["tokens.example"]) as running:
        port = running.port
        for name, status in (("tokens.example", b"200"), ("other.example", b"403")):
            lines = (f"GET {TARGET} HTTP/1.1", f"Host: {name}:{port}", valid_headers(running)[1])
            assert running.send(head(*lines)).startswith(b"HTTP/1.1 " + status)


def test_internal_error_hides_its_message(running: RunningServer) -> None:
    def fail(_granted: GrantedRequest) -> HttpResponse:
        raise LookupError("something secret")

    running.server._handle = fail
    status, body = running.request()
    assert status == 500
    assert "LookupError" in body["message"]
    assert "secret" not in str(body)


def test_failure_to_start_a_thread_gets_a_busy_response(
    running: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_run: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(server_module, "start_thread", refuse)
        assert [running.request()[0] for _ in range(3)] == [503] * 3
    assert running.request()[0] == 200


def test_error_with_one_client_does_not_stop_the_server(
    running: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_request: object, _policy: object) -> GrantedRequest:
        raise LookupError

    with monkeypatch.context() as patched:
        patched.setattr(server_module, "authorize", fail)
        with pytest.raises(http.client.RemoteDisconnected):
            running.request()
    assert running.request()[0] == 200
