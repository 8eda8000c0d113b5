"""Rate limits that all processes of a machine share."""

from __future__ import annotations

import errno
import functools
import os
import random
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imds_identity._core.failure import Reason, Refused
from imds_identity._platform.clock import SYSTEM_CLOCK
from imds_identity._shared_cache import rate_limit
from imds_identity._shared_cache.lease import LeaseAttempt
from imds_identity._shared_cache.rate_limit import (
    IDENTITY_LIMITS,
    METADATA_LIMITS,
    Limits,
    ProcessRateLimiter,
    RateLimiter,
    rate_limiter_for,
)
from imds_identity._sources.registry import detect
from support import (
    WINE,
    FakeClock,
    ResponseFactory,
    no_jitter,
    run_after_fork_in_c,
    run_concurrently,
    shared_cache_in,
)  # fmt: skip

if TYPE_CHECKING:
    from imds_identity._http.messages import Response
    from imds_identity._shared_cache.store import SharedCache


@pytest.fixture
def shared_cache(tmp_path: Path, clock: FakeClock) -> SharedCache:
    return shared_cache_in(tmp_path / "cache", clock)


@pytest.fixture
def rate_limiters(shared_cache: SharedCache) -> list[RateLimiter]:
    return [RateLimiter(shared_cache, "service", no_jitter) for _ in range(40)]


def no_heartbeat(seconds: float) -> None:
    """Ignore the heartbeat."""


def send(rate_limiter: RateLimiter, response: Response | None = None) -> None:
    with rate_limiter.acquire(15, no_heartbeat):
        pass
    rate_limiter.observe(response or ResponseFactory(FakeClock()).raw(200))


def test_no_more_than_four_requests_are_under_way(
    rate_limiters: list[RateLimiter], clock: FakeClock
) -> None:
    with (
        rate_limiters[0].acquire(15, no_heartbeat),
        rate_limiters[1].acquire(15, no_heartbeat),
        rate_limiters[2].acquire(15, no_heartbeat),
    ):
        assert clock.slept == []
        with rate_limiters[3].acquire(15, no_heartbeat):
            assert clock.slept == []
            # The fifth waits until one of the first four expires.
            with rate_limiters[4].acquire(15, no_heartbeat):
                assert clock.now() >= 1000 + 15


def test_stopped_process_loses_its_permit_at_its_expiry(
    rate_limiters: list[RateLimiter], clock: FakeClock
) -> None:
    with rate_limiters[0].acquire(15, no_heartbeat):
        clock.seconds += 20
        started = clock.now()
        with (
            rate_limiters[1].acquire(15, no_heartbeat),
            rate_limiters[2].acquire(15, no_heartbeat),
            rate_limiters[3].acquire(15, no_heartbeat),
            rate_limiters[4].acquire(15, no_heartbeat),
        ):
            assert clock.now() - started < 1


def test_request_is_sent_without_a_permit_if_all_holders_have_expired(
    rate_limiters: list[RateLimiter], clock: FakeClock
) -> None:
    with ExitStack() as stopped:
        for rate_limiter in rate_limiters[:16]:
            stopped.enter_context(rate_limiter.acquire(15, no_heartbeat))
            clock.seconds += 1
        clock.seconds += 30
        started = clock.now()
        with rate_limiters[16].acquire(15, no_heartbeat):
            assert clock.now() - started < 1


def test_request_is_sent_without_a_permit_if_none_was_free_for_long(
    rate_limiters: list[RateLimiter], clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imds_identity._shared_cache.rate_limit._LONGEST_WAIT", 2.0)
    with ExitStack() as others:
        for rate_limiter in rate_limiters[:4]:
            others.enter_context(rate_limiter.acquire(30, no_heartbeat))
        started = clock.now()
        with rate_limiters[4].acquire(15, no_heartbeat):
            assert clock.now() - started == pytest.approx(2.0, abs=0.1)
        assert clock.slept[-1] == 0.02


@pytest.mark.parametrize("number", range(4))
def test_limit_is_kept_while_all_holders_of_one_permit_are_stopped(
    shared_cache: SharedCache, clock: FakeClock, number: int
) -> None:
    with ExitStack() as others:
        for _ in range(4):  # a holder and its three successors
            stopped = shared_cache.lease_attempt(f"service-permit-{number}")
            others.callback(stopped.close)
            while stopped.try_acquire() is None:
                clock.seconds += 1
            clock.seconds += 30
        started = clock.now()
        rate_limiter = RateLimiter(shared_cache, "service", no_jitter)
        for _ in range(3):
            others.enter_context(rate_limiter.acquire(15, no_heartbeat))
        assert clock.now() - started < 1
        others.enter_context(rate_limiter.acquire(15, no_heartbeat))
        assert clock.now() - started >= 15


@pytest.mark.parametrize(("limits", "most"), [(IDENTITY_LIMITS, 20), (METADATA_LIMITS, 5)])
@pytest.mark.skipif(WINE, reason="wine does not store access times")
def test_requests_per_second_stay_below_the_limit(
    shared_cache: SharedCache, clock: FakeClock, limits: Limits, most: int
) -> None:
    starts: list[float] = []
    for _ in range(3 * most):
        with RateLimiter(shared_cache, "service", no_jitter, limits).acquire(15, no_heartbeat):
            starts.append(clock.now())
    for start in starts:
        assert sum(start <= other < start + 1 for other in starts) <= most
    assert starts[-1] - starts[0] < 6


@pytest.mark.parametrize("is_shared", [False, True])
def test_slow_requests_do_not_delay_others_without_a_limit_at_once(
    shared_cache: SharedCache, clock: FakeClock, is_shared: bool
) -> None:
    rate_limiter = (
        RateLimiter(shared_cache, "service", no_jitter, METADATA_LIMITS)
        if is_shared
        else ProcessRateLimiter(clock, no_jitter, METADATA_LIMITS)
    )
    with (
        rate_limiter.acquire(15, no_heartbeat),
        rate_limiter.acquire(15, no_heartbeat),
        rate_limiter.acquire(15, no_heartbeat),
    ):
        assert clock.now() - 1000 < 0.6


def test_all_processes_pause_after_retry_after_and_continue_with_jitter(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    send(
        RateLimiter(shared_cache, "service", no_jitter),
        ResponseFactory(clock).error(429, retry_after="20"),
    )
    waits = []
    for jitter in (0.1, 0.5, 0.9):
        clock.seconds = 1000.3
        clock.slept.clear()
        send(RateLimiter(shared_cache, "service", functools.partial(float, jitter)))
        waits.append(clock.slept[0])
    assert min(waits) >= 19.7
    assert len(set(waits)) == 3


@pytest.mark.parametrize("status", [410, 429])
def test_pause_without_retry_after_is_about_two_seconds(
    rate_limiters: list[RateLimiter], clock: FakeClock, status: int
) -> None:
    send(rate_limiters[0], ResponseFactory(clock).error(status))
    send(rate_limiters[1])
    assert clock.slept[0] == pytest.approx(2 + 1)


def test_response_that_is_not_from_the_service_causes_no_pause(
    rate_limiters: list[RateLimiter], clock: FakeClock
) -> None:
    for body in ("slow down", "<html>", '{"message": "busy"}', '{"error": {"code": 429}}', "[]"):
        send(rate_limiters[0], ResponseFactory(clock).raw(429, body, retry_after="60"))
    send(rate_limiters[1])
    assert sum(clock.slept) < 2


def test_other_statuses_cause_no_pause(rate_limiters: list[RateLimiter], clock: FakeClock) -> None:
    for status in (200, 400, 404, 500):
        send(rate_limiters[0], ResponseFactory(clock).error(status))
    assert sum(clock.slept) < 1


def test_pause_is_never_shortened(rate_limiters: list[RateLimiter], clock: FakeClock) -> None:
    rate_limiters[0].observe(ResponseFactory(clock).error(429, retry_after="30"))
    rate_limiters[1].observe(ResponseFactory(clock).error(429))
    rate_limiters[2].observe(ResponseFactory(clock).error(429, retry_after="5"))
    send(rate_limiters[3])
    assert clock.slept[0] == pytest.approx(31)
    rate_limiters[0].observe(ResponseFactory(clock).error(429, retry_after="5"))
    rate_limiters[1].observe(ResponseFactory(clock).error(429, retry_after="30"))
    send(rate_limiters[3])
    assert clock.slept[-1] == pytest.approx(31)


@pytest.mark.parametrize("value", ["121", "600", "999999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_pause_is_limited_to_two_minutes(
    rate_limiters: list[RateLimiter], clock: FakeClock, value: str
) -> None:
    rate_limiters[0].observe(ResponseFactory(clock).error(429, retry_after=value))
    with pytest.raises(Refused, match=r"throttled by the service .*: retry in 120 s") as caught:
        send(rate_limiters[1])
    assert "Tried" not in str(caught.value)
    assert caught.value.reason is Reason.THROTTLED
    assert caught.value.retry_after == pytest.approx(120)
    clock.seconds += 120
    send(rate_limiters[1])


@pytest.mark.skipif(WINE, reason="wine does not store access times")
def test_pause_that_begins_during_the_wait_for_a_permit_is_respected(
    rate_limiters: list[RateLimiter], clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rate_limiter in rate_limiters[:4]:
        send(rate_limiter)
    sleep = clock.sleep

    def and_then(seconds: float) -> None:
        sleep(seconds)
        if len(clock.slept) == 1:
            rate_limiters[5].observe(ResponseFactory(clock).error(429, retry_after="20"))

    monkeypatch.setattr(clock, "sleep", and_then)
    send(rate_limiters[6])
    assert clock.now() >= 1020


def test_clearing_the_cache_ends_a_pause(shared_cache: SharedCache, clock: FakeClock) -> None:
    name = "0" * 40
    rate_limiter = RateLimiter(shared_cache, name, no_jitter)
    rate_limiter.observe(ResponseFactory(clock).error(429, retry_after="20"))
    shared_cache.clear()
    send(rate_limiter)
    assert clock.slept == []


def test_endpoints_have_separate_pauses(
    shared_cache: SharedCache, rate_limiters: list[RateLimiter], clock: FakeClock
) -> None:
    send(rate_limiters[0], ResponseFactory(clock).error(429, retry_after="20"))
    send(RateLimiter(shared_cache, "another", no_jitter))
    assert clock.slept == []


def test_requests_are_sent_if_the_disk_is_full(
    rate_limiters: list[RateLimiter], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "open", full)
    for rate_limiter in rate_limiters:
        send(rate_limiter, ResponseFactory(FakeClock()).error(429))


def test_process_limits_its_own_requests_without_a_usable_directory(
    tmp_path: Path, clock: FakeClock
) -> None:
    (tmp_path / "cache").write_text("not a directory")
    shared_cache, source = shared_cache_in(tmp_path / "cache", clock), detect("imds")
    with ExitStack() as others:
        for _ in range(4):
            limiter = rate_limiter_for(shared_cache, source, no_jitter)
            others.enter_context(limiter.acquire(15, no_heartbeat))
        assert clock.slept == []
        with rate_limiter_for(shared_cache, source, no_jitter).acquire(15, no_heartbeat):
            assert clock.now() == pytest.approx(1060, abs=0.1)
    clock.slept.clear()
    send(rate_limiter_for(shared_cache, source, no_jitter))
    assert clock.slept == []


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks available"), ValueError("x")])
def test_requests_are_sent_if_files_cannot_be_locked(
    rate_limiters: list[RateLimiter], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(LeaseAttempt, "try_acquire", fail)
    send(rate_limiters[0])


def test_pause_file_with_the_wall_clock_s_time_is_ignored(
    shared_cache: SharedCache, rate_limiters: list[RateLimiter], clock: FakeClock
) -> None:
    assert shared_cache.usable()
    (Path(shared_cache.directory.path) / "service.pause").touch(
        mode=0o600
    )  # as created, with the wall clock's time
    send(rate_limiters[0])
    assert clock.slept == []


def test_waiting_process_keeps_calling_its_heartbeat(
    rate_limiters: list[RateLimiter], clock: FakeClock
) -> None:
    """Without heartbeats, its lease for the fetch would expire."""
    next_call = clock.now()

    def heartbeat(seconds: float) -> None:
        nonlocal next_call
        assert clock.now() <= next_call
        next_call = clock.now() + seconds

    with (
        rate_limiters[0].acquire(15, no_heartbeat),
        rate_limiters[1].acquire(15, no_heartbeat),
        rate_limiters[2].acquire(15, no_heartbeat),
        rate_limiters[3].acquire(15, no_heartbeat),
        rate_limiters[4].acquire(15, heartbeat),
    ):
        assert clock.now() <= next_call
    rate_limiters[0].observe(ResponseFactory(clock).error(429, retry_after="20"))
    next_call = clock.now()
    with rate_limiters[5].acquire(15, heartbeat):
        assert clock.now() <= next_call


@pytest.mark.parametrize(("limits", "most"), [(IDENTITY_LIMITS, 20), (METADATA_LIMITS, 5)])
def test_requests_per_second_of_a_process_stay_below_the_limit(
    clock: FakeClock, limits: Limits, most: int
) -> None:
    rate_limiter, starts = ProcessRateLimiter(clock, no_jitter, limits), []
    for _ in range(3 * most):
        with rate_limiter.acquire(15, no_heartbeat):
            starts.append(clock.now())
    for start in starts:
        assert sum(start <= other < start + 1 for other in starts) <= most
    assert starts[-1] - starts[0] < 6


def test_no_more_than_four_requests_of_a_process_are_under_way(clock: FakeClock) -> None:
    rate_limiter, heartbeats = ProcessRateLimiter(clock, no_jitter), list[float]()
    with ExitStack() as others:
        for _ in range(4):
            others.enter_context(rate_limiter.acquire(15, no_heartbeat))
        assert clock.slept == []
        # It is sent without a permit after a minute: throttling is better than no token.
        with rate_limiter.acquire(15, heartbeats.append):
            assert clock.now() == pytest.approx(1060, abs=0.1)
        assert len(heartbeats) == len(clock.slept)
        assert set(clock.slept) == {0.02}
    clock.slept.clear()
    with rate_limiter.acquire(15, no_heartbeat):
        assert clock.slept == []


def test_request_that_fails_releases_its_permit(clock: FakeClock) -> None:
    rate_limiter = ProcessRateLimiter(clock, no_jitter)
    for _ in range(8):
        with suppress(KeyboardInterrupt), rate_limiter.acquire(15, no_heartbeat):
            raise KeyboardInterrupt
    assert clock.now() < 1001


def test_forked_child_has_all_permits(clock: FakeClock) -> None:
    rate_limiter = ProcessRateLimiter(clock, no_jitter)
    with ExitStack() as threads_of_the_parent:
        for _ in range(4):
            threads_of_the_parent.enter_context(rate_limiter.acquire(15, no_heartbeat))
        rate_limit._reset()
        with rate_limiter.acquire(15, no_heartbeat):
            assert clock.now() < 1001


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX processes")
def test_child_forked_in_c_has_all_permits(clock: FakeClock) -> None:
    rate_limiter = ProcessRateLimiter(clock, no_jitter)

    def acquire() -> None:
        with rate_limiter.acquire(15, no_heartbeat):
            assert clock.now() < 1001

    with ExitStack() as threads_of_the_parent:
        for _ in range(4):
            threads_of_the_parent.enter_context(rate_limiter.acquire(15, no_heartbeat))
        run_after_fork_in_c(acquire)


def test_threads_of_a_process_keep_the_limit_together() -> None:
    rate_limiter = ProcessRateLimiter(
        SYSTEM_CLOCK, random.random, Limits(at_once=4, per_second=1e6)
    )
    running, most = set[int](), []

    def send_many() -> None:
        for _ in range(50):
            with rate_limiter.acquire(15, no_heartbeat):
                running.add(threading.get_ident())
                most.append(len(running))
                running.discard(threading.get_ident())

    run_concurrently(*[send_many] * 12)
    assert len(most) == 600
    assert max(most) <= 4
