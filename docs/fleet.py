"""Simulate the token requests of a fleet of machines, with this package's jitter and without.

    python docs/fleet.py                        prints the tables of fleet.md
    python docs/fleet.py --write                updates them in fleet.md
    python docs/fleet.py --plot docs/images     also draws its charts; needs matplotlib

Each machine has one token and uses it all the time. The package's own functions decide when it
sends the next request: `refresh_delay` after a token, `Backoff` between the attempts of one
exchange and `back_off` after a failed exchange. "No jitter" means that each random number is 0.5.
"""

from __future__ import annotations

import math
import random
import re
import sys
from collections import Counter
from heapq import heapify, heapreplace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from imds_identity._core.freshness import FAILURE_SECONDS, back_off, refresh_delay
from imds_identity._core.token import Token
from imds_identity._http.messages import Response
from imds_identity._http.retry import Backoff

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from imds_identity._http.exchange import Random

    Machine: TypeAlias = Generator[float, Response, None]

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
LIFETIME = DAY
REFRESH_INTERVAL = refresh_delay(LIFETIME, None, 0.5)
"""Mean seconds between two requests of one machine."""
FIRST_WAVE = (0.9 * LIFETIME / 2, LIFETIME / 2 + MINUTE)
FIRST_WAVE_HOUR = (10.9 * HOUR, 11.9 * HOUR)
"""The hour in which most tokens of a fleet that started together become due."""
FLEET_SIZES = [10**power for power in range(7)]
MAX_SIMULATED = 20_000
"""Of a larger fleet, an outage simulates this many machines, each for several."""
SAMPLE = 5_000
LIMITED_CAPACITY = 10 * SAMPLE / REFRESH_INTERVAL
"""Tokens per second for a sample: ten times its mean rate."""

OK, UNAVAILABLE, THROTTLED = (
    Response(status, {}, b"", 0.0, 0.0, 0.0) for status in (200, 503, 429)
)


class Fleet(NamedTuple):
    """A fleet of identical machines.

    Attributes:
        machines: how many.
        jitter: whether they use random numbers.
        started_within: seconds over which their starts are evenly spread.
    """

    machines: int
    jitter: bool
    started_within: float = MINUTE

    def starts(self) -> Iterator[tuple[float, Random]]:
        """Yield when each machine started, and its random numbers."""
        rng = random.Random(1)
        for _ in range(self.machines):
            yield rng.uniform(0, self.started_within), rng.random if self.jitter else _no_jitter

    def simulated_machines(self) -> Iterator[Machine]:
        """Yield each machine of the simulation."""
        return (machine(start, random_number) for start, random_number in self.starts())


def _no_jitter() -> float:
    return 0.5


def machine(start: float, random_number: Random) -> Machine:
    """Simulate one machine: yield the time of each request, and receive the response.

    Args:
        start: when it first needs a token.
        random_number: returns numbers from 0 to 1.
    """
    now, token = start, None
    while True:
        response = yield now
        if response is not OK:
            backoff = Backoff(random_number)
            while response is not OK and (pause := backoff.after_response(response)) is not None:
                now += pause
                response = yield now
        if response is OK:
            due = now + refresh_delay(LIFETIME, None, random_number())
            token = Token("", "Bearer", round(now + LIFETIME), round(due), now, due, now + LIFETIME)
        elif token is not None:
            token = back_off(token, now, random_number(), response.retry_after)
        now = token.refresh_at if token else now + FAILURE_SECONDS


class Service:
    """A region's metadata service with one outage; it counts the requests.

    Args:
        down: when the outage begins and ends; meanwhile it returns 503.
        capacity: tokens per second after the outage; it returns 429 to further requests.
    """

    def __init__(self, down: tuple[float, float], capacity: float = math.inf) -> None:
        self.begin, self.end = down
        self.capacity = capacity
        self.minutes: Counter[int] = Counter()
        self.recovered: list[float] = []
        self._available, self._updated_at = 1.0, 0.0

    def respond(self, time: float, failing_since: float) -> Response:
        """Return the response to a request.

        Args:
            time: of the request.
            failing_since: when the machine's first request since its last success failed.
        """
        self.minutes[int((time - self.begin) // MINUTE)] += 1
        if self.begin <= time < self.end:
            return UNAVAILABLE
        if time >= self.end and not self._has_capacity(time):
            return THROTTLED
        if failing_since < self.end:
            self.recovered.append((time - self.end) / MINUTE)
        return OK

    def _has_capacity(self, time: float) -> bool:
        if self.capacity == math.inf:
            return True
        elapsed, self._updated_at = time - self._updated_at, time
        limit = max(self.capacity, 1.0)
        self._available = min(self._available + elapsed * self.capacity, limit)
        if self._available < 1:
            return False
        self._available -= 1
        return True


def simulate(machines: Iterable[Machine], service: Service, until: float) -> None:
    """Let machines send requests to one service until a point in time."""
    heap = [(next(each), number, each, math.inf) for number, each in enumerate(machines)]
    heapify(heap)
    while heap[0][0] < until:
        time, number, each, failing_since = heap[0]
        response = service.respond(time, failing_since)
        since = math.inf if response is OK else min(failing_since, time)
        heapreplace(heap, (each.send(response), number, each, since))


class Outage(NamedTuple):
    """The results of an outage of one hour.

    Attributes:
        due: machines that needed a token during the outage.
        requests: requests during the outage.
        peak_during: requests of the busiest minute of the outage.
        peak_after: requests of the busiest minute after it.
        minutes: minutes after the outage until all those machines had a new token.
        series: requests per minute, from half an hour before the outage.
        recovered: minutes after the outage when each machine had a new token.
    """

    due: int
    requests: int
    peak_during: int
    peak_after: int
    minutes: float
    series: list[int]
    recovered: list[float]


def outage(
    fleet: Fleet, down: tuple[float, float] = FIRST_WAVE_HOUR, capacity: float = math.inf
) -> Outage:
    """Simulate an outage; `Service` documents ``down`` and ``capacity``."""
    weight = math.ceil(fleet.machines / MAX_SIMULATED)
    fleet = fleet._replace(machines=fleet.machines // weight)
    service = Service(down, capacity / weight)
    until = service.end + 8 * HOUR
    machines = fleet.simulated_machines()
    # Without a limit, machines do not affect each other: one after another takes less memory.
    groups = ([each] for each in machines) if capacity == math.inf else [list(machines)]
    for group in groups:
        simulate(group, service, until)
    series = [weight * service.minutes[minute] for minute in range(-30, 300)]
    return Outage(
        due=weight * len(service.recovered),
        requests=sum(series[30:90]),
        peak_during=max(series[30:90]),
        peak_after=max(series[90:]),
        minutes=max(service.recovered, default=0.0),
        series=series,
        recovered=sorted(service.recovered),
    )


def refreshes(fleet: Fleet, until: float) -> Counter[int]:
    """Return the requests per minute without failures, which needs no full simulation."""
    minutes: Counter[int] = Counter()
    for start, random_number in fleet.starts():
        time = start
        while time < until:
            minutes[int(time // MINUTE)] += 1
            time += refresh_delay(LIFETIME, None, random_number())
    return minutes


def peak(minutes: Counter[int], begin: float, end: float) -> int:
    """Return the requests of the busiest minute between two times."""
    return max(minutes[n] for n in range(int(begin // MINUTE), int(end // MINUTE)))


def steady_row(machines: int) -> str:
    """Return a row for the first week of a fleet that started within a minute."""
    without = refreshes(Fleet(machines, jitter=False), 2 * DAY)
    with_jitter = refreshes(Fleet(machines, jitter=True), 7 * DAY)
    mean = machines / (REFRESH_INTERVAL / MINUTE)
    first, last = peak(with_jitter, *FIRST_WAVE), peak(with_jitter, 6 * DAY, 7 * DAY)
    return (
        f"| {machines:,} | {mean:,.{0 if mean >= 10 else 3}f} "
        f"| {peak(without, *FIRST_WAVE):,} | {first:,} | {last:,} |"
    )


def outage_row(machines: int) -> str:
    """Return a row for such a fleet with an outage during its first refreshes."""
    without, with_jitter = (outage(Fleet(machines, jitter=jitter)) for jitter in (False, True))
    return (
        f"| {machines:,} | {without.peak_after:,} | {with_jitter.peak_after:,} "
        f"| {without.minutes:.1f} | {with_jitter.minutes:.1f} |"
    )


KINDS = {
    "synchronized, first wave": (MINUTE, FIRST_WAVE_HOUR),
    "spread evenly": (REFRESH_INTERVAL, (2 * REFRESH_INTERVAL, 2 * REFRESH_INTERVAL + HOUR)),
    "started during the outage": (MINUTE, (0.0, HOUR)),
}


def kind_row(name: str, *, jitter: bool) -> str:
    """Return a row for one kind of fleet with an outage."""
    started_within, down = KINDS[name]
    fleet = Fleet(SAMPLE, jitter, started_within)
    unlimited, limited = outage(fleet, down), outage(fleet, down, LIMITED_CAPACITY)
    return (
        f"| {name} | {'yes' if jitter else 'no'} | {unlimited.due / SAMPLE:.0%} "
        f"| {unlimited.requests / unlimited.due:.0f} | {unlimited.peak_during / SAMPLE:.1%} "
        f"| {unlimited.peak_after / SAMPLE:.1%} | {unlimited.minutes:.1f} | {limited.minutes:.0f} |"
    )


def tables() -> Iterator[tuple[str, list[str]]]:
    """Yield the name and the rows of each table in fleet.md."""
    yield "steady", [steady_row(machines) for machines in FLEET_SIZES]
    yield "outage", [outage_row(machines) for machines in FLEET_SIZES]
    yield "kinds", [kind_row(name, jitter=jitter) for name in KINDS for jitter in (False, True)]


def main(arguments: list[str]) -> None:
    """Print the tables of fleet.md, and update them with --write."""
    page = Path(__file__).with_name("fleet.md")
    for name, rows in tables():
        print(name, *rows, sep="\n")
        if "--write" in arguments:
            text = page.read_text(encoding="utf-8")
            pattern = rf"(<!-- {name} -->\n\n(?:\|.*\n){{2}})(?:\|.*\n)*"
            page.write_text(re.sub(pattern, rf"\1{chr(10).join(rows)}\n", text), encoding="utf-8")
    if "--plot" in arguments:
        from fleet_plot import draw

        draw(Path(arguments[arguments.index("--plot") + 1]))


if __name__ == "__main__":
    main(sys.argv[1:])
