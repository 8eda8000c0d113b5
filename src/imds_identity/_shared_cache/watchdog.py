"""Limits the time that operations on a directory may take: on NFS or FUSE they can hang."""

from __future__ import annotations

import threading
import weakref

from .._core.failure import escape
from .._platform.fork import detect_fork, reset_in_child
from .._platform.log import log_in_thread
from .._platform.threads import run_in_thread
from .open_directory import NoUsableDirectory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from .._platform.clock import Clock

    T = TypeVar("T")

SLOW_SECONDS = 3.0
"""Seconds that an operation may take."""
SKIP_SECONDS = 60.0
"""Seconds for which a directory is not used after a slow operation."""


class Watchdog:
    """Runs operations; after a slow one, and as long as one hangs, the directory is skipped.

    Args:
        path: the directory, for messages.
        clock: the time, which need not pass while the machine is suspended.
        seconds: how long an operation may take.
    """

    def __init__(self, path: str, clock: Clock, seconds: float = SLOW_SECONDS) -> None:
        self._path = path
        self._clock = clock
        self._seconds = seconds
        self._skipped_until = float("-inf")
        self._threads: set[int] = set()
        self._hanging: set[object] = set()
        self._warned = False
        _watchdogs.add(self)

    def run(self, work: Callable[..., T], *args: object, in_thread: bool) -> T:
        """Return ``work(*args)``, called in a new thread if it may hang.

        Raise NoUsableDirectory if it or an earlier operation takes too long, or without a thread.
        """
        detect_fork()
        if threading.get_ident() in self._threads:  # part of another operation
            return work(*args)
        started = self._clock.tick()
        if self._hanging or started < self._skipped_until:
            raise NoUsableDirectory(f"{self._path} did not respond")
        try:
            return self._run_in_thread(work, args) if in_thread else work(*args)
        finally:
            if self._clock.tick() - started >= self._seconds:
                self._skip()

    def finish(self, work: Callable[[], object]) -> None:
        """Call ``work`` in a new thread, even if the directory is skipped."""
        if threading.get_ident() in self._threads:
            work()
            return
        is_responsive = not self._hanging and self._clock.tick() >= self._skipped_until
        run_in_thread(work, self._seconds if is_responsive else 0.0)

    def reset(self) -> None:
        """Forget operations in other threads, which a forked child does not have."""
        self._threads, self._hanging = set(), set()

    def _run_in_thread(self, work: Callable[..., T], args: tuple[object, ...]) -> T:
        results: list[T] = []
        errors: list[Exception] = []

        def refuse() -> None:
            errors.append(NoUsableDirectory(f"{self._path} needs a thread: it could hang"))

        def operate() -> None:
            self._threads.add(threading.get_ident())
            try:
                results.append(work(*args))
            except Exception as error:  # noqa: BLE001 - raised below
                errors.append(error)
            finally:
                self._threads.discard(threading.get_ident())
                self._hanging.discard(operate)

        run_in_thread(operate, self._seconds, refuse)
        if not results and not errors:
            self._hanging.add(operate)
            self._skip()
        if results or errors:
            self._hanging.discard(operate)  # it has returned in the meantime
        if results:
            return results[0]
        raise errors.pop() if errors else NoUsableDirectory(f"{self._path} did not respond")

    def _skip(self) -> None:
        self._skipped_until = self._clock.tick() + SKIP_SECONDS
        if not self._warned:
            self._warned = True
            log_in_thread(
                "WARNING",
                "tokens are not shared with other processes for a while: %s did not respond "
                "within %.0f s",
                escape(self._path),
                self._seconds,
            )


_watchdogs: weakref.WeakSet[Watchdog] = weakref.WeakSet()


@reset_in_child
def _reset() -> None:
    for watchdog in list(_watchdogs):
        watchdog.reset()
