"""How many token requests a fleet of machines sends, with this package's jitter and without.

    python docs/fleet.py                        prints the tables of fleet.md
    python docs/fleet.py --write                puts them there
    python docs/fleet.py --plot docs/images     draws its pictures, too; that takes matplotlib

Each machine holds one token and uses it all the time. When it asks again is for the package's own
rules to say: `refresh_delay` after a token, `Backoff` between the attempts of one exchange and
`back_off` after an exchange that failed. "No jitter" are the same rules with every throw of the
dice at its middle.
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
from imds_identity._http.exchange import Response
from imds_identity._http.retry import Backoff, retry_after

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from imds_identity._http.exchange import Random

    Machine: TypeAlias = Generator[float, Response, None]

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
LIFE = DAY
WAVE = refresh_delay(LIFE, None, 0.5)
"""Seconds between two requests of one machine, on average."""
FIRST_WAVE = (0.9 * LIFE / 2, LIFE / 2 + MINUTE)
IN_THE_WAVE = (10.9 * HOUR, 11.9 * HOUR)
"""The hour in which most of a fleet that started together falls due, with jitter or without."""
FLEETS = [10**power for power in range(7)]
MOST_FAILING = 20_000
"""Machines. In a larger fleet, each that goes through an outage here stands for several."""
SAMPLE = 5_000
NARROW = 10 * SAMPLE / WAVE
"""Tokens in a second for those: ten times what they ask for on average."""

OK, DOWN, BUSY = (Response(status, {}, b"", 0.0, 0.0, 0.0) for status in (200, 503, 429))


class Fleet(NamedTuple):
    """Machines that are alike.

    Attributes:
        machines: how many.
        jitter: whether they throw dice.
        started_within: seconds in which they started, evenly spread.
    """

    machines: int
    jitter: bool
    started_within: float = MINUTE

    def starts(self) -> Iterator[tuple[float, Random]]:
        """When each machine started, and its dice."""
        dice = random.Random(1)
        for _ in range(self.machines):
            yield dice.uniform(0, self.started_within), dice.random if self.jitter else _middle

    def members(self) -> Iterator[Machine]:
        """Each machine."""
        return (machine(start, dice) for start, dice in self.starts())


def _middle() -> float:
    return 0.5


def machine(start: float, dice: Random) -> Machine:
    """One machine: yields the moment of each request, and is sent the answer.

    Args:
        start: when it first wants a token.
        dice: as the package's.
    """
    now, token = start, None
    while True:
        response = yield now
        if response is not OK:
            backoff = Backoff(dice)
            while response is not OK and (pause := backoff.after_response(response)) is not None:
                now += pause
                response = yield now
        if response is OK:
            due = now + refresh_delay(LIFE, None, dice())
            token = Token("", "Bearer", round(now + LIFE), round(due), now, due, now + LIFE)
        elif token is not None:
            token = back_off(token, now, dice(), retry_after(response))
        now = token.refresh_at if token else now + FAILURE_SECONDS


class Service:
    """The metadata service of a region: down from some moment to another, and what it was asked.

    Args:
        down: when it begins and ends to answer 503.
        per_second: how many tokens it gives in a second from then on; it answers 429 beyond that.
    """

    def __init__(self, down: tuple[float, float], per_second: float = math.inf) -> None:
        self.begin, self.end = down
        self.per_second = per_second
        self.minutes: Counter[int] = Counter()
        self.recovered: list[float] = []
        self._room, self._looked = 1.0, 0.0

    def answer(self, moment: float, failing_since: float) -> Response:
        """What a request at ``moment`` is answered.

        Args:
            moment: when it comes.
            failing_since: when the first of those failed that it is to make good for.
        """
        self.minutes[int((moment - self.begin) // MINUTE)] += 1
        if self.begin <= moment < self.end:
            return DOWN
        if moment >= self.end and not self._has_room(moment):
            return BUSY
        if failing_since < self.end:
            self.recovered.append((moment - self.end) / MINUTE)
        return OK

    def _has_room(self, moment: float) -> bool:
        if self.per_second == math.inf:
            return True
        since, self._looked = moment - self._looked, moment
        self._room = min(self._room + since * self.per_second, max(self.per_second, 1.0))
        if self._room < 1:
            return False
        self._room -= 1
        return True


def play(machines: Iterable[Machine], service: Service, until: float) -> None:
    """Have machines ask one service until some moment."""
    heap = [(next(member), number, member, math.inf) for number, member in enumerate(machines)]
    heapify(heap)
    while heap[0][0] < until:
        moment, number, member, failing_since = heap[0]
        response = service.answer(moment, failing_since)
        since = math.inf if response is OK else min(failing_since, moment)
        heapreplace(heap, (member.send(response), number, member, since))


class Outage(NamedTuple):
    """What came of an hour without the service.

    Attributes:
        due: machines that wanted a token in it.
        asked: requests in it.
        busiest_within: those of its busiest minute.
        busiest_after: those of the busiest minute after it.
        minutes: after which all those machines had a fresh token.
        series: requests by the minute, from half an hour before it.
        recovered: minutes after which each had one.
    """

    due: int
    asked: int
    busiest_within: int
    busiest_after: int
    minutes: float
    series: list[int]
    recovered: list[float]


def outage(
    fleet: Fleet, down: tuple[float, float] = IN_THE_WAVE, per_second: float = math.inf
) -> Outage:
    """What an outage does to ``fleet``; the other arguments are those of `Service`."""
    weight = math.ceil(fleet.machines / MOST_FAILING)
    fleet = fleet._replace(machines=fleet.machines // weight)
    service = Service(down, per_second / weight)
    until = service.end + 8 * HOUR
    # Machines whose answers do not depend on each other are played one by one, which saves memory.
    alone = per_second == math.inf
    for group in ([member] for member in fleet.members()) if alone else [list(fleet.members())]:
        play(group, service, until)
    series = [weight * service.minutes[minute] for minute in range(-30, 300)]
    return Outage(
        due=weight * len(service.recovered),
        asked=sum(series[30:90]),
        busiest_within=max(series[30:90]),
        busiest_after=max(series[90:]),
        minutes=max(service.recovered, default=0.0),
        series=series,
        recovered=sorted(service.recovered),
    )


def refreshes(fleet: Fleet, until: float) -> Counter[int]:
    """Requests of ``fleet`` by the minute, where nothing fails: a machine's life in short."""
    minutes: Counter[int] = Counter()
    for start, dice in fleet.starts():
        moment = start
        while moment < until:
            minutes[int(moment // MINUTE)] += 1
            moment += refresh_delay(LIFE, None, dice())
    return minutes


def busiest(minutes: Counter[int], begin: float, end: float) -> int:
    """The requests of the busiest minute between two moments."""
    return max(minutes[n] for n in range(int(begin // MINUTE), int(end // MINUTE)))


def steady_row(machines: int) -> str:
    """A fleet that started within a minute, in its first week."""
    plain = refreshes(Fleet(machines, jitter=False), 2 * DAY)
    spread = refreshes(Fleet(machines, jitter=True), 7 * DAY)
    mean = machines / (WAVE / MINUTE)
    first, last = busiest(spread, *FIRST_WAVE), busiest(spread, 6 * DAY, 7 * DAY)
    return (
        f"| {machines:,} | {mean:,.{0 if mean >= 10 else 3}f} "
        f"| {busiest(plain, *FIRST_WAVE):,} | {first:,} | {last:,} |"
    )


def outage_row(machines: int) -> str:
    """The same fleet, when its first wave falls into an outage."""
    plain, spread = (outage(Fleet(machines, jitter=jitter)) for jitter in (False, True))
    return (
        f"| {machines:,} | {plain.busiest_after:,} | {spread.busiest_after:,} "
        f"| {plain.minutes:.1f} | {spread.minutes:.1f} |"
    )


KINDS = {
    "in step, first wave": (MINUTE, IN_THE_WAVE),
    "spread evenly": (WAVE, (2 * WAVE, 2 * WAVE + HOUR)),
    "started in the outage": (MINUTE, (0.0, HOUR)),
}


def kind_row(name: str, *, jitter: bool) -> str:
    """One kind of fleet in an outage."""
    within, down = KINDS[name]
    fleet = Fleet(SAMPLE, jitter, within)
    free, narrow = outage(fleet, down), outage(fleet, down, NARROW)
    return (
        f"| {name} | {'yes' if jitter else 'no'} | {free.due / SAMPLE:.0%} "
        f"| {free.asked / free.due:.0f} | {free.busiest_within / SAMPLE:.1%} "
        f"| {free.busiest_after / SAMPLE:.1%} | {free.minutes:.1f} | {narrow.minutes:.0f} |"
    )


def tables() -> Iterator[tuple[str, list[str]]]:
    """The rows of each table in fleet.md, by its name."""
    yield "steady", [steady_row(machines) for machines in FLEETS]
    yield "outage", [outage_row(machines) for machines in FLEETS]
    yield "kinds", [kind_row(n, jitter=j) for n in KINDS for j in (False, True)]


def main(arguments: list[str]) -> None:
    """Print the rows of fleet.md's tables, and put them there if asked to."""
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
