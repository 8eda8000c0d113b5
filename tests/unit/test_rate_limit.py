"""The limits of a service, kept by all processes of a machine together."""

from __future__ import annotations

import errno
import functools
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imds_identity._core.failure import Refused
from imds_identity._shared_cache.rate_limit import (
    IDENTITY_LIMITS,
    METADATA_LIMITS,
    Limits,
    RateLimiter,
)
from support import WINE, FakeClock, ResponseFactory, no_jitter, shared_cache_in

if TYPE_CHECKING:
    from imds_identity._http.exchange import Response
    from imds_identity._shared_cache.store import SharedCache


@pytest.fixture
def shared_cache(tmp_path: Path, clock: FakeClock) -> SharedCache:
    return shared_cache_in(tmp_path / "cache", clock)


@pytest.fixture
def gates(shared_cache: SharedCache) -> list[RateLimiter]:
    return [RateLimiter(shared_cache, "service", no_jitter) for _ in range(40)]


def nobody(seconds: float) -> None:
    """Nobody waits."""


def send(rate_limiter: RateLimiter, answer: Response | None = None) -> None:
    with rate_limiter.acquire(15, nobody):
        pass
    rate_limiter.observe(answer or ResponseFactory(FakeClock()).raw(200))


def test_no_more_than_four_are_under_way(gates: list[RateLimiter], clock: FakeClock) -> None:
    with (
        gates[0].acquire(15, nobody),
        gates[1].acquire(15, nobody),
        gates[2].acquire(15, nobody),
    ):
        assert clock.slept == []
        with gates[3].acquire(15, nobody):
            assert clock.slept == []
            # A fifth waits, until those before it are overdue.
            with gates[4].acquire(15, nobody):
                assert clock.now() >= 1000 + 15


def test_a_stopped_process_does_not_keep_its_lane(
    gates: list[RateLimiter], clock: FakeClock
) -> None:
    with gates[0].acquire(15, nobody):
        clock.seconds += 20
        started = clock.now()
        with (
            gates[1].acquire(15, nobody),
            gates[2].acquire(15, nobody),
            gates[3].acquire(15, nobody),
            gates[4].acquire(15, nobody),
        ):
            assert clock.now() - started < 1


def test_where_everybody_is_overdue_nobody_waits(
    gates: list[RateLimiter], clock: FakeClock
) -> None:
    with ExitStack() as stopped:
        for rate_limiter in gates[:16]:
            stopped.enter_context(rate_limiter.acquire(15, nobody))
            clock.seconds += 1
        clock.seconds += 30
        started = clock.now()
        with gates[16].acquire(15, nobody):
            assert clock.now() - started < 1


@pytest.mark.parametrize(("limits", "most"), [(IDENTITY_LIMITS, 20), (METADATA_LIMITS, 5)])
@pytest.mark.skipif(WINE, reason="wine keeps no time of access")
def test_so_many_a_second_are_not_exceeded(
    shared_cache: SharedCache, clock: FakeClock, limits: Limits, most: int
) -> None:
    starts: list[float] = []
    for _ in range(3 * most):
        with RateLimiter(shared_cache, "service", no_jitter, limits).acquire(15, nobody):
            starts.append(clock.now())
    for start in starts:
        assert sum(start <= other < start + 1 for other in starts) <= most
    assert starts[-1] - starts[0] < 6


def test_where_at_once_is_not_limited_slow_requests_keep_nobody_waiting(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    rate_limiter = RateLimiter(shared_cache, "service", no_jitter, METADATA_LIMITS)
    with (
        rate_limiter.acquire(15, nobody),
        rate_limiter.acquire(15, nobody),
        rate_limiter.acquire(15, nobody),
    ):
        assert clock.now() - 1000 < 0.6


def test_a_pause_asked_of_one_is_kept_by_all_and_ends_spread(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    send(
        RateLimiter(shared_cache, "service", no_jitter),
        ResponseFactory(clock).error(429, retry_after="20"),
    )
    waits = []
    for dice in (0.1, 0.5, 0.9):
        clock.seconds = 1000.3
        clock.slept.clear()
        send(RateLimiter(shared_cache, "service", functools.partial(float, dice)))
        waits.append(clock.slept[0])
    assert min(waits) >= 19.7
    assert len(set(waits)) == 3


@pytest.mark.parametrize("status", [410, 429])
def test_a_pause_without_a_length_is_about_two_seconds(
    gates: list[RateLimiter], clock: FakeClock, status: int
) -> None:
    send(gates[0], ResponseFactory(clock).error(status))
    send(gates[1])
    assert clock.slept[0] == pytest.approx(2 + 1)


def test_nobody_else_s_wish_makes_a_machine_pause(
    gates: list[RateLimiter], clock: FakeClock
) -> None:
    for body in ("slow down", "<html>", '{"message": "busy"}', '{"error": {"code": 429}}', "[]"):
        send(gates[0], ResponseFactory(clock).raw(429, body, retry_after="60"))
    send(gates[1])
    assert sum(clock.slept) < 2


def test_other_answers_ask_for_no_pause(gates: list[RateLimiter], clock: FakeClock) -> None:
    for status in (200, 400, 404, 500):
        send(gates[0], ResponseFactory(clock).error(status))
    assert sum(clock.slept) < 1


def test_a_pause_only_grows_while_it_lasts(gates: list[RateLimiter], clock: FakeClock) -> None:
    gates[0].observe(ResponseFactory(clock).error(429, retry_after="30"))
    gates[1].observe(ResponseFactory(clock).error(429))
    gates[2].observe(ResponseFactory(clock).error(429, retry_after="5"))
    send(gates[3])
    assert clock.slept[0] == pytest.approx(31)
    gates[0].observe(ResponseFactory(clock).error(429, retry_after="5"))
    gates[1].observe(ResponseFactory(clock).error(429, retry_after="30"))
    send(gates[3])
    assert clock.slept[-1] == pytest.approx(31)


@pytest.mark.parametrize("asked", ["121", "600", "999999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_no_pause_is_longer_than_two_minutes(
    gates: list[RateLimiter], clock: FakeClock, asked: str
) -> None:
    gates[0].observe(ResponseFactory(clock).error(429, retry_after=asked))
    with pytest.raises(Refused, match=r"throttled by the service .*: retry in 120 s") as caught:
        send(gates[1])
    assert "Tried" not in str(caught.value)
    assert caught.value.retry_after == pytest.approx(120)
    clock.seconds += 120
    send(gates[1])


@pytest.mark.skipif(WINE, reason="wine keeps no time of access")
def test_a_pause_that_begins_while_one_waits_for_a_lane_is_kept(
    gates: list[RateLimiter], clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rate_limiter in gates[:4]:
        send(rate_limiter)
    sleep = clock.sleep

    def and_then(seconds: float) -> None:
        sleep(seconds)
        if len(clock.slept) == 1:
            gates[5].observe(ResponseFactory(clock).error(429, retry_after="20"))

    monkeypatch.setattr(clock, "sleep", and_then)
    send(gates[6])
    assert clock.now() >= 1020


def test_clear_ends_a_pause(shared_cache: SharedCache, clock: FakeClock) -> None:
    name = "0" * 40
    rate_limiter = RateLimiter(shared_cache, name, no_jitter)
    rate_limiter.observe(ResponseFactory(clock).error(429, retry_after="20"))
    shared_cache.clear()
    send(rate_limiter)
    assert clock.slept == []


def test_another_endpoint_has_a_gate_of_its_own(
    shared_cache: SharedCache, gates: list[RateLimiter], clock: FakeClock
) -> None:
    send(gates[0], ResponseFactory(clock).error(429, retry_after="20"))
    send(RateLimiter(shared_cache, "another", no_jitter))
    assert clock.slept == []


def test_where_nothing_can_be_written_requests_leave_all_the_same(
    gates: list[RateLimiter], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "open", full)
    for rate_limiter in gates:
        send(rate_limiter, ResponseFactory(FakeClock()).error(429))


def test_a_moment_from_nowhere_is_ignored(
    shared_cache: SharedCache, gates: list[RateLimiter], clock: FakeClock
) -> None:
    assert shared_cache.usable()
    (Path(shared_cache.directory.path) / "service.pause").touch(mode=0o600)  # the wall clock's time
    send(gates[0])
    assert clock.slept == []


def test_whoever_waits_in_the_gate_keeps_telling(
    gates: list[RateLimiter], clock: FakeClock
) -> None:
    """Or the others would take it for stopped, and fetch as well."""
    heard_until = clock.now()

    def heartbeat(seconds: float) -> None:
        nonlocal heard_until
        assert clock.now() <= heard_until
        heard_until = clock.now() + seconds

    with (
        gates[0].acquire(15, nobody),
        gates[1].acquire(15, nobody),
        gates[2].acquire(15, nobody),
        gates[3].acquire(15, nobody),
        gates[4].acquire(15, heartbeat),
    ):
        assert clock.now() <= heard_until
    gates[0].observe(ResponseFactory(clock).error(429, retry_after="20"))
    heard_until = clock.now()
    with gates[5].acquire(15, heartbeat):
        assert clock.now() <= heard_until
