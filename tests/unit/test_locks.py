"""An exception of a signal handler never leaves a lock held."""

from __future__ import annotations

import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._core.key import Key
from imds_identity._platform.clock import SYSTEM_CLOCK
from imds_identity._platform.locks import BriefLock, ForkAwareLock, holds_brief_lock, locked
from imds_identity._token_cache.cache import TokenCache
from support import no_jitter

if TYPE_CHECKING:
    from collections.abc import Callable


class TimeUp(Exception):
    """The exception that the signal handler raises."""


class InterruptedLock:
    """A lock whose `acquire` raises right after it takes the lock."""

    def __init__(self) -> None:
        self.lock = threading.RLock()

    def acquire(self) -> bool:
        self.lock.acquire()
        raise TimeUp

    def release(self) -> None:
        self.lock.release()


def is_free(lock: Any) -> bool:
    """Return whether another thread can acquire ``lock``."""
    acquired: list[bool] = []
    thread = threading.Thread(target=lambda: acquired.append(lock.acquire(timeout=1)))
    thread.start()
    thread.join()
    return acquired == [True]


def test_lock_is_held_while_the_function_runs() -> None:
    lock = threading.RLock()
    assert locked(lock, lambda a, b: (a, b, is_free(lock)), 1, b=2) == (1, 2, False)
    assert is_free(lock)


def test_lock_is_released_after_an_exception_right_after_acquiring() -> None:
    lock = InterruptedLock()
    with pytest.raises(TimeUp):
        locked(lock, print)
    assert is_free(lock.lock)


def test_exception_while_waiting_for_a_lock_is_propagated() -> None:
    class BusyLock(InterruptedLock):
        def acquire(self) -> bool:
            raise TimeUp

    with pytest.raises(TimeUp):
        locked(BusyLock(), print)


def test_thread_knows_whether_it_holds_a_lock() -> None:
    lock, others = BriefLock(), list[bool]()

    def look() -> bool:
        thread = threading.Thread(target=lambda: others.append(holds_brief_lock()))
        thread.start()
        thread.join()
        return holds_brief_lock()

    assert (look(), lock.run(look), look()) == (False, True, False)
    assert others == [False, False, False]
    assert not ForkAwareLock().run(holds_brief_lock)  # another greenlet may hold it during a wait


def test_nested_lock_remains_held() -> None:
    lock = threading.RLock()
    assert not locked(lock, lambda: locked(lock, int) or is_free(lock))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX signals")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", ["token cache", "metadata"])
def test_signals_leave_no_lock_held(name: str) -> None:
    """Since Python 3.14, ``with lock`` does not guarantee this."""
    token_cache, fork_aware_lock = TokenCache(SYSTEM_CLOCK, no_jitter), ForkAwareLock()

    work: Callable[[], object] = {
        "token cache": lambda: token_cache.entry(Key("imds", "http://service")),
        "metadata": lambda: fork_aware_lock.run(int),
    }[name]

    def time_up(*_: object) -> None:
        raise TimeUp

    def run_until_interrupted() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.0002)
        for _ in range(1000):  # an exception in a finalizer is lost
            work()

    previous_handler = signal.signal(signal.SIGALRM, time_up)
    try:
        for _ in range(100):
            with suppress(TimeUp):
                run_until_interrupted()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous_handler)
    other_thread = threading.Thread(target=work, daemon=True)
    other_thread.start()
    other_thread.join(10)
    assert not other_thread.is_alive()
