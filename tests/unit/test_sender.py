"""What goes over a real socket, against a server that answers with given bytes."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import requests

from imds_identity._core.failure import Malformed
from imds_identity._wire import sender as sender_module
from imds_identity._wire.exchange import Dropped, Request, Response, TransportError, Unreached
from imds_identity._wire.sender import LARGEST_BODY, requests_sender
from support import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Server:
    """Takes one connection, remembers what it was sent and answers with given bytes."""

    def __init__(self, answer: Callable[[socket.socket], None]) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.received = b""
        self._answer = answer
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}/token?x=y"

    def _serve(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            while b"\r\n\r\n" not in self.received:
                self.received += connection.recv(65536)
            self._answer(connection)

    def stop(self) -> None:
        self._thread.join()
        self.listener.close()


@contextmanager
def serving(answer: bytes | Callable[[socket.socket], None]) -> Iterator[Server]:
    server = Server(answer if callable(answer) else lambda connection: connection.sendall(answer))
    try:
        yield server
    finally:
        server.stop()


def sent(
    url: str, headers: dict[str, str] | None = None, clock: FakeClock | None = None
) -> Response:
    with requests_sender(clock or FakeClock()) as send:
        return send(Request(url, headers or {}))


def test_what_is_sent_is_what_was_meant_and_no_more() -> None:
    with serving(b"HTTP/1.1 200 OK\r\nX-Name: v\r\nContent-Length: 2\r\n\r\n{}") as server:
        response = sent(server.url, {"Metadata": "true"})
    line, *headers = server.received.decode().split("\r\n")
    assert line == "GET /token?x=y HTTP/1.1"
    names = {header.split(":")[0] for header in headers if header}
    assert names == {"Host", "User-Agent", "Accept", "Accept-Encoding", "Metadata"}
    assert "Accept-Encoding: identity" in headers
    assert (response.status, response.body, response.headers["x-name"]) == (200, b"{}", "v")
    assert response.received_at == FakeClock().now()


def test_a_proxy_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
    ):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as server:
        assert sent(server.url).status == 200


def test_no_netrc_password_is_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    netrc = f"{tmp_path}/netrc"
    with open(netrc, "w", encoding="utf-8") as file:
        file.write("machine 127.0.0.1 login me password s3cret\n")
    monkeypatch.setenv("NETRC", netrc)
    with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as server:
        sent(server.url)
    assert b"Authorization" not in server.received


def test_a_redirect_is_an_answer_like_any_other() -> None:
    answer = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"
    with serving(answer) as server:
        assert sent(server.url).status == 302


def test_a_compressed_body_is_not_inflated() -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00"
    )
    with serving(answer) as server:
        assert sent(server.url).body == b"\x1f\x8b\x08\x00"


def test_a_chunked_body_is_put_together() -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"
    with serving(answer) as server:
        assert sent(server.url).body == b"{}"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    ],
)
def test_an_answer_that_breaks_off_or_is_none_is_dropped(answer: bytes) -> None:
    with serving(answer) as server, pytest.raises(Dropped):
        sent(server.url)


def test_a_reset_is_dropped() -> None:
    def reset(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    with serving(reset) as server, pytest.raises(Dropped, match=r"reset|aborted"):
        sent(server.url)


def test_a_huge_body_is_not_read_to_its_end() -> None:
    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            for _ in range(1000):
                connection.sendall(b"x" * LARGEST_BODY)
        except OSError:
            return
        raise AssertionError("all of it was read")

    with serving(flood) as server, pytest.raises(Malformed, match="larger than"):
        sent(server.url)


def test_a_body_that_drips_is_given_up() -> None:
    clock = FakeClock()

    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                connection.sendall(b" ")
                clock.seconds += 1
        except OSError:
            return

    with serving(drip) as server, pytest.raises(Dropped, match="not complete after 10 s"):
        sent(server.url, clock=clock)


def test_a_service_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "READ_TIMEOUT", 0.05)
    done = threading.Event()

    def silence(connection: socket.socket) -> None:
        done.wait()

    with serving(silence) as server:
        with pytest.raises(Dropped, match="no answer within"):
            sent(server.url)
        done.set()


def test_a_port_where_nobody_listens_is_unreached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unreached, match="refused"):
        sent(f"http://127.0.0.1:{port}/")


def test_a_name_that_does_not_resolve_is_unreached() -> None:
    with pytest.raises(Unreached):
        sent("http://nowhere.invalid/")


def test_a_connect_time_out_is_unreached(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*args: object, **kwargs: object) -> None:
        raise requests.ConnectTimeout

    monkeypatch.setattr(requests.Session, "request", late)
    with pytest.raises(Unreached, match="no connection within 2 s"):
        sent("http://127.0.0.1:9/")


def test_an_error_carries_neither_request_nor_secret() -> None:
    with serving(b"") as server, pytest.raises(TransportError) as caught:
        sent(server.url, {"Authorization": "Basic s3cret"})
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
