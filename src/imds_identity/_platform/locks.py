"""What is done under a lock, whatever a signal handler raises in the meantime."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol, TypeVar

    T = TypeVar("T")

    class Lock(Protocol):
        """A reentrant lock, such as `threading.RLock`."""

        def acquire(self) -> bool:
            """Wait until it is had."""

        def release(self) -> None:
            """Give it back.

            Raises:
                RuntimeError: if this thread does not hold it.
            """


def locked(lock: Lock, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """What ``work(*args, **kwargs)`` returns, which is called under ``lock``.

    Unlike ``with lock``: since Python 3.14 a signal handler may run once that has the lock and
    before it is sure to give it back. What the handler raises there leaves it locked for ever.
    """
    try:
        lock.acquire()
        return work(*args, **kwargs)
    finally:
        try:  # noqa: SIM105 - a handler could run within suppress()
            lock.release()
        except RuntimeError:  # the exception came while the lock was waited for
            pass
