"""The HTTP client of ``rest`` and ``secret``: retries, redirects, paging and operations."""

from __future__ import annotations

import socket
import ssl
import threading
import urllib.request
from typing import TYPE_CHECKING, Any, cast
from urllib.error import URLError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._core.failure import Unavailable
from imds_identity.cli._api import paging, sender
from imds_identity.cli._api.client import ApiClient, ApiError
from imds_identity.cli._api.hosts import origin_url
from imds_identity.cli._api.operation import LongRunningOperation
from imds_identity.cli._api.paging import all_pages
from imds_identity.cli._api.sender import ApiRequest
from support import FakeHttpResponse as Response
from support import RawServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from imds_identity.cli._api.sender import ApiResponse
    from support import FakeClock

ARM = "https://management.azure.com"
ITEM = f"{ARM}/subscriptions/s/items/i?api-version=1"


class Service:
    """Sends scripted responses and records the requests."""

    def __init__(self, clock: FakeClock, *responses: Response | OSError) -> None:
        self.requests: list[tuple[str, str]] = []
        self.tokens: list[str] = []
        self.claims: list[str | None] = []
        self.client = ApiClient(self._send, self._token, clock)
        self._responses = list(responses)

    def _token(self, claims: str | None) -> str:
        self.claims.append(claims)
        return f"token-{len(self.claims)}"

    def _send(self, request: ApiRequest, token: str) -> ApiResponse:
        self.requests.append((request.method, request.url))
        self.tokens.append(token)
        response = self._responses.pop(0)
        if isinstance(response, OSError):
            raise response
        return cast("ApiResponse", response)


def test_throttled_request_is_retried(clock: FakeClock) -> None:
    service = Service(
        clock, Response(429, Retry_After="7"), Response(503), Response(429), Response(200, {"a": 1})
    )
    assert service.client.request(ApiRequest("GET", ITEM)).status == 200
    assert clock.slept == [7.0, 4.0, 8.0]


def test_retry_after_may_be_a_date(clock: FakeClock) -> None:
    from email.utils import formatdate

    date = formatdate(clock.wall() + 30, usegmt=True)
    service = Service(clock, Response(429, Retry_After=date), Response(200))
    service.client.request(ApiRequest("POST", ITEM))
    assert clock.slept == [pytest.approx(30, abs=1)]


def test_unknown_host_is_reported_without_its_error_number(clock: FakeClock) -> None:
    service = Service(clock, URLError(socket.gaierror(-2, "Name or service not known")))
    with pytest.raises(ApiError, match=f"^{ARM}: Name or service not known$"):
        service.client.request(ApiRequest("GET", ITEM))


def test_number_and_length_of_pauses_are_limited(clock: FakeClock) -> None:
    service = Service(clock, Response(429, Retry_After="86400"))
    assert service.client.request(ApiRequest("GET", ITEM)).status == 429
    service = Service(clock, *(Response(429, Retry_After="1") for _ in range(6)))
    assert service.client.request(ApiRequest("GET", ITEM)).status == 429
    assert clock.slept == [1.0] * 5


def test_unsafe_request_is_not_repeated_after_an_error(clock: FakeClock) -> None:
    service = Service(clock, Response(503, Retry_After="1"))
    assert service.client.request(ApiRequest("POST", ITEM)).status == 503
    assert clock.slept == []


@pytest.mark.parametrize(
    "location",
    [
        "https://evil.example/",
        "//evil.example/",
        "http://management.azure.com/",
        "https://management.azure.com:444/",
        "https://management.azure.com@evil.example/",
        "https://management.azure.com.evil.example/",
        "file:///etc/passwd",
        "https://[",
    ],
)
def test_token_is_not_sent_to_another_host(clock: FakeClock, location: str) -> None:
    service = Service(clock, Response(302, Location=location))
    with pytest.raises(ApiError, match="refusing to follow a link to another host"):
        service.client.request(ApiRequest("GET", ITEM))
    for header in ("Location", "Azure_AsyncOperation", "Operation_Location"):
        response = cast("ApiResponse", Response(202, **{header: location}))
        with pytest.raises(ApiError, match="refusing to follow a link to another host"):
            LongRunningOperation(service.client, ApiRequest("POST", ITEM), print).wait(response)
    service = Service(clock, Response(200, {"value": [], "nextLink": location}))
    with pytest.raises(ApiError, match="refusing to follow a link to another host"):
        all_pages(service.client, ApiRequest("GET", ITEM))
    assert len(service.requests) == 1


def test_redirect_on_the_same_host_is_followed(clock: FakeClock) -> None:
    service = Service(clock, Response(307, Location="/elsewhere"), Response(200))
    service.client.request(ApiRequest("GET", ITEM))
    assert service.requests == [("GET", ITEM), ("GET", f"{ARM}/elsewhere")]
    service = Service(clock, Response(307, Location="/elsewhere"))
    with pytest.raises(ApiError, match="redirects"):
        service.client.request(ApiRequest("DELETE", ITEM))
    service = Service(clock, *(Response(307, Location="/elsewhere") for _ in range(9)))
    with pytest.raises(ApiError, match="more than 5 times"):
        service.client.request(ApiRequest("GET", ITEM))


@pytest.mark.parametrize("url", ["http://management.azure.com/", "https://a@b/", "ftp://a", "x"])
def test_token_is_sent_over_https_only(clock: FakeClock, url: str) -> None:
    service = Service(clock)
    with pytest.raises(ValueError, match=r"https|URL"):
        service.client.request(ApiRequest("GET", url))
    assert service.tokens == []


def test_claims_challenge_is_answered_once(clock: FakeClock) -> None:
    challenge = 'Bearer error="insufficient_claims", claims="eyJhIjogMX0="'
    rejections = [Response(401, WWW_Authenticate=challenge) for _ in range(2)]
    service = Service(clock, *rejections)
    assert service.client.request(ApiRequest("GET", ITEM)).status == 401
    assert service.claims == [None, '{"a": 1}']
    assert service.tokens == ["token-1", "token-2"]


def test_error_message_hides_the_token(clock: FakeClock) -> None:
    service = Service(clock, OSError(0, "no route to Bearer token-123456"))
    with pytest.raises(ApiError) as raised:
        service.client.request(ApiRequest("GET", ITEM))
    assert str(raised.value).startswith(f"{ARM}: ")
    assert "token-1" not in str(raised.value)
    assert raised.value.__context__ is None

    def no_token(_claims: str | None) -> str:
        raise Unavailable("no identity here")

    with pytest.raises(ApiError, match="no identity here"):
        ApiClient(service._send, no_token, clock).request(ApiRequest("GET", ITEM))


def test_pages_are_joined_to_one_list(clock: FakeClock) -> None:
    service = Service(
        clock,
        Response(200, {"value": [1, 2], "nextLink": f"{ARM}/next?page=2"}),
        Response(200, {"value": [], "@odata.nextLink": "/next?page=3"}),
        Response(200, {"value": [3], "nextLink": None}),
    )
    assert all_pages(service.client, ApiRequest("GET", ITEM)) == [1, 2, 3]
    assert [url for _, url in service.requests][1:] == [f"{ARM}/next?page=2", f"{ARM}/next?page=3"]


@pytest.mark.parametrize(
    "page", [Response(200, [1]), Response(200, {"value": 1}), Response(404), Response(200)]
)
def test_response_without_a_list_of_values_is_an_error(clock: FakeClock, page: Response) -> None:
    with pytest.raises(ApiError):
        all_pages(Service(clock, page).client, ApiRequest("GET", ITEM))


def test_loop_of_pages_is_an_error(clock: FakeClock) -> None:
    service = Service(clock, *(Response(200, {"value": [], "nextLink": ITEM}) for _ in range(2)))
    with pytest.raises(ApiError, match="form a loop"):
        all_pages(service.client, ApiRequest("GET", ITEM))


def test_endless_list_is_an_error(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [Response(200, {"value": ["x" * 90], "nextLink": f"/{i}"}) for i in range(9)]
    monkeypatch.setattr(paging, "_MAX_PAGES", 5)
    with pytest.raises(ApiError, match="more than 5 pages"):
        all_pages(Service(clock, *pages).client, ApiRequest("GET", ITEM))
    monkeypatch.setattr(paging, "_MAX_BYTES", 300)
    with pytest.raises(ApiError, match="or 300 bytes"):
        all_pages(Service(clock, *pages[:4]).client, ApiRequest("GET", ITEM))


def waited(service: Service, method: str, response: Response) -> tuple[int, list[str]]:
    lines: list[str] = []
    first = cast("ApiResponse", response)
    last = LongRunningOperation(service.client, ApiRequest(method, ITEM), lines.append).wait(first)
    return last.status, lines


def test_operation_is_polled_by_its_status_url(clock: FakeClock) -> None:
    service = Service(
        clock,
        Response(200, {"status": "InProgress"}, Retry_After="3"),
        Response(200, {"status": "Succeeded"}),
        Response(200, {"name": "i"}),
    )
    accepted = Response(201, {}, Azure_AsyncOperation=f"{ARM}/operations/o")
    status, lines = waited(service, "PUT", accepted)
    assert status == 200
    assert [url for _, url in service.requests] == [f"{ARM}/operations/o"] * 2 + [ITEM]
    assert clock.slept == [10.0, 3.0]
    assert lines == ["InProgress after 10 s", "Succeeded after 13 s", ""]


def test_operation_is_polled_by_its_location(clock: FakeClock) -> None:
    service = Service(clock, Response(202, Location="/later/2", Retry_After="1"), Response(204))
    accepted = Response(202, Location=f"{ARM}/later", Retry_After="2")
    assert waited(service, "DELETE", accepted)[0] == 204
    assert [url for _, url in service.requests] == [f"{ARM}/later", f"{ARM}/later/2"]
    assert clock.slept == [2.0, 1.0]


def test_operation_is_polled_by_its_resource(clock: FakeClock) -> None:
    states = ("Creating", "Succeeded")
    pages = [Response(200, {"properties": {"provisioningState": state}}) for state in states]
    service = Service(clock, *pages[1:], Response(200, {}))
    assert waited(service, "PUT", pages[0])[0] == 200
    assert clock.slept == [10.0]


@pytest.mark.parametrize("status", ["Failed", "Canceled"])
def test_failed_operation_is_an_error(clock: FakeClock, status: str) -> None:
    body = {"status": status, "error": {"code": "Quota", "message": "exceeded"}}
    service = Service(clock, Response(200, body))
    with pytest.raises(ApiError, match="Quota"):
        waited(service, "POST", Response(202, Azure_AsyncOperation=f"{ARM}/operations/o"))


@pytest.mark.parametrize("body", [[], {}, {"status": 7}, None])
def test_operation_without_a_status_is_an_error(clock: FakeClock, body: Any) -> None:
    service = Service(clock, Response(200, body))
    with pytest.raises(ApiError, match="lacks the operation's status"):
        waited(service, "POST", Response(202, Azure_AsyncOperation=f"{ARM}/operations/o"))


def test_completed_request_is_not_polled(clock: FakeClock) -> None:
    service = Service(clock)
    assert waited(service, "POST", Response(200))[0] == 200
    assert waited(service, "GET", Response(404, Location="https://evil.example"))[0] == 404
    assert clock.slept == []


@pytest.fixture
def exchanged(tmp_path: Path) -> Callable[..., ApiResponse]:
    """Send a request to a TLS server with a scripted response."""
    pytest.importorskip("cryptography")
    from imds_identity.emulator._pki.certificates import Authority, pem, server_context

    authority = Authority("test")
    tls = server_context(authority, tmp_path, "127.0.0.1")
    trust = ssl.create_default_context(cadata=pem(authority.certificate).decode())

    def exchange(*response: Any) -> ApiResponse:
        with RawServer(*response, tls=tls) as server:
            client = ApiClient(sender.Sender(trust), lambda _: "token")
            return client.request(ApiRequest("GET", f"{server.url}/"))

    return exchange


def test_complete_response_is_returned(exchanged: Callable[..., ApiResponse]) -> None:
    response = exchanged(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    assert (response.status, response.body) == (200, b"hello")


def test_endless_response_is_an_error(
    exchanged: Callable[..., ApiResponse], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "_MAX_BODY", 100_000)
    with pytest.raises(ApiError, match="larger than 100000 bytes"):
        exchanged(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536, 0.0)
    with pytest.raises(ApiError, match="more than 65536 bytes when reading header line"):
        exchanged(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 65536, 0.0)


def test_endlessly_slow_response_is_an_error(
    exchanged: Callable[..., ApiResponse], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "_RESPONSE_SECONDS", 0.2)
    for head in (b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: ", b""):
        with pytest.raises(ApiError, match=r"no complete response within 0\.2 s"):
            exchanged(head, b"x", 0.01)


def test_slow_name_server_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    done, resolve = threading.Event(), socket.getaddrinfo

    def slow(host: Any, port: Any, family: int = 0, kind: int = 0, *rest: int) -> Any:
        # A number is resolved without a name server, with flags.
        return done.wait(60) if not any(rest) else resolve("x", port, family, kind, *rest)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    monkeypatch.setattr(sender, "_TIMEOUT_SECONDS", 0.05)
    client = ApiClient(sender.Sender(ssl.create_default_context()), lambda _: "token")
    with pytest.raises(ApiError, match="its name was not resolved within"):
        client.request(ApiRequest("GET", "https://my.vault.azure.net/"))
    done.set()


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"nonsense\r\n\r\n",
        b"",
    ],
)
def test_incomplete_or_invalid_response_is_an_error(
    exchanged: Callable[..., ApiResponse], response: bytes
) -> None:
    with pytest.raises(ApiError, match=r"^https://127\.0\.0\.1:"):
        exchanged(response)


HOSTS_THAT_CHANGE = [
    "[::1%25.vault.azure.net]",
    "[::1%25eth0]",
    "evil%2ecom%23.vault.azure.net",
    "127.0.0.1%00.vault.azure.net",
    "evil.com;.vault.azure.net",
    "a_b.vault.azure.net",
    "$(id).vault.azure.net",
    "...",
    "account.blob.core.chinacloudapi.cn.",
    "a..vault.azure.net",
]


@pytest.mark.parametrize("host", HOSTS_THAT_CHANGE)
def test_host_names_have_only_letters_digits_hyphens_and_dots(clock: FakeClock, host: str) -> None:
    service = Service(clock)
    with pytest.raises(ValueError, match=r"invalid (host name|URL)"):
        service.client.request(ApiRequest("GET", f"https://{host}/secrets/a"))
    assert service.tokens == []


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60))
def test_urllib_connects_to_the_host_that_was_checked(text: str) -> None:
    """It decodes percent signs, for example."""
    try:
        origin = origin_url(f"https://{text}.vault.azure.net/x")
    except ValueError:
        return
    request = urllib.request.Request(f"https://{text}.vault.azure.net/x")
    assert request.host.lower().removesuffix(":443").removesuffix(":") == origin.removeprefix(
        "https://"
    )
