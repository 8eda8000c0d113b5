"""What goes over a real socket, against a server that answers with given bytes."""

from __future__ import annotations

import errno
import http.client
import io
import socket
import struct
import subprocess
import sys
import threading
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._core.failure import Failure, Malformed, Refused, Unavailable
from imds_identity._core.secret import Secret
from imds_identity._http import connection as http_connection
from imds_identity._http.connection import Deadline
from imds_identity._http.exchange import ConnectFailed, ErrorKind, ReadFailed, TransportError, send
from imds_identity._http.messages import MAX_BODY, Request, Response
from imds_identity._http.requests_transport import send_by_requests
from imds_identity._http.runner import ExchangeRunner
from imds_identity._http.transport import direct_sender
from imds_identity._http.transport_errors import transport_error_from
from support import WINE, FakeClock, RawServer, RealTimeClock

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
    url: str,
    headers: dict[str, Any] | None = None,
    clock: FakeClock | None = None,
    seconds: float = 12.0,
) -> Response:
    with direct_sender(clock or FakeClock()) as send:
        return send(Request(url, headers or {}, seconds=seconds))


def test_request_contains_only_the_intended_headers() -> None:
    with serving(b"HTTP/1.1 200 OK\r\nX-Name: v\r\nContent-Length: 2\r\n\r\n{}") as server:
        response = sent(server.url, {"Metadata": "true"})
    line, *headers = server.received.decode().split("\r\n")
    assert line == "GET /token?x=y HTTP/1.1"
    names = {header.split(":")[0] for header in headers if header}
    assert names == {"Host", "User-Agent", "Accept", "Accept-Encoding", "Metadata"}
    assert "Accept-Encoding: identity" in headers
    assert (response.status, response.body, response.headers["x-name"]) == (200, b"{}", "v")
    assert response.received_at == FakeClock().now()


def test_post_sends_its_body() -> None:
    body = b'{"StartRequests": [{"EventId": "e"}]}'
    heard = b""

    def answer(connection: socket.socket) -> None:
        nonlocal heard
        head, _, heard = server.received.partition(b"\r\n\r\n")
        assert head.startswith(b"POST /token?x=y HTTP/1.1\r\n")
        assert f"\r\nContent-Length: {len(body)}".encode() in head
        while len(heard) < len(body):
            heard += connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    clock = FakeClock()
    with serving(answer) as server, direct_sender(clock) as sender:
        request = Request(server.url, {"Metadata": "true"}, "POST", body)
        assert ExchangeRunner(sender, clock).run(send(request)).status == 200
    assert heard == body


def test_proxy_is_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_redirect_is_returned_and_not_followed() -> None:
    answer = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"
    with serving(answer) as server:
        assert sent(server.url).status == 302


@pytest.mark.parametrize("encoding", [b"gzip", b"x-gzip, identity", b"br"])
def test_compressed_body_is_refused(encoding: bytes) -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: " + encoding + b"\r\n"
        b"Content-Length: 4\r\n\r\n\x1f\x8b\x08\x00"
    )
    with serving(answer) as server, pytest.raises(Malformed, match="compressed"):
        sent(server.url)


@pytest.mark.parametrize("named", [b"identity", b"Identity ", b""])
def test_identity_encoding_is_accepted(named: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: " + named + b"\r\nContent-Length: 2\r\n\r\n{}"
    with serving(answer) as server:
        assert sent(server.url).body == b"{}"


def test_compressed_redirect_body_is_not_read() -> None:
    answer = (
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Encoding: gzip\r\n"
        b"Content-Length: 4\r\n\r\n\x1f\x8b\x08\x00"
    )
    with serving(answer) as server, pytest.raises(Malformed, match="compressed"):
        sent(server.url)


def test_provisional_responses_are_skipped() -> None:
    answer = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    )
    with serving(answer) as server:
        assert sent(server.url).status == 200


def test_no_cookie_is_kept() -> None:
    answer = b"HTTP/1.1 401 No\r\nSet-Cookie: a=b\r\nConnection: close\r\n\r\n"
    with RawServer(answer) as server, direct_sender(RealTimeClock()) as send:
        send(Request(server.url, {}))
        send(Request(server.url, {}))
    assert len(server.requests) == 2
    assert b"ookie" not in server.requests[1]


def test_each_request_has_a_connection_of_its_own() -> None:
    answer = HEAD + b"Content-Length: 2\r\n\r\n{}"
    with RawServer(answer, hold=True) as server, direct_sender(RealTimeClock()) as send:
        for _ in range(2):
            assert send(Request(server.url, {})).body == b"{}"
    assert len(server.requests) == 2


def test_chunked_body_is_joined() -> None:
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
def test_incomplete_response_is_read_failed(answer: bytes) -> None:
    with serving(answer) as server, pytest.raises(ReadFailed):
        sent(server.url)


@pytest.mark.skipif(WINE, reason="wine resets no connection")
def test_reset_is_read_failed() -> None:
    def reset(connection: socket.socket) -> None:
        at_once = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)

    with serving(reset) as server, pytest.raises(ReadFailed, match=r"reset|aborted") as raised:
        sent(server.url)
    assert raised.value.kind is ErrorKind.RESET


@pytest.mark.parametrize("framed", [True, False])
def test_body_size_is_limited(framed: bool) -> None:
    for size in (MAX_BODY, MAX_BODY + 1):
        length = f"Content-Length: {size}\r\n" if framed else ""
        with RawServer(f"HTTP/1.1 200 OK\r\n{length}\r\n".encode() + bytes(size)) as server:
            if size == MAX_BODY:
                assert len(sent(server.url).body) == size
                continue
            with pytest.raises(Malformed, match="larger than 262144 bytes"):
                sent(server.url)


@pytest.mark.parametrize(("size", "fits"), [(MAX_BODY + 9, True), (MAX_BODY + 10, False)])
def test_request_may_have_another_size_limit(size: int, fits: bool) -> None:
    with RawServer(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(size)) as server:
        request = Request(server.url, {})
        request.max_body = MAX_BODY + 9
        with direct_sender(RealTimeClock()) as send_:
            if fits:
                assert len(send_(request).body) == size
                return
            with pytest.raises(Malformed, match=f"larger than {MAX_BODY + 9} bytes"):
                send_(request)


def test_huge_body_is_not_read_completely() -> None:
    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            for _ in range(1000):
                connection.sendall(b"x" * MAX_BODY)
        except OSError:
            return
        raise AssertionError("all of it was read")

    with serving(flood) as server, pytest.raises(Malformed, match="larger than"):
        sent(server.url)


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
ENDLESS = {
    "silence": (b"", b""),
    "a status line": (b"HTTP/1.1 200 O", b"K"),
    "100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "103 Early Hints": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
    "a header": (HEAD + b"X: ", b"y"),
    "a body": (HEAD + b"\r\n", b" "),
    "a body of known length": (HEAD + b"Content-Length: 100000\r\n\r\n", b" "),
    "chunks": (CHUNKED, b"1\r\n \r\n"),
    "a chunk's size": (CHUNKED, b"0"),
    "a chunk's extension": (CHUNKED + b"1;", b"x"),
    "trailers": (CHUNKED + b"0\r\n", b"X: y\r\n"),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_whole_request_has_one_timeout(what: str) -> None:
    with RawServer(*ENDLESS[what], hold=True) as server:
        clock = RealTimeClock()
        started = clock.now()
        with pytest.raises(ReadFailed, match=r"no complete response within 0\.\d"):
            sent(server.url, clock=clock, seconds=0.3)
        assert clock.now() - started < 5
        assert server.closed.wait(5), "the connection was not closed"


def test_timeout_uses_the_given_clock() -> None:
    clock = FakeClock()

    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                connection.sendall(b" ")
                clock.seconds += 1
        except OSError:
            return

    late = "no complete response within 12 s"
    with serving(drip) as server, pytest.raises(ReadFailed, match=late):
        sent(server.url, clock=clock)


def test_deadline_has_passed_when_no_time_remains(clock: FakeClock) -> None:
    deadline = Deadline(clock, 12)
    clock.seconds += 11.5
    assert deadline.remaining() == 0.5
    clock.seconds += 0.5
    with pytest.raises(ReadFailed, match="no complete response within 12 s"):
        deadline.remaining()


@pytest.mark.parametrize("what", ["100 Continue", "a chunk's extension", "trailers"])
def test_endless_response_is_limited_by_size(what: str) -> None:
    first, then = ENDLESS[what]
    with (
        RawServer(first, then * 10_000, every=0) as server,
        pytest.raises((Malformed, ReadFailed), match=r"larger than|got more than"),
    ):
        sent(server.url, clock=RealTimeClock(), seconds=60)


@pytest.mark.parametrize(("size", "fits"), [(2 * 1024 * 1024, True), (2 * 1024 * 1024 + 1, False)])
def test_header_fields_and_chunk_sizes_count_for_the_size_of_a_response(
    clock: FakeClock, size: int, fits: bool
) -> None:
    with socket.socket() as connection:
        content = io.BytesIO(bytes(size))
        reader = io.BufferedReader(
            http_connection._BoundedReader(content, connection, Deadline(clock, 12), MAX_BODY)
        )
        if fits:
            assert len(reader.read()) == size
        else:
            with pytest.raises(Malformed, match="larger than"):
                reader.read()


@pytest.mark.parametrize("length", [b"\xb2", b"+2", b"2 2", b"0x2", b""])
def test_length_that_is_not_a_number_is_refused(length: bytes) -> None:
    with (
        serving(HEAD + b"Content-Length: " + length + b"\r\n\r\n{}") as server,
        pytest.raises(Malformed, match="header fields are invalid"),
    ):
        sent(server.url)


@pytest.mark.parametrize(
    ("statuses", "last"), [((100, 102, 199, 204), 204), ((103, 200), 200), ((101,), 101)]
)
def test_statuses_from_102_to_199_are_skipped(statuses: tuple[int, ...], last: int) -> None:
    head = "".join(f"HTTP/1.1 {status} Reason\r\n\r\n" for status in statuses).encode()
    with RawServer(head) as server:
        assert sent(server.url).status == last


def test_default_port_is_80_for_any_kind_of_host(monkeypatch: pytest.MonkeyPatch) -> None:
    where: list[tuple[str, int]] = []

    def refuse(host: str, port: int, *_: object) -> None:
        where.append((host, port))
        raise ConnectFailed("refused")

    monkeypatch.setattr(http_connection, "connect", refuse)
    for url in ("http://x.example/", "http://127.0.0.1", "http://[::1]/", "http://x.example:1/"):
        with pytest.raises(ConnectFailed):
            sent(url)
    assert where == [("x.example", 80), ("127.0.0.1", 80), ("::1", 80), ("x.example", 1)]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (socket.gaierror(socket.EAI_NONAME, "no such name"), "no such name"),
        (socket.gaierror(), "its name does not resolve"),
    ],
)
def test_error_of_name_resolution_is_quoted(
    monkeypatch: pytest.MonkeyPatch, error: OSError, text: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(ConnectFailed, match=f"^{text}$"):
        sent("http://x.example/")


def test_connections_raise_http_client_s_audit_event() -> None:
    events: list[tuple[str, int]] | None = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if events is not None and event == "http.client.connect":
            events.append(arguments[1:])

    sys.addaudithook(hook)
    with RawServer(HEAD + b"Content-Length: 0\r\nConnection: close\r\n\r\n") as server:
        sent(server.url)
        send_by_requests(Request(server.url, {}), RealTimeClock())
        assert events == [("127.0.0.1", server.port)] * 2
    events = None  # an audit hook cannot be removed


def test_small_packets_are_sent_at_once() -> None:
    with RawServer() as server:
        connection = http_connection.connect("127.0.0.1", server.port, 5, RealTimeClock())
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (OSError(errno.ECONNREFUSED, "refused"), ConnectFailed, "refused"),
        (OSError(errno.EHOSTUNREACH, "no host"), ConnectFailed, "no host"),
        (OSError(errno.ENETUNREACH, "no route"), ConnectFailed, "no route"),
        (OSError(errno.ENETDOWN, "down"), ConnectFailed, "down"),
        (socket.gaierror(socket.EAI_NONAME, "no name"), ConnectFailed, "no name"),
        (socket.gaierror(), ConnectFailed, "gaierror"),
        (OSError(errno.ECONNRESET, "reset"), ReadFailed, "reset"),
        (OSError("only a text"), ReadFailed, "only a text"),
        (ConnectionResetError(), ReadFailed, "ConnectionResetError"),
        (TimeoutError(errno.ETIMEDOUT, "the system's timeout"), ReadFailed, "the system's timeout"),
        (TimeoutError(), ReadFailed, "no complete response within 12 s"),
        (http.client.BadStatusLine("SSH-2.0"), ReadFailed, "SSH-2.0"),
        (http.client.HTTPException("a: b: (the cause)"), ReadFailed, "the cause"),
        (http.client.HTTPException(), ReadFailed, "HTTPException"),
        (RuntimeError("of a hook"), Refused, "raised RuntimeError: of a hook"),
    ],
)
def test_errors_are_converted_with_their_texts(
    error: Exception, kind: type[Exception], text: str
) -> None:
    converted = transport_error_from(error, Request("http://x", {}))
    assert type(converted) is kind
    if kind is Refused:
        assert text in str(converted)
    else:
        assert str(converted) == text


def test_slow_name_resolution_is_connect_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve, done = socket.getaddrinfo, threading.Event()

    def slow(host: bytes, port: int, family: int, kind: int, protocol: int, flags: int = 0) -> Any:
        if flags & socket.AI_NUMERICHOST:
            return resolve(host, port, family, kind, protocol, flags)
        return done.wait(10)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with pytest.raises(ConnectFailed, match="not resolved within"):
        sent("http://slow.example/", seconds=0.1)
    done.set()


def test_next_address_is_used_if_one_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(HEAD + b"Content-Length: 2\r\n\r\n{}") as server, socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))  # bound, and not listening
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", where)
            for where in (dead.getsockname(), ("127.0.0.1", server.port))
        ]
        monkeypatch.setattr(http_connection, "_resolve", lambda *_: found)
        assert sent(f"http://two.example:{server.port}/", clock=RealTimeClock()).body == b"{}"


@pytest.mark.parametrize(
    ("silent", "seconds", "shares"),
    [
        (1, 2.0, [2.0]),
        (2, 2.0, [1.0, 1.0]),
        (2, 6.0, [3.0, 3.0]),
        (4, 2.0, [1.0, 1.0]),
        (2, 0.5, [0.5]),
        (2, 1.5, [1.0, 0.5]),
        (0, 2.0, []),
    ],
)
def test_silent_address_leaves_time_for_the_next(
    monkeypatch: pytest.MonkeyPatch, silent: int, seconds: float, shares: list[float]
) -> None:
    """Each address gets an equal share of the time that is left, and a second at least."""
    clock, given_seconds = FakeClock(), []
    addresses = [("silent", n) for n in range(silent)]

    def hang(address: object, seconds: float) -> socket.socket:
        given_seconds.append(seconds)
        clock.seconds += seconds
        raise TimeoutError

    monkeypatch.setattr(http_connection, "_resolve", lambda *_: addresses)
    monkeypatch.setattr(http_connection, "_connected", hang)
    with pytest.raises(ConnectFailed, match="no connection within"):
        http_connection.connect("several.example", 80, seconds, clock)
    assert given_seconds == shares


def test_address_after_silent_and_refusing_ones_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, given_seconds = FakeClock(), []
    reached = socket.socket()

    def connected(address: str, seconds: float) -> socket.socket:
        given_seconds.append(seconds)
        if address == "silent":
            clock.seconds += seconds
            raise TimeoutError
        if address == "refusing":
            raise ConnectionRefusedError
        return reached

    monkeypatch.setattr(http_connection, "_resolve", lambda *_: ["silent", "refusing", "good"])
    monkeypatch.setattr(http_connection, "_connected", connected)
    with reached:
        assert http_connection.connect("several.example", 80, 12.0, clock) is reached
    assert given_seconds == [4.0, 4.0, 8.0]


def test_repeated_header_field_has_all_values() -> None:
    fields = b"WWW-Authenticate: Basic realm=a\r\nwww-authenticate: Bearer\r\n"
    with serving(HEAD + fields + b"Content-Length: 0\r\n\r\n") as server:
        assert sent(server.url).headers["www-authenticate"] == "Basic realm=a, Bearer"


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("{}", b"/"),
        ("{}?a=b", b"/?a=b"),
        ("{}/a/%20b;c?d=%26#e", b"/a/%20b;c?d=%26"),
        ("{}//two//slashes", b"//two//slashes"),
    ],
)
def test_request_target_matches_the_url(url: str, target: bytes) -> None:
    with RawServer(HEAD + b"Content-Length: 0\r\n\r\n") as server:
        sent(url.format(f"http://127.0.0.1:{server.port}"))
    assert server.requests[0].split(b" ")[1] == target


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:0/",
        "http://127.0.0.1:x/",
        "http://[::1/",
        "http:///token",
        "127.0.0.1/token",
        "http://127.0.0.1:9/a b",
        "http://127.0.0.1:9/a\n",
        "ftp://127.0.0.1/",
        "http://b\u00fccher.example/",
        "http://" + "a" * 70 + "\u00fc.example/",
    ],
)
def test_invalid_url_is_refused_without_retries(url: str) -> None:
    with pytest.raises(Unavailable, match="no request can be sent to"):
        sent(url)


def test_http_client_debugging_shows_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    with RawServer(HEAD + b"X-Echo: s3cret\r\nContent-Length: 0\r\n\r\n") as server:
        assert sent(server.url, {"Authorization": Secret("Basic s3cret")}).status == 200
    assert capsys.readouterr().out == ""


def test_invalid_header_is_not_shown() -> None:
    with pytest.raises(Unavailable) as caught:
        sent("http://127.0.0.1:9/", {"Authorization": "Basic s3cret\r\nX: y"})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("value", [Secret("Basic s3cret-of-arc"), "Basic s3cret-of-arc"])
def test_secret_is_sent_and_not_shown(value: Any) -> None:
    with RawServer(b"HTTP/9.9 s3cret-of-arc Basic s3cret-of-arc\r\n\r\n") as server:
        with pytest.raises(TransportError) as caught:
            sent(server.url, {"Authorization": value})
        assert b"\r\nAuthorization: Basic s3cret-of-arc\r\n" in server.requests[0]
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "field",
    [
        "no colon s3cret", ": s3cret", "Content-Length: s3cret", "Content-Length: -1",
        "Content-Length: 2\r\nContent-Length: 3", "Content-Type: multipart/mixed",
    ],
)  # fmt: skip
def test_invalid_header_fields_are_refused_and_not_logged(
    field: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with (
        RawServer(f"HTTP/1.1 200 OK\r\n{field}\r\n\r\n{{}}".encode()) as server,
        pytest.raises(Malformed, match="header fields are invalid"),
    ):
        sent(server.url)
    assert "s3cret" not in caplog.text


def test_error_text_of_another_program_is_sanitized() -> None:
    with (
        serving(b"\x1b[31mSSH-2.0 eyJhbGciOiJub25lIn0.x.y \xe2\x80\xae" * 50) as server,
        pytest.raises(ReadFailed) as caught,
    ):
        sent(server.url)
    assert str(caught.value).isprintable()
    assert "eyJ" not in str(caught.value)


def test_unexpected_error_is_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("an unexpected state")

    monkeypatch.setattr(http_connection.BoundedConnection, "request", broken)
    with pytest.raises(Refused, match="RuntimeError: an unexpected state") as caught:
        sent("http://127.0.0.1:9/")
    assert caught.value.__context__ is None


def test_sending_imports_nothing() -> None:
    """Or a fork in the middle of an import leaves the child its lock."""
    script = """
import sys
from imds_identity._platform.clock import SYSTEM_CLOCK
from imds_identity._http.exchange import TransportError
from imds_identity._http.messages import Request
from imds_identity._http.transport import direct_sender
before = set(sys.modules)
with direct_sender(SYSTEM_CLOCK) as send:
    for url in sys.argv[1:]:
        try:
            print(send(Request(url, {"Metadata": "true"})).status)
        except TransportError as error:
            print(type(error).__name__)
print(sorted(set(sys.modules) - before))
"""
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{}"
    with RawServer(answer) as server:
        urls = [server.url, server.url.replace("127.0.0.1", "localhost"), "http://no.invalid/"]
        done = subprocess.run(
            [sys.executable, "-c", script, *urls], capture_output=True, text=True, check=True
        )
    assert done.stdout.splitlines() == ["200", "200", "ConnectFailed", "[]"]


def test_closed_port_is_connect_failed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectFailed, match="refused"):
        sent(f"http://127.0.0.1:{port}/")


def test_unresolvable_name_is_connect_failed() -> None:
    with pytest.raises(ConnectFailed):
        sent("http://nowhere.invalid/")


def test_connect_timeout_is_connect_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*args: object, **kwargs: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(http_connection, "_connected", late)
    with pytest.raises(ConnectFailed, match="no connection within 2 s"):
        sent("http://127.0.0.1:9/")


@pytest.mark.parametrize(
    "said",
    [
        b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nbroken\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\n\r\n" + bytes(MAX_BODY + 1),
    ],
)  # fmt: skip
def test_error_holds_neither_request_nor_secret(said: bytes) -> None:
    with RawServer(said) as server, pytest.raises((TransportError, Failure)) as caught:
        sent(server.url, {"Authorization": Secret("Basic s3cret")})
    error = caught.value
    assert "s3cret" not in str(error)
    assert error.__cause__ is error.__context__ is None
    frames = traceback.walk_tb(error.__traceback__)
    assert {frame.f_code.co_name for frame, _ in frames} <= {
        "test_error_holds_neither_request_nor_secret", "sent", "send",
    }  # fmt: skip
