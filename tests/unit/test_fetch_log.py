"""What is logged of a fetch, and what an ``on_event`` hook receives."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from imds_identity._core.event import Event
from imds_identity._core.failure import Reason, Refused, Unavailable
from imds_identity._core.identity import SYSTEM_ASSIGNED, Identity
from imds_identity._core.token_request import TokenRequest
from imds_identity._http.exchange import ConnectFailed
from imds_identity._http.messages import Request, Response
from imds_identity._platform.environment import Environment
from imds_identity._sources.app_hosts.app_service import APP_SERVICE
from imds_identity._sources.azure_vm import ImdsSource
from imds_identity._sources.workload_identity import WorkloadSource
from imds_identity._token_cache.client import TokenClient
from imds_identity._token_cache.flight import FetchResult
from imds_identity._token_cache.notifications import (
    log_credential,
    log_failed_refresh,
    log_shared_token,
    notify,
)
from imds_identity._token_cache.options import CallOptions, FetchTrace
from imds_identity._token_cache.token_exchange import TokenExchange
from support import new_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imds_identity._http.runner import Sender
    from imds_identity._platform.clock import Clock
    from imds_identity._sources.host import TokenSource
    from imds_identity._token_cache.cache import TokenCache
    from support import FakeClock, ResponseFactory

ENDPOINT = "http://127.0.0.1:9/token"
SOURCE = ImdsSource(ENDPOINT)


def fetch(token_cache: TokenCache, send: Callable[[Request], Response]) -> None:
    @contextmanager
    def open_sender(_: Clock) -> Iterator[Sender]:
        yield send

    source = ImdsSource(ENDPOINT, "AZURE_POD_IDENTITY_AUTHORITY_HOST")
    options = CallOptions(logs_requests=True)
    client = TokenClient(source, SYSTEM_ASSIGNED, token_cache, None, options)
    client.token(client.entry("https://r"), None, open_sender)


def test_each_request_of_a_fetch_is_logged(
    token_cache: TokenCache,
    clock: FakeClock,
    responses: ResponseFactory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    busy = responses.error(503, retry_after="1", x_ms_request_id="an-id", more="not logged")
    busy.sent_at -= 0.25
    outcomes = [busy, responses.token()]
    fetch(token_cache, lambda _: outcomes.pop(0))
    url = f"{ENDPOINT}?api-version=2018-02-01&resource=https%3A%2F%2Fr"
    first, second, result = [record.getMessage() for record in caplog.records]
    assert first == (
        f"GET {url}: 503, 0.250 s, {len(busy.body)} bytes, "
        "content-type: application/json; charset=utf-8, retry-after: 1, x-ms-request-id: an-id"
    )
    assert second.startswith(f"GET {url}: 200, 0.000 s, ")
    assert result == (
        f"fetched a token for Azure VM (IMDS) at {ENDPOINT} for 'https://r' as system-assigned "
        "identity in 2000 ms, expires in 24 h 0 min"
    )


def test_requests_without_a_response_are_logged_with_the_reason(
    token_cache: TokenCache, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(request: Request) -> Response:
        raise ConnectFailed("refused")

    caplog.set_level("DEBUG")
    with pytest.raises(Unavailable, match="refused") as caught:
        fetch(token_cache, refuse)
    assert caught.value.reason is Reason.UNREACHABLE
    assert caught.value.request_summary == (
        f"Azure VM (IMDS) at {ENDPOINT} for 'https://r' as system-assigned identity"
    )
    lines = [record.getMessage() for record in caplog.records]
    assert all(line.endswith(": ConnectFailed") for line in lines[:-1])
    assert len(lines) == caught.value.attempts + 1
    assert "no managed identity is available after " in lines[-1]


def test_unexpected_error_names_the_request(token_cache: TokenCache) -> None:
    def fail(request: Request) -> Response:
        raise LookupError("a bug")

    with pytest.raises(Refused, match="LookupError: a bug") as caught:
        fetch(token_cache, fail)
    assert caught.value.reason is Reason.INTERNAL_ERROR
    assert caught.value.request_summary.startswith(f"Azure VM (IMDS) at {ENDPOINT} for")


def test_request_that_a_signal_handler_interrupts_is_logged(token_cache: TokenCache) -> None:
    def interrupt(request: Request) -> Response:
        raise KeyboardInterrupt

    source, token_request = ImdsSource(ENDPOINT), TokenRequest("https://r", SYSTEM_ASSIGNED)
    exchange = TokenExchange(source, token_request, token_cache, None, None, None, None)
    with pytest.raises(KeyboardInterrupt):
        exchange._logged(interrupt)(Request("http://x/", {}))
    assert exchange.trace.requests == ["GET http://x/: no response"]


def test_process_without_a_shared_cache_is_notified(
    token_cache: TokenCache, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    token_request = TokenRequest("https://r", SYSTEM_ASSIGNED)
    exchange = TokenExchange(SOURCE, token_request, token_cache, None, None, None, None)
    exchange.trace.requested = True
    token = new_token(clock)
    exchange.notify(FetchResult(token, token, clock.now(), 0.0, False))
    assert caplog.messages[0].startswith("fetched a token for Azure VM (IMDS)")


@pytest.mark.parametrize(
    ("requested", "refreshed", "event", "message"),
    [
        (True, False, ("fetch", "fetched"), "fetched a token for a-summary in 2500 ms"),
        (True, True, ("refresh", "fetched"), "refreshed a token for a-summary in 2500 ms"),
        (
            False,
            False,
            ("fetch", "shared"),
            "received from another process a token for a-summary in 2500 ms",
        ),
    ],
)
def test_token_is_reported_with_its_origin(
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
    requested: bool,
    refreshed: bool,
    event: tuple[str, str],
    message: str,
) -> None:
    caplog.set_level("DEBUG")
    token, trace, events = (
        new_token(clock, life=600),
        FetchTrace(lambda: "a-summary"),
        list[Event](),
    )
    trace.requested = requested
    result = FetchResult(token, token, clock.now() + 60, 2.5, refreshed)
    notify(SOURCE, CallOptions(on_event=events.append), trace, result)
    assert [tuple(each) for each in events] == [(event[0], "imds", event[1], 2.5, 540.0)]
    assert caplog.messages == [f"{message}, expires in 9 min"]


@pytest.mark.parametrize(
    ("failure", "outcome", "message"),
    [
        (Refused("no"), "refused", "fetching a token failed after 2.500 s: no."),
        (
            Unavailable("none"),
            "unavailable",
            "no managed identity is available after 2.500 s: none.",
        ),
    ],
)
def test_failure_is_reported_with_the_life_of_the_current_token(
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
    failure: Refused,
    outcome: str,
    message: str,
) -> None:
    caplog.set_level("DEBUG")
    events: list[Event] = []
    options = CallOptions(on_event=events.append)
    token = new_token(clock, life=600)
    for current, now in ((token, clock.now() + 60), (token, clock.now() + 700), (None, 0.0)):
        notify(
            SOURCE, options, FetchTrace(lambda: "s"), FetchResult(failure, current, now, 2.5, True)
        )
    assert [event.remaining for event in events] == [540.0, 0.0, 0.0]
    assert {(event.name, event.outcome) for event in events} == {("failure", outcome)}
    assert caplog.messages == [message] * 3


def test_error_of_a_hook_is_logged_with_its_traceback(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    def hook(event: Event) -> None:
        raise RuntimeError("of the hook")

    result = FetchResult(new_token(clock), None, clock.now(), 0.0, False)
    notify(SOURCE, CallOptions(on_event=hook), FetchTrace(lambda: "s"), result)
    assert caplog.messages == ["an on_event hook raised an exception"]
    assert "RuntimeError: of the hook" in caplog.text


def test_nothing_happens_without_logging_and_hooks(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    result = FetchResult(new_token(clock), None, clock.now(), 0.0, False)
    for options in (None, CallOptions()):
        notify(SOURCE, options, FetchTrace(lambda: "s"), result)
    assert not caplog.records


def test_failed_refresh_is_a_warning(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    token = new_token(clock, life=600)
    log_failed_refresh(token, clock.now() + 60, Refused("no"))
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        "refreshing a token failed; the current one is valid for 9 more minutes, and the next "
        "attempt is in 240 s: no."
    )


def test_token_of_another_process_is_logged(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    log_shared_token("a-summary", new_token(clock, life=600), clock.now() + 60)
    assert caplog.messages == ["using the token of another process for a-summary, valid for 9 min"]


@pytest.mark.parametrize(
    ("source", "identity", "message"),
    [
        (
            SOURCE,
            SYSTEM_ASSIGNED,
            "C will use Azure VM (IMDS) with the system-assigned identity",
        ),
        (
            APP_SERVICE.create_source(
                Environment({"IDENTITY_ENDPOINT": ENDPOINT, "IDENTITY_HEADER": "h"})
            ),
            Identity("client_id", "c"),
            f"C will use App Service at {ENDPOINT} with client_id 'c'",
        ),
        (
            WorkloadSource("https://x/t", "V", "c", "/token"),
            SYSTEM_ASSIGNED,
            "C will use workload identity at https://x/<hidden> with client_id 'c'",
        ),
    ],
)
def test_new_credential_logs_its_host_and_identity(
    source: TokenSource, identity: Identity, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    log_credential("C", source, identity)
    assert caplog.messages == [message]


def test_info_logs_a_fetched_token_and_its_expiry(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    trace, token = FetchTrace(lambda: "a-summary"), new_token(clock, life=86400)
    trace.requested, trace.requests = True, ["GET ..."]
    notify(SOURCE, None, trace, FetchResult(token, token, clock.now(), 0.012, False))
    assert caplog.messages == ["fetched a token for a-summary in 12 ms, expires in 24 h 0 min"]
