"""Leases: holders, waiting processes, expiry and successors."""

from __future__ import annotations

import errno
import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._platform.fork import detect_fork
from imds_identity._shared_cache import flock
from imds_identity._shared_cache.lease import FIRST_LEASE_SECONDS, LONGEST_LEASE_SECONDS
from support import (
    WINE,
    FakeClock,
    count_traced_lines,
    run_after_fork_in_c,
    shared_cache_in,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_identity._shared_cache.lease import LeaseAttempt
    from imds_identity._shared_cache.store import SharedCache


@pytest.fixture
def shared_cache(tmp_path: Path, clock: FakeClock) -> SharedCache:
    return shared_cache_in(tmp_path / "cache", clock)


@pytest.fixture(params=["flock"] * (sys.platform != "win32") + ["filelock"], autouse=True)
def _system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test with the locks of POSIX and with those that Windows uses."""
    if request.param == "filelock":
        monkeypatch.setattr(flock, "fcntl", None)


def attempt_of_a_suspended_process(
    shared_cache: SharedCache, expiry: float = FIRST_LEASE_SECONDS
) -> LeaseAttempt:
    """Return the attempt of a process that acquires the lease and is then suspended."""
    attempt = shared_cache.lease_attempt("x")
    lease = attempt.try_acquire()
    assert lease is not None
    lease.extend(expiry)
    return attempt


def waited(shared_cache: SharedCache, clock: FakeClock, name: str = "x") -> tuple[float, bool]:
    """Return how long a process waits for the lease, and whether it acquires it."""
    started = clock.now()
    with shared_cache.leased(name) as lease:
        return clock.now() - started, lease is not None


def test_free_lease_is_acquired_without_waiting(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    assert [waited(shared_cache, clock) for _ in range(3)] == [(0, True)] * 3


def test_waiting_process_acquires_a_released_lease(
    shared_cache: SharedCache, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspended = attempt_of_a_suspended_process(shared_cache)
    sleep = clock.sleep

    def released_after_a_second(seconds: float) -> None:
        sleep(seconds)
        if clock.now() > 1001:
            suspended.close()

    monkeypatch.setattr(clock, "sleep", released_after_a_second)
    seconds, acquired = waited(shared_cache, clock)
    assert 1 < seconds < 1.5
    assert acquired
    assert not (Path(shared_cache.directory.path) / "x.lock.1").exists()


@pytest.mark.parametrize("expiry", [FIRST_LEASE_SECONDS, 15.0, 60.0])
def test_process_waits_no_longer_than_until_the_expiry(
    shared_cache: SharedCache, clock: FakeClock, expiry: float
) -> None:
    suspended = attempt_of_a_suspended_process(shared_cache, expiry)
    seconds, acquired = waited(shared_cache, clock)
    assert expiry <= seconds < expiry + 1
    assert acquired
    # The next process does not wait, because the lease has expired already.
    seconds, acquired = waited(shared_cache, clock)
    assert seconds < 1
    assert acquired
    suspended.close()
    assert waited(shared_cache, clock) == (0, True)


def test_waiting_process_polls_less_and_less_often(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    suspended = attempt_of_a_suspended_process(shared_cache, 60)
    waited(shared_cache, clock)
    assert 0.01 <= clock.slept[0] < 0.03
    assert 0.2 < max(clock.slept) < 0.3
    assert all(pause >= 0.01 for pause in clock.slept)
    assert len({round(pause, 6) for pause in clock.slept[-50:]}) > 10  # with jitter
    suspended.close()


def test_expiry_is_limited_to_the_longest_fetch(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    suspended = attempt_of_a_suspended_process(shared_cache, 1e12)
    assert waited(shared_cache, clock)[0] < LONGEST_LEASE_SECONDS + 1
    suspended.close()


def test_lease_has_expired_at_the_moment_of_its_expiry(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    suspended = attempt_of_a_suspended_process(shared_cache)
    attempt = shared_cache.lease_attempt("x")
    found = []
    for seconds in (FIRST_LEASE_SECONDS - 0.5, 0.5, 0.125):
        clock.seconds += seconds
        found.append(attempt.try_acquire())
    # The holder may extend it for a moment.
    assert [lease is not None for lease in found] == [False, False, True]
    attempt.close()
    suspended.close()


def test_process_waits_for_a_successor_in_the_same_way(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    suspended = attempt_of_a_suspended_process(shared_cache)
    clock.seconds += FIRST_LEASE_SECONDS + 1
    with shared_cache.leased("x") as second:
        assert second
        second.extend(20)
        seconds, acquired = waited(shared_cache, clock)
        assert 20 <= seconds < 21
        assert acquired
    suspended.close()


def test_lease_is_unavailable_after_all_successors_have_expired(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    suspended = []
    for _ in range(4):
        suspended.append(shared_cache.lease_attempt("x"))
        while suspended[-1].try_acquire() is None:
            clock.sleep(0.2)
    seconds, acquired = waited(shared_cache, clock)
    assert seconds < FIRST_LEASE_SECONDS + 1
    assert not acquired
    for attempt in suspended:
        attempt.close()


def test_holder_that_has_not_set_its_expiry_yet_is_waited_for(
    shared_cache: SharedCache, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process first locks the file and then sets the expiry."""
    assert waited(shared_cache, clock) == (0, True)
    clock.seconds += 1000
    file = shared_cache.directory.open("x.lock", "r+")
    assert flock.try_lock(file)
    attempt = shared_cache.lease_attempt("x")
    assert attempt.try_acquire() is None
    os.utime(Path(shared_cache.directory.path) / "x.lock", (0, clock.now() + 10))
    clock.seconds += 5
    assert attempt.try_acquire() is None
    attempt.close()
    file.close()


@pytest.mark.parametrize(
    "change", ["unlinked", "replaced", "moved away", "gone with its directory"]
)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps the name of an open file")
def test_lease_whose_file_was_replaced_is_acquired_again(
    shared_cache: SharedCache, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    assert shared_cache.usable()
    lock = Path(shared_cache.directory.path) / "x.lock"
    take = flock.try_lock
    done: list[str] = []

    def exchanged(file: Any) -> bool:
        if not done:
            done.append(change)
            if change == "moved away":
                lock.rename(lock.with_name("elsewhere"))
            else:
                lock.unlink()
            if change == "replaced":
                lock.touch(mode=0o600)
            if change == "gone with its directory":
                lock.parent.rmdir()
        return take(file)

    monkeypatch.setattr(flock, "try_lock", exchanged)
    with shared_cache.leased("x") as lease:
        assert lease is not None
        inode = os.fstat(lease._file.fileno()).st_ino
        assert lock.stat().st_ino == inode


@pytest.mark.skipif(WINE, reason="wine does not store access times")
def test_lease_is_not_acquired_during_its_cooldown(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    attempt = shared_cache.lease_attempt("x")
    assert attempt.try_acquire(seconds=1, cooldown=2)
    attempt.close()
    seconds, acquired = waited(shared_cache, clock)
    assert 2 <= seconds < 2.5
    assert acquired


@pytest.mark.skipif(WINE, reason="wine does not store access times")
def test_cooldown_of_a_stopped_holder_is_respected(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    suspended = shared_cache.lease_attempt("x")
    assert suspended.try_acquire(seconds=1, cooldown=4)
    seconds, acquired = waited(shared_cache, clock)
    assert 4 <= seconds <= 5  # after that, any cooldown is over
    assert acquired
    suspended.close()


@pytest.mark.skipif(WINE, reason="wine does not store access times")
def test_cooldown_is_limited_to_five_seconds(shared_cache: SharedCache, clock: FakeClock) -> None:
    attempt = shared_cache.lease_attempt("x")
    assert attempt.try_acquire(seconds=1, cooldown=60)
    attempt.close()
    assert 5 <= waited(shared_cache, clock)[0] < 5.5


class Stopped(BaseException):
    """The exception of a signal handler."""


def line_count(work: Callable[[], object]) -> int:
    """Return how many lines of the package ``work`` executes."""
    return _traced(work, -1)


def _traced(work: Callable[[], object], stop: int) -> int:
    return count_traced_lines(work, lambda file, _line: "imds_identity" in file, stop, Stopped)


def test_signal_handler_that_raises_at_any_moment_leaves_no_lock(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    def work() -> None:
        with shared_cache.leased("x") as lease:
            assert lease
            lease.extend(10)

    work()
    raised: list[BaseException] = []  # kept, because error trackers keep exceptions
    descriptors = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    for moment in range(1, line_count(work) + 1):
        try:
            _traced(work, moment)
        except Stopped as error:
            raised.append(error)
        assert waited(shared_cache, clock)[0] < 0.5, moment
    assert len(raised) > 30
    raised.clear()
    gc.collect()
    if sys.platform == "linux":
        assert len(os.listdir("/proc/self/fd")) <= descriptors


def test_file_system_without_locks_causes_one_warning(
    shared_cache: SharedCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unsupported(file: object) -> bool:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(flock, "try_lock", unsupported)
    for _ in range(3):
        with shared_cache.leased("x") as lease:
            assert lease is None
    assert len(caplog.records) == 1
    assert "cannot be locked" in caplog.text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a fork")
def test_child_forked_in_c_neither_keeps_nor_releases_nor_shares_a_lease(
    shared_cache: SharedCache,
) -> None:
    attempt = shared_cache.lease_attempt("x")
    assert attempt.try_acquire()

    def compete() -> None:
        own = shared_cache.lease_attempt("x")
        assert own.try_acquire() is None
        with pytest.raises(ValueError, match="closed file"):
            attempt.try_acquire()
        attempt.close()
        assert own.try_acquire() is None

    run_after_fork_in_c(compete)
    other = shared_cache.lease_attempt("x")
    assert other.try_acquire() is None
    attempt.close()
    assert other.try_acquire()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a fork")
def test_child_forked_in_c_closes_no_file_that_reuses_the_number_of_a_lock_file(
    shared_cache: SharedCache,
) -> None:
    attempt = shared_cache.lease_attempt("x")
    assert attempt.try_acquire()
    descriptor = attempt._files[0].file.fileno()

    def reuse() -> None:
        reading, writing = os.pipe()
        os.dup2(writing, descriptor)
        detect_fork()
        assert os.write(descriptor, b"x") == 1
        os.close(reading)

    run_after_fork_in_c(reuse)
    attempt.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_child_neither_keeps_nor_releases_a_lease(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    ready, is_ready = os.pipe()
    end, over = os.pipe()
    with shared_cache.leased("x") as lease:
        assert lease
        child = os.fork()
        if not child:
            lease.extend(5)
            flock.release(lease._file)
            os.write(is_ready, b"r")
            os.close(over)
            os.read(end, 1)
            os._exit(0)
        os.read(ready, 1)
        attempt = shared_cache.lease_attempt("x")
        assert attempt.try_acquire() is None  # the child has not released it
        attempt.close()
    assert waited(shared_cache, clock) == (0, True)  # and it does not keep it
    os.close(over)
    os.waitpid(child, 0)
    for descriptor in (ready, is_ready, end):
        os.close(descriptor)
