"""The package's fork hooks, which run in a defined order.

A child process has one thread: the one that forked. A lock that another thread held at that moment
stays locked in the child. So each module with locks or threads registers a function that resets its
state in the child, and a fork waits until the package's threads have finished their log calls,
because a log handler may have a lock of its own.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress

from .locks import locked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

FORK_SECONDS = 10.0
"""Seconds for which a fork waits for the log calls of other threads."""
_POLL = 0.005

_resets: list[Callable[[], None]] = []
_uninterrupted: set[int] = set()
_gate = threading.RLock()
_is_registered = False


def reset_in_child(reset: Callable[[], None]) -> Callable[[], None]:
    """Call ``reset`` in each forked child, in the order of registration: lower layers first."""
    _resets.append(reset)
    return reset


def uninterrupted(call: Callable[..., object], *args: object, **kwargs: object) -> None:
    """Run ``call``; a fork by another thread waits until it returns. Calls run concurrently."""
    thread = threading.get_ident()
    locked(_gate, _enter, thread)
    try:
        call(*args, **kwargs)
    finally:
        _uninterrupted.discard(thread)


def _enter(thread: int) -> None:
    global _is_registered  # noqa: PLW0603 - hooks cannot be unregistered
    if not _is_registered and hasattr(os, "register_at_fork"):
        # Not at import: hooks run in reverse order, and this one must run before logging's hook
        # takes the lock of all loggers, which the awaited log call may need.
        os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent)
    _is_registered = True
    _uninterrupted.add(thread)


def _before_fork() -> None:
    _gate.acquire()
    for _ in range(round(FORK_SECONDS / _POLL)):
        # A copy, which is made atomically: other threads change the original in the meantime.
        if _uninterrupted.copy() <= {threading.get_ident()}:
            return
        threading.Event().wait(_POLL)


def _after_fork_in_parent() -> None:
    with suppress(RuntimeError):  # a signal handler raised before the gate was acquired
        _gate.release()


def _after_fork_in_child() -> None:
    global _gate  # noqa: PLW0603 - a thread that no longer exists may hold the old one
    _gate = threading.RLock()
    _uninterrupted.intersection_update({threading.get_ident()})
    for reset in _resets:
        reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
