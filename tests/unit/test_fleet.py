"""docs/fleet.py goes by the package's rules, and docs/fleet.md says what it finds."""

from __future__ import annotations

import importlib.util
import sys
from contextlib import suppress
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._core.failure import Failure
from imds_identity._core.freshness import back_off_delay, refresh_delay
from imds_identity._core.identity import SYSTEM_ASSIGNED
from imds_identity._core.token_request import TokenRequest
from imds_identity._http.runner import ExchangeRunner
from imds_identity._sources.imds import exchange
from imds_identity._token_cache.cache import TokenCache
from support import KEY, BackgroundQueue, FakeClock, ResponseFactory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imds_identity._core.token import Token
    from imds_identity._http.exchange import Request, Response

DOCS = Path(__file__).parents[2] / "docs"
MACHINES = 1000


@pytest.fixture(scope="module")
def fleet() -> Any:
    """The simulation."""
    spec = importlib.util.spec_from_file_location("fleet", DOCS / "fleet.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["fleet"] = module
    spec.loader.exec_module(module)
    return module


def moments_simulated(fleet: Any, dice: Callable[[], float], is_down: Any) -> Iterator[float]:
    member = fleet.machine(0.0, dice)
    moment = next(member)
    while True:
        yield moment
        moment = member.send(fleet.DOWN if is_down(moment) else fleet.OK)


def moments_of_the_engine(dice: Callable[[], float], is_down: Any, count: int) -> list[float]:
    """When the engine itself asks, used all the time, on a clock that stands still otherwise."""
    clock, background = FakeClock(), BackgroundQueue()
    responses, token_cache = ResponseFactory(clock), TokenCache(clock, dice, background)
    start = clock.seconds
    moments: list[float] = []

    def send(request: Request) -> Response:
        moments.append(clock.seconds - start)
        return responses.error(503) if is_down(moments[-1]) else responses.token()

    def fetch() -> Token:
        wanted = TokenRequest("https://vault", SYSTEM_ASSIGNED)
        return ExchangeRunner(send, clock, random=dice).run(exchange("http://x/", wanted, dice))

    entry = token_cache.entry(KEY)
    while len(moments) < count:
        with suppress(Failure):
            token_cache.get(entry, fetch)
        background.run()
        clock.seconds = entry.token.refresh_at if entry.token else entry.failure_until
    return moments[:count]


def gaps(moments: list[float]) -> list[float]:
    return [later - sooner for sooner, later in pairwise(moments)]


@pytest.mark.parametrize("throw", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("begin", [0.0, 10.9, 22.0])
def test_a_machine_asks_when_the_engine_does(fleet: Any, throw: float, begin: float) -> None:
    def is_down(moment: float) -> bool:
        hours = moment / 3600
        return begin <= hours < begin + 1.5

    dice, count = (lambda: throw), 60
    simulated = list(islice(moments_simulated(fleet, dice, is_down), count))
    asked = moments_of_the_engine(dice, is_down, count)
    # Between two requests, since answers tell the time in whole seconds, and that adds up.
    assert gaps(asked) == pytest.approx(gaps(simulated), abs=1)


def test_a_life_in_short_is_that_of_a_machine(fleet: Any) -> None:
    for jitter in (False, True):
        service = fleet.Service((0.0, 0.0))
        for member in fleet.Fleet(50, jitter=jitter).members():
            fleet.play([member], service, fleet.DAY)
        assert service.minutes == fleet.refreshes(fleet.Fleet(50, jitter=jitter), fleet.DAY)


def test_the_tables_are_what_the_simulation_finds(fleet: Any) -> None:
    page = (DOCS / "fleet.md").read_text(encoding="utf-8")
    rows = [fleet.steady_row(machines) for machines in fleet.FLEETS[:4]]
    rows += [fleet.outage_row(machines) for machines in fleet.FLEETS[:2]]
    assert [row for row in rows if row not in page] == []


def test_jitter_spreads_a_wave_over_72_minutes_and_each_that_follows_wider(fleet: Any) -> None:
    week = fleet.refreshes(fleet.Fleet(MACHINES, jitter=True), 7 * fleet.DAY)
    plain = fleet.refreshes(fleet.Fleet(MACHINES, jitter=False), 7 * fleet.DAY)
    first, last = (
        fleet.busiest(week, *fleet.FIRST_WAVE),
        fleet.busiest(week, 6 * fleet.DAY, 7 * fleet.DAY),
    )
    begin, end = fleet.FIRST_WAVE
    assert end - begin == pytest.approx(72 * 60 + 60)
    assert fleet.busiest(plain, 6 * fleet.DAY, 7 * fleet.DAY) == MACHINES
    assert last < first < MACHINES / 30
    assert sum(week.values()) / (MACHINES * 7 * fleet.DAY / fleet.WAVE) == pytest.approx(1, abs=0.1)


def test_the_price_of_jitter_is_one_request_in_twenty(fleet: Any) -> None:
    assert refresh_delay(fleet.LIFE, None, 0.5) == 0.95 * fleet.LIFE / 2


def test_all_have_fresh_tokens_eight_minutes_after_an_outage(fleet: Any) -> None:
    found = fleet.outage(fleet.Fleet(MACHINES // 5, jitter=True))
    assert found.due > 0.7 * MACHINES / 5
    assert 2 < found.minutes < 8
    # The longest back-off, and the longest pause of the exchange that it follows.
    assert back_off_delay(100, 1.0) <= 7.5 * 60
    assert found.busiest_after < 0.5 * MACHINES / 5
    plain = fleet.outage(fleet.Fleet(MACHINES // 5, jitter=False))
    assert plain.busiest_within > 4 * found.busiest_within


def test_machines_in_step_wait_longer_for_a_service_that_comes_back_slow(
    fleet: Any,
) -> None:
    narrow = partial(fleet.outage, per_second=10 * 200 / fleet.WAVE)
    plain, spread = (narrow(fleet.Fleet(200, jitter=jitter)) for jitter in (False, True))
    assert plain.minutes > 3 * spread.minutes
