from __future__ import annotations

import random
import socket
import threading
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imds_identity.emulator import Emulator, ManualClock
from imds_identity.emulator._messages import BadTargetError, Request
from support import WINE

if TYPE_CHECKING:
    from collections.abc import Iterator

    import requests

    from emulator.support import Send, Start

QUERY = "?api-version=2018-02-01&resource=https://vault.azure.net"
PATH = "/metadata/identity/oauth2/token"
HEAD = "Host: 127.0.0.1\r\nMetadata: true\r\n"
NEEDS_AIOHTTP_3_14_4 = pytest.mark.skipif(
    tuple(map(int, aiohttp.__version__.split(".")[:3])) < (3, 14, 4),
    reason="before 3.14.4 aiohttp responds differently and does not throttle its reading",
)
GOOD = f"GET {PATH}{QUERY} HTTP/1.1\r\n{HEAD}\r\n".encode()


@pytest.fixture(scope="module")
def shared() -> Iterator[Emulator]:
    with Emulator(key_vault=False, log_size=50) as emulator:
        yield emulator


def connect(emulator: Emulator) -> Any:
    host, port = emulator.endpoint.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)), timeout=10)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def read_response(client: Any) -> Any:
    data = b""
    while b"\r\n\r\n" not in data:
        part = client.recv(65536)
        if not part:
            return data
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length")
    )
    while len(body) < length:
        body += client.recv(65536)
    return head


def exchange(emulator: Emulator, *parts: Any) -> Any:
    with connect(emulator) as client:
        for part in parts:
            client.sendall(part)
        return read_response(client)


@pytest.mark.parametrize(
    "target",
    [
        PATH + QUERY,
        PATH + "/" + QUERY,
        "http://169.254.169.254" + PATH + QUERY,
        "http://localhost:80" + PATH + "/" + QUERY,
        PATH + QUERY.replace("://", "%3A%2F%2F"),
    ],
)
def test_targets_of_real_clients_are_accepted(shared: Emulator, target: Any) -> None:
    response = exchange(shared, f"GET {target} HTTP/1.1\r\n{HEAD}\r\n".encode())
    assert response.startswith(b"HTTP/1.1 200")


def test_request_can_arrive_byte_by_byte(shared: Emulator) -> None:
    assert exchange(shared, *[bytes([byte]) for byte in GOOD]).startswith(b"HTTP/1.1 200")


def test_http_1_0_connection_is_closed_after_the_response(shared: Emulator) -> None:
    with connect(shared) as client:
        client.sendall(f"GET {PATH}{QUERY} HTTP/1.0\r\nMetadata: true\r\n\r\n".encode())
        assert read_response(client).startswith(b"HTTP/1.0 200")
        assert client.recv(1) == b""


def test_connection_is_kept_alive(shared: Emulator) -> None:
    with connect(shared) as client:
        for _ in range(3):
            client.sendall(GOOD)
            assert read_response(client).startswith(b"HTTP/1.1 200")


def test_connection_close_is_honored(shared: Emulator) -> None:
    with connect(shared) as client:
        client.sendall(GOOD.replace(b"Host", b"Connection: close\r\nHost"))
        assert b"connection: close" in read_response(client).lower()
        assert client.recv(1) == b""


def test_pipelined_requests_are_answered_in_order(shared: Emulator) -> None:
    other = f"GET /nothing HTTP/1.1\r\n{HEAD}\r\n".encode()
    with connect(shared) as client, client.makefile("rb") as stream:
        client.sendall(GOOD + other + GOOD.replace(b"Host", b"Connection: close\r\nHost"))
        everything = stream.read()

    assert [part[:3] for part in everything.split(b"HTTP/1.1 ")[1:]] == [b"200", b"404", b"200"]


def test_client_that_expects_100_continue_gets_it(shared: Emulator) -> None:
    head = f"POST {PATH}{QUERY} HTTP/1.1\r\n{HEAD}Content-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    with connect(shared) as client:
        client.sendall(head.encode())
        assert client.recv(65536).startswith(b"HTTP/1.1 100")
        client.sendall(b"abc")
        assert read_response(client).startswith(b"HTTP/1.1 405")


def test_half_closed_connection_counts_as_disconnected(
    start_emulator: Start, request_token: Send
) -> None:
    emulator = start_emulator(limits=True, latency=0, clock=ManualClock())
    emulator.fault(delay=600, times=5)
    for _ in range(5):
        with connect(emulator) as client:
            client.sendall(GOOD)
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""
    assert request_token(emulator).status_code == 200


@pytest.mark.skipif(WINE, reason="wine does not reset connections")
def test_reset_fault_resets_the_connection(start_emulator: Start) -> None:
    emulator = start_emulator()
    emulator.fault(reset=True)
    with connect(emulator) as client:
        client.sendall(GOOD)
        with pytest.raises(ConnectionResetError):
            client.recv(1)


@pytest.mark.parametrize("size", [0, 10])
def test_truncated_response_has_its_headers_and_part_of_its_body(
    start_emulator: Start, size: int
) -> None:
    emulator = start_emulator()
    emulator.fault(truncate=size)
    with connect(emulator) as client, client.makefile("rb") as stream:
        client.sendall(GOOD)
        head, _, body = stream.read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert len(body) == size


def test_slow_body_arrives_in_chunks(start_emulator: Start) -> None:
    emulator = start_emulator()
    emulator.fault(slow_body=600)
    with connect(emulator) as client:
        client.sendall(GOOD)
        received = b""
        while len(received.partition(b"\r\n\r\n")[2]) < 50:
            received += client.recv(65536)
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.recv(1)
        assert b"Content-Length: 1" in received


def test_disconnected_clients_do_not_affect_others(
    start_emulator: Start, request_token: Send
) -> None:
    emulator = start_emulator()
    emulator.fault(delay=0.05, times=20)
    for _ in range(20):
        with connect(emulator) as client:
            client.sendall(GOOD)
    assert request_token(emulator).status_code == 200


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /\x00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"400"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", b"400", marks=NEEDS_AIOHTTP_3_14_4),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nBad Header: y\r\n\r\n", b"400"),
        pytest.param(
            b"GET http://[ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
            b"400",
            marks=NEEDS_AIOHTTP_3_14_4,
        ),
        (b"GET /?" + b"a=b&" * 200 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"y" * 40_000 + b"\r\n\r\n", b"400"),
        (b"GET /" + b"y" * 40_000, b"400"),
        (b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: what\r\n\r\n", b"400"),
        (
            b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999999\r\n\r\n"
            + b"x" * 300_000,
            b"413",
        ),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"CONNECT example.invalid:443 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"404"),
        (b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"404"),
    ],
)
def test_invalid_http_gets_an_error_response(
    shared: Emulator, request_token: Send, request_bytes: Any, status: Any
) -> None:
    before = shared.requests[-1].number if shared.requests else 0
    response = exchange(shared, request_bytes)
    assert response[9:12] == status
    assert b"Server: IMDS/" in response
    [record] = [record for record in shared.requests if record.number > before]
    assert record.status == int(status)
    assert request_token(shared).status_code == 200


@pytest.mark.parametrize(
    ("request_bytes", "method", "target"),
    [
        (b"nonsense\r\n\r\n", "?", "nonsense"),
        (b"\x16\x03\x01\x02\x1b[31m\r\n\r\n", "?", r"\x16\x03\x01\x02\x1b[31m"),
        (f"GET {PATH} HTTP/1.1\r\nBad Header: y\r\n\r\n".encode(), "GET", PATH),
    ],
)
def test_malformed_request_is_recorded_with_its_request_line(
    start_emulator: Start, request_bytes: bytes, method: str, target: str
) -> None:
    emulator = start_emulator()
    with connect(emulator) as client:
        client.sendall(request_bytes)
        while client.recv(65536):
            pass
    record = emulator.requests[-1]
    assert (record.method, record.target) == (method, target)
    assert (record.status, record.note) == (400, "malformed")
    assert "not valid HTTP" in record.answer
    assert record.seconds is not None


def test_data_of_a_later_malformed_request_is_not_recorded(start_emulator: Start) -> None:
    emulator = start_emulator()
    with connect(emulator) as client:
        client.sendall(GOOD)
        read_response(client)
        client.sendall(b"GET / HTTP/1.1\r\nAuthorization: Basic password\x00\r\n\r\n")
        while client.recv(65536):
            pass
    assert [(record.method, record.target) for record in emulator.requests][1:] == [("?", "")]
    assert "password" not in repr(emulator.requests)


def test_request_with_an_unreadable_body_is_recorded_with_its_target(
    start_emulator: Start,
) -> None:
    emulator = start_emulator()
    head = f"POST {PATH}{QUERY} HTTP/1.1\r\n{HEAD}Content-Length: 999999\r\n\r\n".encode()
    assert exchange(emulator, head, b"x" * 300_000)[9:12] == b"413"
    record = emulator.requests[-1]
    assert (record.method, record.category, record.note) == ("POST", "identity", "malformed")
    assert record.headers["metadata"] == "true"


FRAGMENTS = [
    b"GET ",
    b"POST ",
    b"/metadata/identity/oauth2/token",
    b"/metadata/instance/",
    b"?api-version=2018-02-01",
    b"&resource=",
    b"&client_id=%ff%00",
    b"http://[::1",
    b" HTTP/1.1",
    b" HTTP/1.0",
    b"\r\n",
    b"\n",
    b"Host: 127.0.0.1\r\n",
    b"Metadata: true\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: websocket\r\nConnection: upgrade\r\n",
    b"\x00\xff\xfe",
    b"x" * 3000,
    b"\r\n\r\n",
    GOOD,
]


def test_ten_thousand_malformed_requests_are_survived(
    start_emulator: Start, request_token: Send
) -> None:
    emulator = start_emulator(log_size=100)
    chance = random.Random(20261121)

    def send_malformed(seed: Any) -> Any:
        own = random.Random(seed)
        for _ in range(2500):
            body = b"".join(own.choices(FRAGMENTS, k=own.randint(1, 9)))
            with connect(emulator) as client:
                try:
                    client.sendall(body)
                    if own.random() < 0.5:
                        client.shutdown(socket.SHUT_WR)
                        while client.recv(65536):
                            pass
                except OSError:
                    pass

    threads = [threading.Thread(target=send_malformed, args=(chance.random(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert request_token(emulator).status_code == 200
    assert not any(record.status >= 500 for record in emulator.requests)
    assert len(emulator.requests) <= 100


def test_idle_connections_do_not_block_new_ones(shared: Emulator, request_token: Send) -> None:
    clients = [connect(shared) for _ in range(450)]
    try:
        for client in clients[:50]:
            client.sendall(b"GET / HT")
        assert request_token(shared).status_code == 200
    finally:
        for client in clients:
            client.close()


@NEEDS_AIOHTTP_3_14_4
def test_client_that_never_reads_is_throttled_and_does_not_block_others(
    shared: Emulator, request_token: Send
) -> None:
    with connect(shared) as client:
        client.settimeout(0.2)
        sent = 0
        try:
            while sent < 200_000_000:
                sent += client.send(GOOD * 500)
        except TimeoutError:
            pass
        assert sent < 200_000_000
        assert request_token(shared).status_code == 200


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_get_a_response_or_a_closed_connection(shared: Emulator, data: Any) -> None:
    with connect(shared) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        while client.recv(65536):
            pass


@given(target=st.text(max_size=200))
def test_any_target_is_parsed_or_rejected(target: Any) -> None:
    try:
        request = Request.parse("GET", target)
    except BadTargetError:
        return
    assert isinstance(request.path, str)
    request.repeated_parameter()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    path=st.sampled_from(
        [
            PATH,
            "/metadata/identity/info",
            "/metadata/instance",
            "/metadata/instance/network/interface",
            "/metadata/attested/document",
            "/metadata/scheduledevents",
            "/metadata/loadbalancer",
            "/metadata/versions",
        ]
    ),
    query=st.dictionaries(
        st.sampled_from(
            ["api-version", "resource", "client_id", "format", "nonce", "bypass_cache"]
        ),
        st.one_of(st.sampled_from(["2021-12-13", "json", "text", "true"]), st.text(max_size=20)),
    ),
)
def test_no_parameters_cause_an_internal_error(
    shared: Emulator, http: requests.Session, path: Any, query: Any
) -> None:
    response = http.get(shared.endpoint + path, params=query)
    assert response.status_code in {200, 400, 404}


@pytest.mark.parametrize(
    "target",
    [
        "//metadata/identity/oauth2/token?resource=x",  # MSAL for Java
        "/metadata/identity/oauth2/token/?resource=x",  # @azure/identity
        "http://169.254.169.254/metadata/identity/oauth2/token?resource=x",  # through a proxy
    ],
)
def test_targets_of_real_clients_have_the_same_path(target: str) -> None:
    request = Request.parse("GET", target)
    assert (request.path, request.query) == (PATH, (("resource", "x"),))
    assert request.target == target
