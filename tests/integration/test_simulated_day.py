"""A day of a machine with hundreds of processes, an unreliable service and no real time.

Every process has a broker of its own and shares one directory with the others. Outages come at
random and are shorter than what is left of the tokens. The least possible number of answered
requests is one for each key at the start and one whenever half of a life is over, since half a life
is when Microsoft's rule has a token refreshed. Requests that an outage refuses are counted apart:
somebody must find out that it is over.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from imds_identity._core.failure import Refused
from imds_identity._core.freshness import refresh_delay
from imds_identity._core.key import Key
from imds_identity._core.token import Token
from imds_identity._token_cache.cache import TokenCache
from imds_identity._token_cache.fetch import Fetch
from support import FakeClock, shared_cache_in

if TYPE_CHECKING:
    from pathlib import Path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOUR = 3600.0
DAY = 24 * HOUR
KEYS = [Key("imds", "http://service", "", "", f"https://resource-{n}") for n in range(6)]


def run_at_once(work: Callable[[], object], *, blocks: bool) -> None:
    """Background work that is over before anybody looks."""
    work()


class Service:
    """Answers, or is out."""

    def __init__(self, clock: FakeClock, dice: random.Random, life: float) -> None:
        self.clock = clock
        self.dice = dice
        self.life = life
        self.out_until = 0.0
        self.answered = 0
        self.refused = 0

    def fetch(self) -> Token:
        now, wall = self.clock.now(), self.clock.wall()
        if now < self.out_until:
            self.refused += 1
            raise Refused("out of order")
        self.answered += 1
        due = refresh_delay(self.life, None, self.dice.random())
        return Token(
            f"token-{self.answered}", "Bearer", int(wall + self.life), int(wall + due), now,
            now + due, now + self.life,
        )  # fmt: skip


@pytest.mark.parametrize(("seed", "life"), [(1, DAY), (2, DAY), (3, 8 * HOUR)])
def test_nobody_is_ever_refused_and_requests_stay_few(
    tmp_path: Path, seed: int, life: float
) -> None:
    dice = random.Random(seed)
    clock = FakeClock()
    service = Service(clock, dice, life)
    machine = shared_cache_in(tmp_path / "day", clock)
    processes = [TokenCache(clock, dice.random, run_at_once) for _ in range(300)]
    outages = 0
    started = clock.now()

    def ask(token_cache: TokenCache, key: Key) -> None:
        entry = token_cache.entry(key)
        fetch = Fetch(entry, None, lambda heartbeat: service.fetch(), machine, dice.random)
        token = token_cache.get(entry, fetch)
        assert clock.now() < token.expires_at

    for key in KEYS:  # the first token of all needs a service that is there
        ask(processes[0], key)
    while clock.now() - started < DAY:
        clock.seconds += dice.expovariate(1 / 20)
        if clock.now() >= service.out_until and dice.random() < 1 / 600:
            remaining = (
                min(
                    machine.read(key).token.expires_at  # type: ignore[union-attr]
                    for key in KEYS
                )
                - clock.now()
            )
            service.out_until = clock.now() + dice.random() * min(remaining - 60, 2 * HOUR)
            outages += 1
        for _ in range(3):
            ask(dice.choice(processes), dice.choice(KEYS))

    least = len(KEYS) * (1 + int(DAY / (life / 2)))
    assert outages > 0
    assert service.answered <= 1.1 * least, (service.answered, least)
    # While it is out the machine as a whole asks once in a back-off of at most five minutes.
    assert service.refused <= outages * len(KEYS) * 2 * HOUR / 150
