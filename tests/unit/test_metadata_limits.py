"""The rate limit of metadata requests, and their timeouts."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from imds_identity._core.failure import Refused
from imds_identity._http.exchange import Pause, ReadFailed
from imds_identity._http.messages import Request, Response
from imds_identity._shared_cache.rate_limit import METADATA_LIMITS, ProcessRateLimiter, RateLimiter
from imds_identity.emulator import Emulator
from imds_identity.metadata import MetadataClient, MetadataError
from imds_identity.metadata._requests import exchanges
from imds_identity.metadata._requests.connection import MetadataConnection
from imds_identity.metadata._requests.endpoint import ServiceEndpoint
from imds_identity.metadata._requests.exchanges import FIRST_EVENTS_SECONDS
from metadata_support import FakeService, event
from support import ExchangeDriver, FakeClock, ResponseFactory, no_jitter

if TYPE_CHECKING:
    from pathlib import Path

ENDPOINT = ServiceEndpoint("http://service", no_jitter)


def no_heartbeat(seconds: float) -> None:
    """Ignore the heartbeat."""


def test_at_most_five_requests_of_a_process_start_in_any_second(clock: FakeClock) -> None:
    limiter = ProcessRateLimiter(clock, no_jitter, METADATA_LIMITS)
    starts: list[float] = []
    for number in range(200):
        with limiter.acquire(12, no_heartbeat):
            starts.append(clock.now())
        clock.seconds += 0.03 * (number % 7)
    assert all(sum(start <= other < start + 1 for other in starts) <= 5 for start in starts)
    # After a pause, a request starts immediately.
    clock.seconds += 60
    clock.slept.clear()
    with limiter.acquire(12, no_heartbeat):
        assert clock.slept == []


def test_processes_share_the_limit_if_they_share_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", str(tmp_path / "cache"))
    assert isinstance(MetadataConnection("http://127.0.0.1:9")._rate_limiter(), RateLimiter)
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", "off")
    assert isinstance(MetadataConnection("http://127.0.0.1:9")._rate_limiter(), ProcessRateLimiter)
    assert (
        MetadataConnection("http://127.0.0.1:9")._rate_limiter()
        is MetadataConnection("http://127.0.0.1:9")._rate_limiter()
    )
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", "perhaps")
    with pytest.raises(ValueError, match="IMDS_IDENTITY_CACHE"):
        MetadataConnection("http://127.0.0.1:9")


def test_constructor_does_not_access_the_shared_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may run in the thread of an event loop, and the directory may hang."""
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", str(tmp_path / "cache"))
    connection = MetadataConnection("http://127.0.0.1:9")
    assert not (tmp_path / "cache").exists()
    connection._rate_limiter()
    assert (tmp_path / "cache").exists()


def test_an_arc_agent_is_contacted_by_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://localhost:40342/metadata/identity/oauth2/token")
    monkeypatch.setenv("IMDS_ENDPOINT", "http://localhost:40342")
    endpoint = MetadataClient()._fetcher.endpoint
    assert endpoint.base == "http://127.0.0.1:40342"
    assert endpoint.headers == {"Metadata": "true", "Host": "localhost:40342"}


@pytest.mark.skipif(sys.platform == "win32", reason="shared by default on Linux only")
def test_three_processes_together_stay_within_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", str(tmp_path / "cache"))
    script = (
        "import sys; from imds_identity.metadata import MetadataClient\n"
        "client = MetadataClient(endpoint=sys.argv[1])\n"
        "for _ in range(4): client.instance(refresh=True)"
    )
    with Emulator(key_vault=False, limits=True) as emulator:
        processes = [
            subprocess.Popen([sys.executable, "-c", script, emulator.endpoint]) for _ in range(3)
        ]
        assert [process.wait(60) for process in processes] == [0, 0, 0]
        statuses = [request.status for request in emulator.requests]
    # On a busy machine one request may be delayed into the next interval.
    assert statuses.count(200) == 12
    assert statuses.count(429) <= 1


@pytest.mark.parametrize(("first", "seconds"), [(True, 120), (False, 11)])
def test_a_response_within_the_timeout_is_accepted(first: bool, seconds: float) -> None:
    driver = ExchangeDriver(exchanges.events(ENDPOINT, first=first))
    assert seconds < driver.step.request.seconds
    found = driver.finish(Response(200, {}, b'{"Events": []}', 1000, 1000 + seconds, 0))
    assert found[0] == {"Events": []}


def test_a_response_after_the_timeout_was_read_by_a_suspended_process() -> None:
    driver = ExchangeDriver(exchanges.events(ENDPOINT, first=True))
    late = Response(200, {}, b'{"Events": []}', 1000, 1001 + FIRST_EVENTS_SECONDS, 0)
    assert isinstance(driver.respond(late), Pause)
    once = ExchangeDriver(exchanges.events(replace(ENDPOINT, retry=False), first=True))
    with pytest.raises(Refused):
        once.respond(late)


def test_a_slow_first_request_for_events_may_be_retried(clock: FakeClock) -> None:
    service, responses = FakeService(clock), ResponseFactory(clock)
    send = service.send

    def slow(request: Request) -> Response:
        if len(service.requested) == 2:
            return send(request)
        service.requested.append("enabling")
        clock.seconds += 119
        return responses.raw(410)

    service.send = slow  # type: ignore[method-assign]
    service.events = [event("A")]
    (found,) = service.client().scheduled_events().events
    assert found.event_id == "A"


def test_requests_for_events_time_out_even_the_first_time(clock: FakeClock) -> None:
    service = FakeService(clock)
    send = service.send

    def slow(request: Request) -> Response:
        if "scheduledevents" not in request.url:
            return send(request)
        clock.seconds += request.seconds
        raise ReadFailed("no response")

    service.send = slow  # type: ignore[method-assign]
    client = service.client()
    with pytest.raises(MetadataError):
        client.scheduled_events()
    assert clock.now() - 1000 < 600
    service.send = send  # type: ignore[method-assign]
    client.scheduled_events()
    service.send = slow  # type: ignore[method-assign]
    before = clock.now()
    with pytest.raises(MetadataError):
        client.scheduled_events()
    assert clock.now() - before <= 112
