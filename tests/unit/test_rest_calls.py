"""What ``imds-identity rest`` sends, and to whom."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, cast
from urllib.error import URLError

import pytest

from imds_identity._core.failure import Unavailable
from imds_identity.cli._api.operation import Operation
from imds_identity.cli._api.paging import all_pages
from imds_identity.cli._api.sending import Call, Caller, Problem
from support import HttpAnswer as Answer

if TYPE_CHECKING:
    from http.client import HTTPResponse

    from support import FakeClock

ARM = "https://management.azure.com"
ITEM = f"{ARM}/subscriptions/s/items/i?api-version=1"


class Service:
    """Gives what it was told to, in turn, and remembers what it was asked."""

    def __init__(self, clock: FakeClock, *responses: Answer | OSError) -> None:
        self.calls: list[tuple[str, str]] = []
        self.tokens: list[str] = []
        self.claims: list[str | None] = []
        self.caller = Caller(self._send, self._token, clock)
        self._answers = list(responses)

    def _token(self, claims: str | None) -> str:
        self.claims.append(claims)
        return f"token-{len(self.claims)}"

    def _send(self, call: Call, token: str) -> HTTPResponse:
        self.calls.append((call.method, call.url))
        self.tokens.append(token)
        answer = self._answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return cast("HTTPResponse", answer)


def test_throttling_is_waited_out(clock: FakeClock) -> None:
    service = Service(
        clock, Answer(429, Retry_After="7"), Answer(503), Answer(429), Answer(200, {"a": 1})
    )
    assert service.caller.call(Call("GET", ITEM)).status == 200
    assert clock.slept == [7.0, 4.0, 8.0]


def test_a_date_is_waited_for(clock: FakeClock) -> None:
    from email.utils import formatdate

    when = formatdate(clock.wall() + 30, usegmt=True)
    service = Service(clock, Answer(429, Retry_After=when), Answer(200))
    service.caller.call(Call("POST", ITEM))
    assert clock.slept == [pytest.approx(30, abs=1)]


def test_a_name_that_is_not_known_is_told_without_its_number(clock: FakeClock) -> None:
    service = Service(clock, URLError(socket.gaierror(-2, "Name or service not known")))
    with pytest.raises(Problem, match=f"^{ARM}: Name or service not known$"):
        service.caller.call(Call("GET", ITEM))


def test_nobody_waits_for_ever(clock: FakeClock) -> None:
    service = Service(clock, Answer(429, Retry_After="86400"))
    assert service.caller.call(Call("GET", ITEM)).status == 429
    service = Service(clock, *(Answer(429, Retry_After="1") for _ in range(6)))
    assert service.caller.call(Call("GET", ITEM)).status == 429
    assert clock.slept == [1.0] * 5


def test_what_may_have_been_done_is_not_done_again(clock: FakeClock) -> None:
    service = Service(clock, Answer(503, Retry_After="1"))
    assert service.caller.call(Call("POST", ITEM)).status == 503
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
def test_the_token_crosses_to_no_other_host(clock: FakeClock, location: str) -> None:
    service = Service(clock, Answer(302, Location=location))
    with pytest.raises(Problem, match="gets no token"):
        service.caller.call(Call("GET", ITEM))
    for header in ("Location", "Azure_AsyncOperation", "Operation_Location"):
        answer = cast("HTTPResponse", Answer(202, **{header: location}))
        with pytest.raises(Problem, match="gets no token"):
            Operation(service.caller, Call("POST", ITEM), print).wait(answer)
    service = Service(clock, Answer(200, {"value": [], "nextLink": location}))
    with pytest.raises(Problem, match="gets no token"):
        all_pages(service.caller, Call("GET", ITEM))
    assert len(service.calls) == 1


def test_a_redirect_on_the_same_host_is_followed(clock: FakeClock) -> None:
    service = Service(clock, Answer(307, Location="/elsewhere"), Answer(200))
    service.caller.call(Call("GET", ITEM))
    assert service.calls == [("GET", ITEM), ("GET", f"{ARM}/elsewhere")]
    service = Service(clock, Answer(307, Location="/elsewhere"))
    with pytest.raises(Problem, match="redirects"):
        service.caller.call(Call("DELETE", ITEM))
    service = Service(clock, *(Answer(307, Location="/elsewhere") for _ in range(9)))
    with pytest.raises(Problem, match="again and again"):
        service.caller.call(Call("GET", ITEM))


@pytest.mark.parametrize("url", ["http://management.azure.com/", "https://a@b/", "ftp://a", "x"])
def test_https_is_all_that_is_spoken(clock: FakeClock, url: str) -> None:
    service = Service(clock)
    with pytest.raises(ValueError, match=r"https|URL"):
        service.caller.call(Call("GET", url))
    assert service.tokens == []


def test_a_claims_challenge_is_met_once(clock: FakeClock) -> None:
    challenge = 'Bearer error="insufficient_claims", claims="eyJhIjogMX0="'
    refused = [Answer(401, WWW_Authenticate=challenge) for _ in range(2)]
    service = Service(clock, *refused)
    assert service.caller.call(Call("GET", ITEM)).status == 401
    assert service.claims == [None, '{"a": 1}']
    assert service.tokens == ["token-1", "token-2"]


def test_what_goes_wrong_is_told_without_the_token(clock: FakeClock) -> None:
    service = Service(clock, OSError(0, "no route to Bearer token-123456"))
    with pytest.raises(Problem) as raised:
        service.caller.call(Call("GET", ITEM))
    assert str(raised.value).startswith(f"{ARM}: ")
    assert "token-1" not in str(raised.value)
    assert raised.value.__context__ is None

    def none(_claims: str | None) -> str:
        raise Unavailable("no identity here")

    with pytest.raises(Problem, match="no identity here"):
        Caller(service._send, none, clock).call(Call("GET", ITEM))


def test_pages_are_one_list(clock: FakeClock) -> None:
    service = Service(
        clock,
        Answer(200, {"value": [1, 2], "nextLink": f"{ARM}/next?page=2"}),
        Answer(200, {"value": [], "@odata.nextLink": "/next?page=3"}),
        Answer(200, {"value": [3], "nextLink": None}),
    )
    assert all_pages(service.caller, Call("GET", ITEM)) == [1, 2, 3]
    assert [url for _, url in service.calls][1:] == [f"{ARM}/next?page=2", f"{ARM}/next?page=3"]


@pytest.mark.parametrize(
    "page", [Answer(200, [1]), Answer(200, {"value": 1}), Answer(404), Answer(200)]
)
def test_what_is_no_page_is_an_error(clock: FakeClock, page: Answer) -> None:
    with pytest.raises(Problem):
        all_pages(Service(clock, page).caller, Call("GET", ITEM))


def test_pages_in_a_circle_end(clock: FakeClock) -> None:
    service = Service(clock, *(Answer(200, {"value": [], "nextLink": ITEM}) for _ in range(2)))
    with pytest.raises(Problem, match="lead back"):
        all_pages(service.caller, Call("GET", ITEM))


def waited(service: Service, method: str, answer: Answer) -> tuple[int, list[str]]:
    lines: list[str] = []
    first = cast("HTTPResponse", answer)
    last = Operation(service.caller, Call(method, ITEM), lines.append).wait(first)
    return last.status, lines


def test_an_operation_is_followed_by_its_status(clock: FakeClock) -> None:
    service = Service(
        clock,
        Answer(200, {"status": "InProgress"}, Retry_After="3"),
        Answer(200, {"status": "Succeeded"}),
        Answer(200, {"name": "i"}),
    )
    begun = Answer(201, {}, Azure_AsyncOperation=f"{ARM}/operations/o")
    status, lines = waited(service, "PUT", begun)
    assert status == 200
    assert [url for _, url in service.calls] == [f"{ARM}/operations/o"] * 2 + [ITEM]
    assert clock.slept == [10.0, 3.0]
    assert lines == ["InProgress after 10 s", "Succeeded after 13 s", ""]


def test_an_operation_is_followed_by_its_location(clock: FakeClock) -> None:
    service = Service(clock, Answer(202, Location="/later/2", Retry_After="1"), Answer(204))
    begun = Answer(202, Location=f"{ARM}/later", Retry_After="2")
    assert waited(service, "DELETE", begun)[0] == 204
    assert [url for _, url in service.calls] == [f"{ARM}/later", f"{ARM}/later/2"]
    assert clock.slept == [2.0, 1.0]


def test_an_operation_is_followed_by_the_resource(clock: FakeClock) -> None:
    states = ("Creating", "Succeeded")
    pages = [Answer(200, {"properties": {"provisioningState": state}}) for state in states]
    service = Service(clock, *pages[1:], Answer(200, {}))
    assert waited(service, "PUT", pages[0])[0] == 200
    assert clock.slept == [10.0]


@pytest.mark.parametrize("status", ["Failed", "Canceled"])
def test_an_operation_that_fails_is_an_error(clock: FakeClock, status: str) -> None:
    said = {"status": status, "error": {"code": "Quota", "message": "exceeded"}}
    service = Service(clock, Answer(200, said))
    with pytest.raises(Problem, match="Quota"):
        waited(service, "POST", Answer(202, Azure_AsyncOperation=f"{ARM}/operations/o"))


@pytest.mark.parametrize("said", [[], {}, {"status": 7}, None])
def test_an_operation_that_tells_nothing_is_an_error(clock: FakeClock, said: Any) -> None:
    service = Service(clock, Answer(200, said))
    with pytest.raises(Problem, match="does not say"):
        waited(service, "POST", Answer(202, Azure_AsyncOperation=f"{ARM}/operations/o"))


def test_what_is_over_at_once_is_not_waited_for(clock: FakeClock) -> None:
    service = Service(clock)
    assert waited(service, "POST", Answer(200))[0] == 200
    assert waited(service, "GET", Answer(404, Location="https://evil.example"))[0] == 404
    assert clock.slept == []
