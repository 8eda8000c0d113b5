"""Locks that a signal handler's exception does not leave locked, whenever it is raised."""

from __future__ import annotations

import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._core.key import Key
from imds_identity._platform.clock import SYSTEM_CLOCK
from imds_identity._platform.locks import locked
from imds_identity._token_cache.cache import TokenCache
from imds_identity.metadata._requests.connection import ForkAwareLock
from support import no_jitter

if TYPE_CHECKING:
    from collections.abc import Callable


class TimeUp(Exception):
    """What the handler raises."""


class Rings:
    """A lock that is interrupted at the first moment at which it is held."""

    def __init__(self) -> None:
        self.lock = threading.RLock()

    def acquire(self) -> bool:
        self.lock.acquire()
        raise TimeUp

    def release(self) -> None:
        self.lock.release()


def is_free(lock: Any) -> bool:
    """Whether another thread can have ``lock``."""
    had: list[bool] = []
    thread = threading.Thread(target=lambda: had.append(lock.acquire(timeout=1)))
    thread.start()
    thread.join()
    return had == [True]


def test_what_is_done_under_a_lock_is_done_alone() -> None:
    lock = threading.RLock()
    assert locked(lock, lambda a, b: (a, b, is_free(lock)), 1, b=2) == (1, 2, False)
    assert is_free(lock)


def test_a_lock_is_free_after_an_exception_in_the_moment_in_which_it_was_had() -> None:
    rings = Rings()
    with pytest.raises(TimeUp):
        locked(rings, print)
    assert is_free(rings.lock)


def test_who_is_interrupted_while_waiting_for_a_lock_gets_that_exception() -> None:
    class Busy(Rings):
        def acquire(self) -> bool:
            raise TimeUp

    with pytest.raises(TimeUp):
        locked(Busy(), print)


def test_a_lock_that_is_held_already_is_held_on() -> None:
    lock = threading.RLock()
    assert not locked(lock, lambda: locked(lock, int) or is_free(lock))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX signals")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", ["token cache", "metadata"])
def test_signals_leave_nothing_locked(name: str) -> None:
    """Since Python 3.14 ``with lock`` does not hold what this does."""
    token_cache, alone = TokenCache(SYSTEM_CLOCK, no_jitter), ForkAwareLock()

    work: Callable[[], object] = {
        "token cache": lambda: token_cache.entry(Key("imds", "http://service")),
        "metadata": lambda: alone.run(int),
    }[name]

    def time_up(*_: object) -> None:
        raise TimeUp

    def interrupted() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.0002)
        for _ in range(1000):  # a finaliser may be what is interrupted, which ends nothing
            work()

    before = signal.signal(signal.SIGALRM, time_up)
    try:
        for _ in range(100):
            with suppress(TimeUp):
                interrupted()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    beside = threading.Thread(target=work, daemon=True)
    beside.start()
    beside.join(10)
    assert not beside.is_alive()
