"""Five metadata requests a second, whoever sends them; and how long one may take."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from imds_identity._core.failure import Refused
from imds_identity._http.exchange import Pause, ReadFailed
from imds_identity._http.messages import Request, Response
from imds_identity._shared_cache.rate_limit import RateLimiter
from imds_identity.emulator import Emulator
from imds_identity.metadata import MetadataClient, MetadataError
from imds_identity.metadata._requests import exchanges
from imds_identity.metadata._requests.connection import Connection
from imds_identity.metadata._requests.exchanges import FIRST_EVENTS_SECONDS
from imds_identity.metadata._requests.exchanges import Service as Asked
from imds_identity.metadata._requests.rate_limit import Pace
from metadata_support import Service, event
from support import ExchangeDriver, FakeClock, ResponseFactory, no_jitter

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = Asked("http://service", no_jitter)


def nobody(seconds: float) -> None:
    """Nobody waits."""


def test_no_more_than_five_begin_in_any_second_of_a_process(clock: FakeClock) -> None:
    pace = Pace(clock, 4)
    starts: list[float] = []
    for number in range(200):
        with pace.acquire(12, nobody):
            starts.append(clock.now())
        clock.seconds += 0.03 * (number % 7)
    assert all(sum(start <= other < start + 1 for other in starts) <= 5 for start in starts)
    # Whoever comes after a while is not made to wait.
    clock.seconds += 60
    clock.slept.clear()
    with pace.acquire(12, nobody):
        assert clock.slept == []


def test_threads_never_take_the_same_turn(clock: FakeClock) -> None:
    pace = Pace(clock, 4)
    turns: list[int] = []

    def take() -> None:
        turns.extend(pace._taken(0) for _ in range(20))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(turns) == list(range(160))


def test_processes_share_the_limit_where_they_share_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", str(tmp_path / "cache"))
    assert isinstance(Connection("http://127.0.0.1:9")._rate_limiter, RateLimiter)
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", "off")
    assert isinstance(Connection("http://127.0.0.1:9")._rate_limiter, Pace)
    assert (
        Connection("http://127.0.0.1:9")._rate_limiter
        is Connection("http://127.0.0.1:9")._rate_limiter
    )
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", "perhaps")
    with pytest.raises(ValueError, match="IMDS_IDENTITY_CACHE"):
        Connection("http://127.0.0.1:9")


def test_an_arc_agent_is_asked_at_the_address_where_it_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://localhost:40342/metadata/identity/oauth2/token")
    monkeypatch.setenv("IMDS_ENDPOINT", "http://localhost:40342")
    service = MetadataClient()._service
    assert service.base == "http://127.0.0.1:40342"
    assert service.headers == {"Metadata": "true", "Host": "localhost:40342"}


@pytest.mark.skipif(sys.platform == "win32", reason="shared by default on Linux only")
def test_three_processes_together_keep_the_limit(
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
    # One may be held up by a busy machine and meet the next.
    assert statuses.count(200) == 12
    assert statuses.count(429) <= 1


@pytest.mark.parametrize(("first", "seconds"), [(True, 120), (False, 11)])
def test_an_answer_that_took_what_it_may_take_is_not_late(first: bool, seconds: float) -> None:
    stepped = ExchangeDriver(exchanges.events(SERVICE, first=first))
    assert seconds < stepped.step.request.seconds
    answer = stepped.finish(Response(200, {}, b'{"Events": []}', 1000, 1000 + seconds, 0))
    assert answer.document == {"Events": []}


def test_an_answer_that_took_longer_was_read_by_a_process_that_was_stopped() -> None:
    stepped = ExchangeDriver(exchanges.events(SERVICE, first=True))
    late = Response(200, {}, b'{"Events": []}', 1000, 1001 + FIRST_EVENTS_SECONDS, 0)
    assert isinstance(stepped.respond(late), Pause)
    once = ExchangeDriver(exchanges.events(SERVICE, first=True, retry=False))
    with pytest.raises(Refused):
        once.respond(late)


def test_what_enables_events_may_be_slow_and_end_in_one_more_request(clock: FakeClock) -> None:
    service, responses = Service(clock), ResponseFactory(clock)
    send = service.send

    def slow(request: Request) -> Response:
        if len(service.asked) == 2:
            return send(request)
        service.asked.append("enabling")
        clock.seconds += 119
        return responses.raw(410)

    service.send = slow  # type: ignore[method-assign]
    service.events = [event("A")]
    (found,) = service.client().scheduled_events().events
    assert found.event_id == "A"


def test_asking_for_events_has_an_end_even_the_first_time(clock: FakeClock) -> None:
    service = Service(clock)
    send = service.send

    def slow(request: Request) -> Response:
        if "scheduledevents" not in request.url:
            return send(request)
        clock.seconds += request.seconds
        raise ReadFailed("no answer")

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
