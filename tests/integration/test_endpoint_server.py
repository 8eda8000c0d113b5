"""The endpoint's server stands whatever clients do to it."""

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
from imds_identity._endpoint.listen import listen_at
from imds_identity._endpoint.policy import Rules
from imds_identity._endpoint.responses import Answer, Wanted
from imds_identity._endpoint.server import Server
from imds_identity._platform.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "f" * 64
TARGET = "/msi/token?api-version=2019-08-01&resource=https://vault.azure.net"


class Running:
    """A server whose tokens are all alike, and how often one was given."""

    def __init__(self, **rules: Any) -> None:
        self.given: list[Wanted] = []
        self.proceed = threading.Event()
        self.proceed.set()
        listener = listen_at("127.0.0.1")
        self.port: int = listener.getsockname()[1]
        self.server = Server([listener], Rules(Secret(SECRET), **rules), self.give, SYSTEM_CLOCK)
        self.thread = threading.Thread(target=self.server.serve)

    def give(self, wanted: Wanted) -> Answer:
        self.given.append(wanted)
        self.proceed.wait(10)
        return Answer(200, b'{"access_token": "a-token"}')

    def ask(self, headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            sent = {"X-IDENTITY-HEADER": SECRET} if headers is None else headers
            connection.request("GET", TARGET, headers=sent)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def send(self, raw: bytes) -> bytes:
        """All that is answered to ``raw``."""
        with self.connect() as peer:
            peer.sendall(raw)
            answer = b""
            while piece := peer.recv(65536):
                answer += piece
            return answer


@contextmanager
def started(**rules: Any) -> Iterator[Running]:
    running = Running(**rules)
    running.thread.start()
    try:
        yield running
    finally:
        running.proceed.set()
        running.server.stop()
        running.thread.join(10)
        assert not running.thread.is_alive()


@pytest.fixture
def running() -> Iterator[Running]:
    with started() as one:
        yield one


def head(*lines: str) -> bytes:
    return "\r\n".join((*lines, "", "")).encode()


def good(running: Running) -> tuple[str, ...]:
    return (f"Host: 127.0.0.1:{running.port}", f"X-IDENTITY-HEADER: {SECRET}")


def test_a_client_that_knows_the_secret_gets_a_token(running: Running) -> None:
    assert running.ask() == (200, {"access_token": "a-token"})


def test_without_the_secret_nobody_is_asked_for_a_token(running: Running) -> None:
    status, said = running.ask({})
    assert status == 401
    assert "access_token" not in said
    assert running.given == []


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
def test_what_is_not_sound_is_refused(running: Running, status: str, lines: list[str]) -> None:
    host = f"127.0.0.1:{running.port}"
    sent = [line.format(host=host, port=running.port) for line in lines]
    answer = running.send(head(*sent, f"X-IDENTITY-HEADER: {SECRET}"))
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert running.given == []
    assert running.ask()[0] == 200


def test_one_connection_is_good_for_one_answer(running: Running) -> None:
    one = head(f"GET {TARGET} HTTP/1.1", *good(running))
    assert running.send(one + one).count(b"HTTP/1.1 ") == 1
    assert len(running.given) == 1


def test_a_body_that_nobody_wants_does_not_hide_the_answer(running: Running) -> None:
    lines = head(f"POST {TARGET} HTTP/1.1", *good(running), "Content-Length: 500000")
    assert running.send(lines + b"x" * 500_000).startswith(b"HTTP/1.1 405 ")


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_thousand_connections_that_say_nothing_make_place(running: Running) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    try:
        with ExitStack() as stack:
            for number in range(1000):
                peer = stack.enter_context(running.connect())
                peer.sendall(b"GET /msi/token HTTP/1.1\r\n"[: number % 20])
            assert running.ask()[0] == 200
            assert len(running.server._open) <= server_module.MOST_CONNECTIONS
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_where_no_more_files_can_be_opened_it_goes_on(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = iter((OSError(24, "Too many open files"),))
    accept = socket.socket.accept

    def once_refused(listener: socket.socket) -> Any:
        for error in refused:
            raise error
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", once_refused)
    assert running.ask()[0] == 200


def test_a_head_that_trickles_ends(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "READ_SECONDS", 0.05)
    with running.connect() as slow:
        slow.sendall(b"GET /msi/token HTTP/1.1\r\nX: ")
        assert slow.recv(1) == b""


def test_while_one_waits_for_the_service_others_are_answered(running: Running) -> None:
    running.proceed.clear()
    waiting = threading.Thread(target=running.ask)
    waiting.start()
    assert running.ask({})[0] == 401
    running.proceed.set()
    waiting.join(10)
    assert len(running.given) == 1


def test_too_many_that_wait_are_told_to_come_again(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.server._threads = threading.Semaphore(0)
    answer = running.send(head(f"GET {TARGET} HTTP/1.1", *good(running)))
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: " in answer


def test_a_name_may_be_allowed() -> None:
    with started(names=["tokens.example"]) as running:
        port = running.port
        for name, status in (("tokens.example", b"200"), ("other.example", b"403")):
            lines = (f"GET {TARGET} HTTP/1.1", f"Host: {name}:{port}", good(running)[1])
            assert running.send(head(*lines)).startswith(b"HTTP/1.1 " + status)


def test_a_fault_of_its_own_is_told_without_its_words(running: Running) -> None:
    def fail(_wanted: Wanted) -> Answer:
        raise LookupError("something secret")

    running.server._give = fail
    status, said = running.ask()
    assert status == 500
    assert "LookupError" in said["message"]
    assert "secret" not in str(said)


def test_where_there_can_be_no_more_threads_clients_come_again(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_run: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(server_module, "start_thread", refuse)
        assert [running.ask()[0] for _ in range(3)] == [503] * 3
    assert running.ask()[0] == 200


def test_one_client_is_not_the_end_for_others(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_asked: object, _rules: object) -> Wanted:
        raise LookupError

    with monkeypatch.context() as patched:
        patched.setattr(server_module, "wanted_of", fail)
        with pytest.raises(http.client.RemoteDisconnected):
            running.ask()
    assert running.ask()[0] == 200
