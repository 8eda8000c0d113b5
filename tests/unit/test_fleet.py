"""docs/fleet.py follows the package's rules, and docs/fleet.md shows its results."""

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
from imds_identity._sources.azure_vm import IMDS
from imds_identity._sources.imds import exchange
from imds_identity._token_cache.cache import TokenCache
from support import KEY, BackgroundQueue, FakeClock, ResponseFactory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imds_identity._core.token import Token
    from imds_identity._http.messages import Request, Response

DOCS = Path(__file__).parents[2] / "docs"
MACHINES = 1000


@pytest.fixture(scope="module")
def fleet() -> Any:
    """Import the simulation."""
    spec = importlib.util.spec_from_file_location("fleet", DOCS / "fleet.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["fleet"] = module
    spec.loader.exec_module(module)
    return module


def simulated_times(fleet: Any, random: Callable[[], float], is_down: Any) -> Iterator[float]:
    """Yield when the simulated machine sends a request."""
    machine = fleet.machine(0.0, random)
    time = next(machine)
    while True:
        yield time
        time = machine.send(fleet.UNAVAILABLE if is_down(time) else fleet.OK)


def real_times(random: Callable[[], float], is_down: Any, count: int) -> list[float]:
    """Return when the token cache sends requests, called at each time when it may send one."""
    clock, background = FakeClock(), BackgroundQueue()
    responses, token_cache = ResponseFactory(clock), TokenCache(clock, random, background)
    start = clock.seconds
    times: list[float] = []

    def send(request: Request) -> Response:
        times.append(clock.seconds - start)
        return responses.error(503) if is_down(times[-1]) else responses.token()

    def fetch() -> Token:
        request = TokenRequest("https://vault", SYSTEM_ASSIGNED)
        return ExchangeRunner(send, clock, random=random).run(
            exchange(IMDS, "http://x/", request, random)
        )

    entry = token_cache.entry(KEY)
    while len(times) < count:
        with suppress(Failure):
            token_cache.get(entry, fetch)
        background.run()
        clock.seconds = entry.token.refresh_at if entry.token else entry.failure_until
    return times[:count]


def intervals(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


@pytest.mark.parametrize("number", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("begin", [0.0, 10.9, 22.0])
def test_simulated_machine_sends_requests_when_the_token_cache_does(
    fleet: Any, number: float, begin: float
) -> None:
    def is_down(time: float) -> bool:
        hours = time / 3600
        return begin <= hours < begin + 1.5

    random, count = (lambda: number), 60
    simulated = list(islice(simulated_times(fleet, random, is_down), count))
    real = real_times(random, is_down, count)
    # Compare intervals: responses contain whole seconds, and the differences would add up.
    assert intervals(real) == pytest.approx(intervals(simulated), abs=1)


def test_refreshes_equal_a_full_simulation_without_failures(fleet: Any) -> None:
    for jitter in (False, True):
        service = fleet.Service((0.0, 0.0))
        for machine in fleet.Fleet(50, jitter=jitter).simulated_machines():
            fleet.simulate([machine], service, fleet.DAY)
        assert service.minutes == fleet.refreshes(fleet.Fleet(50, jitter=jitter), fleet.DAY)


def test_tables_show_the_results_of_the_simulation(fleet: Any) -> None:
    page = (DOCS / "fleet.md").read_text(encoding="utf-8")
    rows = [fleet.steady_row(machines) for machines in fleet.FLEET_SIZES[:4]]
    rows += [fleet.outage_row(machines) for machines in fleet.FLEET_SIZES[:2]]
    assert [row for row in rows if row not in page] == []


def test_jitter_spreads_the_first_wave_over_72_minutes_and_later_waves_further(fleet: Any) -> None:
    week = fleet.refreshes(fleet.Fleet(MACHINES, jitter=True), 7 * fleet.DAY)
    without = fleet.refreshes(fleet.Fleet(MACHINES, jitter=False), 7 * fleet.DAY)
    first, last = (
        fleet.peak(week, *fleet.FIRST_WAVE),
        fleet.peak(week, 6 * fleet.DAY, 7 * fleet.DAY),
    )
    begin, end = fleet.FIRST_WAVE
    assert end - begin == pytest.approx(72 * 60 + 60)
    assert fleet.peak(without, 6 * fleet.DAY, 7 * fleet.DAY) == MACHINES
    assert last < first < MACHINES / 30
    assert sum(week.values()) / (
        MACHINES * 7 * fleet.DAY / fleet.REFRESH_INTERVAL
    ) == pytest.approx(1, abs=0.1)


def test_jitter_costs_one_request_in_twenty(fleet: Any) -> None:
    assert refresh_delay(fleet.LIFETIME, None, 0.5) == 0.95 * fleet.LIFETIME / 2


def test_all_machines_have_new_tokens_eight_minutes_after_an_outage(fleet: Any) -> None:
    result = fleet.outage(fleet.Fleet(MACHINES // 5, jitter=True))
    assert result.due > 0.7 * MACHINES / 5
    assert 2 < result.minutes < 8
    # The longest back-off, after the longest pause of the exchange.
    assert back_off_delay(100, 1.0) <= 7.5 * 60
    assert result.peak_after < 0.5 * MACHINES / 5
    without = fleet.outage(fleet.Fleet(MACHINES // 5, jitter=False))
    assert without.peak_during > 4 * result.peak_during


def test_synchronized_machines_recover_later_when_capacity_is_limited(
    fleet: Any,
) -> None:
    limited = partial(fleet.outage, capacity=10 * 200 / fleet.REFRESH_INTERVAL)
    without, with_jitter = (limited(fleet.Fleet(200, jitter=jitter)) for jitter in (False, True))
    assert without.minutes > 3 * with_jitter.minutes
