"""Errors of `requests`, and what a session of this package never does."""

from __future__ import annotations

import ssl

import pytest
import requests
import urllib3
from urllib3.exceptions import (
    LocationValueError,
    MaxRetryError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)

from imds_identity._core.failure import Failure, Reason
from imds_identity._core.secret import Secret
from imds_identity._http.exchange import ConnectFailed, ErrorKind, ReadFailed, TransportError
from imds_identity._http.messages import Request
from imds_identity._http.requests_transport import (
    BoundedSession,
    send_by_requests,
    transport_error_from_requests,
)
from support import RawServer, RealTimeClock

POOL = urllib3.HTTPConnectionPool("x")
REQUEST = Request("https://x/token", {"Authorization": Secret("s3cret-value")}, seconds=12)


def wrapped(reason: Exception) -> requests.ConnectionError:
    return requests.ConnectionError(MaxRetryError(POOL, "/token", reason))


@pytest.mark.parametrize(
    ("error", "expected", "kind", "text"),
    [
        (
            requests.ConnectTimeout("t"),
            ConnectFailed,
            ErrorKind.TIMEOUT,
            "no connection within 2 s",
        ),
        (
            wrapped(NewConnectionError(urllib3.connection.HTTPConnection("x"), "refused")),
            ConnectFailed,
            ErrorKind.OTHER,
            "refused",
        ),
        (requests.ReadTimeout("t"), ReadFailed, ErrorKind.TIMEOUT, "no response within 12 s"),
        (
            ReadTimeoutError(POOL, "/token", "t"),
            ReadFailed,
            ErrorKind.TIMEOUT,
            "no response within 12 s",
        ),
        (requests.ConnectionError("closed"), ReadFailed, ErrorKind.OTHER, "closed"),
        (
            wrapped(ProtocolError("a", ConnectionResetError(104, "reset"))),
            ReadFailed,
            ErrorKind.RESET,
            "reset",
        ),
        (
            requests.exceptions.ProxyError(OSError("Tunnel connection failed: 502")),
            ReadFailed,
            ErrorKind.PROXY,
            "502",
        ),
        (
            requests.exceptions.ProxyError(OSError("Tunnel connection failed: 407 Login")),
            ReadFailed,
            ErrorKind.PROXY_AUTHENTICATION,
            "407 Login",
        ),
        (requests.RequestException(), ReadFailed, ErrorKind.OTHER, "RequestException"),
        (requests.ConnectionError("s3cret-value"), ReadFailed, ErrorKind.OTHER, "<hidden>"),
    ],
)
def test_connection_errors_are_converted(
    error: Exception, expected: type[Exception], kind: ErrorKind, text: str
) -> None:
    converted = transport_error_from_requests(error, REQUEST)
    assert isinstance(converted, TransportError)
    assert (type(converted), converted.kind) == (expected, kind)
    assert str(converted).endswith(text)


@pytest.mark.parametrize(
    "error",
    [
        requests.exceptions.InvalidURL("x"),
        requests.exceptions.InvalidSchema("x"),
        requests.exceptions.MissingSchema("x"),
        requests.exceptions.InvalidHeader("x"),
        LocationValueError("x"),
    ],
)
def test_request_that_cannot_be_sent_is_an_invalid_setting(error: Exception) -> None:
    failure = transport_error_from_requests(error, REQUEST)
    assert isinstance(failure, Failure)
    assert failure.reason is Reason.INVALID_SETTING


@pytest.mark.parametrize("certificate", ["", "ab" * 20])
@pytest.mark.parametrize(
    "reason", [ssl.SSLCertVerificationError("bad"), urllib3.exceptions.SSLError("bad")]
)
def test_untrusted_certificate_is_a_failure_with_a_remedy(
    reason: Exception, certificate: str
) -> None:
    request = Request("https://x/token", {}, certificate=certificate)
    failure = transport_error_from_requests(wrapped(reason), request)
    assert isinstance(failure, Failure)
    assert failure.reason is Reason.TLS
    assert "bad" in failure.problem
    assert ("REQUESTS_CA_BUNDLE" in failure.hint) is not bool(certificate)


def test_session_follows_no_redirect_and_keeps_no_cookie() -> None:
    head = b"HTTP/1.1 302 Found\r\nLocation: /other\r\nSet-Cookie: a=b\r\nConnection: close\r\n\r\n"
    with RawServer(head) as server, BoundedSession(RealTimeClock()) as session:
        assert not session.trust_env
        for _ in range(2):
            assert session.get(server.url, timeout=(2, 12)).status_code == 302
    assert len(server.requests) == 2
    assert b"ookie" not in server.requests[1]


def test_response_has_lower_case_names_and_its_times() -> None:
    clock = RealTimeClock()
    with RawServer(b"HTTP/1.1 200 OK\r\nX-Name: V\r\nContent-Length: 2\r\n\r\n{}") as server:
        before = clock.now()
        response = send_by_requests(Request(server.url, {}), clock)
    assert (response.status, response.body, response.headers["x-name"]) == (200, b"{}", "V")
    assert before <= response.sent_at <= response.received_at <= clock.now()
    assert abs(response.received_wall - clock.wall()) < 60


def test_default_ports_of_both_schemes_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    ports: list[int] = []

    def refuse(_host: str, port: int, *_: object) -> None:
        ports.append(port)
        raise ConnectFailed("refused")

    monkeypatch.setattr("imds_identity._http.requests_transport.connect", refuse)
    for url in ("http://x.example/", "https://x.example/", "https://x.example:8443/"):
        with pytest.raises(ConnectFailed):
            send_by_requests(Request(url, {}), RealTimeClock())
    assert ports == [80, 443, 8443]
