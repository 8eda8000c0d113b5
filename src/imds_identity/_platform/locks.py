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
            """Release it.

            Raises:
                RuntimeError: if this thread does not hold it.
            """


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
        _all_locks.add(self)

    def run(self, work: Callable[..., T], *args: object, **kwargs: object) -> T:
        """Return ``work(*args, **kwargs)``, called while the lock is held."""
        process = os.getpid()
        # setdefault: two threads of a child that start together get the same lock.
        lock = self._locks.get(process) or self._locks.setdefault(process, threading.RLock())
        return locked(lock, work, *args, **kwargs)

    def is_held(self) -> bool:
        """Return whether this thread holds the lock."""
        lock: Any = self._locks.get(os.getpid())
        return lock is not None and bool(lock._is_owned())


def holds_lock() -> bool:
    """Return whether this thread holds any lock.

    If so, code that waits for other threads has interrupted it: a signal handler or a finalizer.
    """
    return any(lock.is_held() for lock in list(_all_locks))


_all_locks: weakref.WeakSet[ForkAwareLock] = weakref.WeakSet()
