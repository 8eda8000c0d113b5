"""Leases: who holds one, who waits and for how long, and who is passed over."""

from __future__ import annotations

import errno
import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._shared_cache import flock
from imds_identity._shared_cache.lease import FIRST_LEASE_SECONDS, LONGEST_LEASE_SECONDS
from support import WINE, FakeClock, lines_run, shared_cache_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_identity._shared_cache.lease import LeaseAttempt
    from imds_identity._shared_cache.store import SharedCache


@pytest.fixture
def shared_cache(tmp_path: Path, clock: FakeClock) -> SharedCache:
    return shared_cache_in(tmp_path / "cache", clock)


@pytest.fixture(params=["flock", "filelock"], autouse=True)
def _system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on POSIX, and as on Windows, as far as that can be had here."""
    if request.param == "filelock":
        monkeypatch.setattr(flock, "fcntl", None)


def held_by_a_frozen_process(
    shared_cache: SharedCache, expiry: float = FIRST_LEASE_SECONDS
) -> LeaseAttempt:
    """A claim whose lease was had, and whose holder is not heard of again."""
    lease_attempt = shared_cache.lease_attempt("x")
    lease = lease_attempt.try_acquire()
    assert lease is not None
    lease.extend(expiry)
    return lease_attempt


def waited(shared_cache: SharedCache, clock: FakeClock, name: str = "x") -> tuple[float, bool]:
    """For how long somebody waits for the lease, and whether it is had."""
    started = clock.now()
    with shared_cache.leased(name) as lease:
        return clock.now() - started, lease is not None


def test_a_free_lease_is_had_at_once_and_again(shared_cache: SharedCache, clock: FakeClock) -> None:
    assert [waited(shared_cache, clock) for _ in range(3)] == [(0, True)] * 3


def test_whoever_waits_gets_it_once_it_is_given_back(
    shared_cache: SharedCache, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = held_by_a_frozen_process(shared_cache)
    sleep = clock.sleep

    def released_after_a_second(seconds: float) -> None:
        sleep(seconds)
        if clock.now() > 1001:
            frozen.close()

    monkeypatch.setattr(clock, "sleep", released_after_a_second)
    seconds, had = waited(shared_cache, clock)
    assert 1 < seconds < 1.5
    assert had
    assert not (Path(shared_cache.directory.path) / "x.lock.1").exists()


@pytest.mark.parametrize("expiry", [FIRST_LEASE_SECONDS, 15.0, 60.0])
def test_nobody_waits_longer_than_the_holder_s_term(
    shared_cache: SharedCache, clock: FakeClock, expiry: float
) -> None:
    frozen = held_by_a_frozen_process(shared_cache, expiry)
    seconds, had = waited(shared_cache, clock)
    assert expiry <= seconds < expiry + 1
    assert had
    # Who comes later sees at once that it is overdue.
    seconds, had = waited(shared_cache, clock)
    assert seconds < 1
    assert had
    frozen.close()
    assert waited(shared_cache, clock) == (0, True)


def test_no_term_is_longer_than_a_fetch_can_be(shared_cache: SharedCache, clock: FakeClock) -> None:
    frozen = held_by_a_frozen_process(shared_cache, 1e12)
    assert waited(shared_cache, clock)[0] < LONGEST_LEASE_SECONDS + 1
    frozen.close()


def test_a_successor_is_waited_for_in_the_same_way(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    frozen = held_by_a_frozen_process(shared_cache)
    clock.seconds += FIRST_LEASE_SECONDS + 1
    with shared_cache.leased("x") as second:
        assert second
        second.extend(20)
        seconds, had = waited(shared_cache, clock)
        assert 20 <= seconds < 21
        assert had
    frozen.close()


def test_when_all_are_overdue_one_goes_without(shared_cache: SharedCache, clock: FakeClock) -> None:
    frozen = []
    for _ in range(4):
        frozen.append(shared_cache.lease_attempt("x"))
        while frozen[-1].try_acquire() is None:
            clock.sleep(0.2)
    seconds, had = waited(shared_cache, clock)
    assert seconds < FIRST_LEASE_SECONDS + 1
    assert not had
    for lease_attempt in frozen:
        lease_attempt.close()


def test_a_holder_that_has_not_noted_its_term_yet_is_not_passed_over(
    shared_cache: SharedCache, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between taking a lock and noting a term lies a moment."""
    assert waited(shared_cache, clock) == (0, True)
    clock.seconds += 1000
    file = shared_cache.directory.open("x.lock", "r+")
    assert flock.try_lock(file)
    lease_attempt = shared_cache.lease_attempt("x")
    assert lease_attempt.try_acquire() is None
    os.utime(Path(shared_cache.directory.path) / "x.lock", (0, clock.now() + 10))
    clock.seconds += 5
    assert lease_attempt.try_acquire() is None
    lease_attempt.close()
    file.close()


@pytest.mark.parametrize("what", ["unlinked", "replaced", "moved away", "gone with its directory"])
@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps the name of an open file")
def test_a_lock_whose_file_is_exchanged_in_the_meantime_is_taken_anew(
    shared_cache: SharedCache, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    assert shared_cache.usable()
    lock = Path(shared_cache.directory.path) / "x.lock"
    take = flock.try_lock
    done: list[str] = []

    def exchanged(file: Any) -> bool:
        if not done:
            done.append(what)
            if what == "moved away":
                lock.rename(lock.with_name("elsewhere"))
            else:
                lock.unlink()
            if what == "replaced":
                lock.touch(mode=0o600)
            if what == "gone with its directory":
                lock.parent.rmdir()
        return take(file)

    monkeypatch.setattr(flock, "try_lock", exchanged)
    with shared_cache.leased("x") as lease:
        assert lease is not None
        inode = os.fstat(lease._file.fileno()).st_ino
        assert lock.stat().st_ino == inode


@pytest.mark.skipif(WINE, reason="wine keeps no time of access")
def test_a_rest_is_kept_even_if_the_lease_is_free(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    with shared_cache.leased("x") as lease:
        assert lease
        lease.cooldown(2)
        lease.extend(1)
    seconds, had = waited(shared_cache, clock)
    assert 2 <= seconds < 2.5
    assert had


class Stopped(BaseException):
    """What a handler of signals raises."""


def moments(work: Callable[[], object]) -> int:
    """How many lines of the package are run."""
    return _traced(work, -1)


def _traced(work: Callable[[], object], stop: int) -> int:
    return lines_run(work, lambda file, _line: "imds_identity" in file, stop, Stopped)


def test_a_signal_that_raises_at_any_moment_leaves_no_lock_held(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    def work() -> None:
        with shared_cache.leased("x") as lease:
            assert lease
            lease.extend(10)

    work()
    raised: list[BaseException] = []  # they are kept, as error trackers do
    descriptors = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    for moment in range(1, moments(work) + 1):
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


def test_a_file_system_without_locks_is_gone_without(
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
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_holds_nothing_and_gives_nothing_back(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    ready, told = os.pipe()
    end, over = os.pipe()
    with shared_cache.leased("x") as lease:
        assert lease
        child = os.fork()
        if not child:
            lease.extend(5)
            flock.release(lease._file)
            os.write(told, b"r")
            os.close(over)
            os.read(end, 1)
            os._exit(0)
        os.read(ready, 1)
        lease_attempt = shared_cache.lease_attempt("x")
        assert lease_attempt.try_acquire() is None  # the child gave nothing back
        lease_attempt.close()
    assert waited(shared_cache, clock) == (0, True)  # and keeps nothing, while it lives
    os.close(over)
    os.waitpid(child, 0)
    for descriptor in (ready, told, end):
        os.close(descriptor)
