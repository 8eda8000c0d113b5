"""Locks that neither a signal handler nor a fork can leave locked."""

from __future__ import annotations

import os
import threading
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol, TypeVar

    T = TypeVar("T")

    class Lock(Protocol):
        """A reentrant lock, such as `threading.RLock`."""

        def acquire(self) -> bool:
            """Wait for the lock and take it."""

        def release(self) -> None:
            """Release it; RuntimeError if this thread does not hold it."""


def locked(lock: Lock, work: Callable[..., T], *args: object, **kwargs: object) -> T:
    """Return ``work(*args, **kwargs)``, called while ``lock`` is held.

    Since Python 3.14 a signal handler may run inside a ``with`` statement after the lock was taken
    and before its release is certain. If the handler raises there, the lock stays locked.
    """
    try:
        lock.acquire()
        return work(*args, **kwargs)
    finally:
        try:  # noqa: SIM105 - a signal handler could run within suppress()
            lock.release()
        except RuntimeError:  # the exception was raised while waiting for the lock
            pass


class ForkAwareLock:
    """A reentrant lock that is free in a forked child, even if another thread held it."""

    def __init__(self) -> None:
        self._locks = {os.getpid(): threading.RLock()}

    def run(self, work: Callable[..., T], *args: object, **kwargs: object) -> T:
        """Return ``work(*args, **kwargs)``, called while the lock is held."""
        process = os.getpid()
        # setdefault: two threads of a child that start together get the same lock.
        lock = self._locks.get(process) or self._locks.setdefault(process, threading.RLock())
        return locked(lock, work, *args, **kwargs)


class BriefLock(ForkAwareLock):
    """A `ForkAwareLock` that is only held for steps that wait for nothing."""

    def __init__(self) -> None:
        super().__init__()
        _brief_locks.add(weakref.ref(self, _brief_locks.discard))

    def is_held(self) -> bool:
        """Return whether this thread holds the lock."""
        lock: Any = self._locks.get(os.getpid())
        return lock is not None and bool(lock._is_owned())


def holds_brief_lock() -> bool:
    """Return whether this thread holds a `BriefLock`.

    If code that waits finds this, it runs in a signal handler or a finalizer that has interrupted
    the steps: other threads may need the lock.
    """
    locks = [lock() for lock in _brief_locks.copy()]
    return any(lock.is_held() for lock in locks if lock is not None)


_brief_locks: set[weakref.ref[BriefLock]] = set()
