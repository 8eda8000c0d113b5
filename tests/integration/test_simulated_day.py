"""A simulated day of a machine with hundreds of processes and an unreliable service.

Each process has its own token cache, and all use one shared cache. Outages start at random and end
before the tokens expire. The minimum number of successful requests is one per key at the start and
one after each half of a lifetime, when Microsoft's rule refreshes a token. Failed requests during
outages are counted separately: some are necessary to notice the end of an outage.
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
    from collections.abc import Callable
    from pathlib import Path

HOUR = 3600.0
DAY = 24 * HOUR
KEYS = [Key("imds", "http://service", "", "", f"https://resource-{n}") for n in range(6)]


def run_immediately(work: Callable[[], object], *, blocks: bool) -> None:
    """Run background work in the calling thread."""
    work()


class UnreliableService:
    """Returns tokens, or fails during an outage."""

    def __init__(self, clock: FakeClock, rng: random.Random, lifetime: float) -> None:
        self.clock = clock
        self.rng = rng
        self.lifetime = lifetime
        self.outage_until = 0.0
        self.succeeded = 0
        self.failed = 0

    def fetch(self) -> Token:
        now, wall = self.clock.now(), self.clock.wall()
        if now < self.outage_until:
            self.failed += 1
            raise Refused("outage")
        self.succeeded += 1
        due = refresh_delay(self.lifetime, None, self.rng.random())
        return Token(
            f"token-{self.succeeded}", "Bearer", int(wall + self.lifetime), int(wall + due), now,
            now + due, now + self.lifetime,
        )  # fmt: skip


@pytest.mark.parametrize(("seed", "lifetime"), [(1, DAY), (2, DAY), (3, 8 * HOUR)])
def test_every_call_returns_a_token_and_requests_stay_few(
    tmp_path: Path, seed: int, lifetime: float
) -> None:
    rng = random.Random(seed)
    clock = FakeClock()
    service = UnreliableService(clock, rng, lifetime)
    shared_cache = shared_cache_in(tmp_path / "day", clock)
    processes = [TokenCache(clock, rng.random, run_immediately) for _ in range(300)]
    outages = 0
    started = clock.now()

    def get_token(token_cache: TokenCache, key: Key) -> None:
        entry = token_cache.entry(key)
        fetch = Fetch(entry, None, lambda heartbeat: service.fetch(), shared_cache, rng.random)
        token = token_cache.get(entry, fetch)
        assert clock.now() < token.expires_at

    for key in KEYS:  # the first tokens need a running service
        get_token(processes[0], key)
    while clock.now() - started < DAY:
        clock.seconds += rng.expovariate(1 / 20)
        if clock.now() >= service.outage_until and rng.random() < 1 / 600:
            remaining = (
                min(
                    shared_cache.read(key).token.expires_at  # type: ignore[union-attr]
                    for key in KEYS
                )
                - clock.now()
            )
            service.outage_until = clock.now() + rng.random() * min(remaining - 60, 2 * HOUR)
            outages += 1
        for _ in range(3):
            get_token(rng.choice(processes), rng.choice(KEYS))

    minimum = len(KEYS) * (1 + int(DAY / (lifetime / 2)))
    assert outages > 0
    assert service.succeeded <= 1.1 * minimum, (service.succeeded, minimum)
    # During an outage, all processes together send one request per back-off.
    assert service.failed <= outages * len(KEYS) * 2 * HOUR / 150
