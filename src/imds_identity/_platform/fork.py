"""The package's fork hooks, which run in a defined order.

A child process has one thread: the one that forked. A lock that another thread held at that moment
stays locked in the child. So each module with locks or threads registers a function that resets its
state in the child, and a fork waits until the package's threads have finished their log calls,
because a log handler may have a lock of its own.

Python does not run fork hooks if C code forks, as uWSGI does. So the state is also reset when the
child first takes a lock, starts a thread or waits.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

from .locks import ForkAwareLock, locked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec

    P = ParamSpec("P")

FORK_SECONDS = 10.0
"""Seconds for which a fork waits for the log calls of other threads."""
_POLL = 0.005
_LOCKING_MODULES = {"logging": "_lock", "concurrent.futures.thread": "_global_shutdown_lock"}
"""Modules that take a lock before each fork and release it afterwards."""

_waits: list[Callable[[], None]] = []
_resets: list[Callable[[], None]] = []
_uninterrupted: set[int] = set()
_gate = threading.RLock()
_process = os.getpid()
_reset_lock = ForkAwareLock()


def wait_before_fork(wait: Callable[P, None]) -> Callable[P, None]:
    """Call ``wait`` before each fork."""
    _waits.append(wait)
    return wait


def reset_in_child(reset: Callable[[], None]) -> Callable[[], None]:
    """Call ``reset`` in each forked child, in the order of registration: lower layers first.

    It must not take a lock or start a thread.
    """
    _resets.append(reset)
    return reset


def detect_fork() -> None:
    """Reset the state if this process was forked and Python has not run the fork hooks."""
    if os.getpid() != _process:
        _reset_lock.run(_reset_once)


def identity_of(descriptor: int) -> tuple[int, int]:
    """Return what identifies the open file of ``descriptor``: the number may be used again."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def uninterrupted(call: Callable[..., object], *args: object, **kwargs: object) -> None:
    """Run ``call``; a fork by another thread waits until it returns. Calls run concurrently."""
    detect_fork()
    thread = threading.get_ident()
    if thread in _uninterrupted:
        call(*args, **kwargs)
        return
    try:  # a signal handler may raise at any moment from here on
        locked(_gate, _uninterrupted.add, thread)
        call(*args, **kwargs)
    finally:
        _uninterrupted.discard(thread)


def _before_fork() -> None:
    detect_fork()
    for wait in _waits:
        wait()
    _gate.acquire()
    imported = _imported_locking_modules()
    for _ in range(round(FORK_SECONDS / _POLL)):
        # Other threads leave while this one looks; a copy is made in one step.
        if _uninterrupted.copy() <= {threading.get_ident()}:
            break
        _wait_without_logging_lock()
    for name in _imported_locking_modules() - imported:
        # Imported during the wait: it releases this lock after the fork.
        getattr(sys.modules[name], _LOCKING_MODULES[name]).acquire()


def _wait_without_logging_lock() -> None:
    """Wait for `_POLL` without the lock that `logging` took for this fork.

    Hooks run in reverse order of registration, so that logging's ran first if it was imported
    later. A thread that this fork waits for may need the lock.
    """
    try:
        threading.Condition(getattr(sys.modules.get("logging"), "_lock", None)).wait(_POLL)
    except RuntimeError:  # this thread does not hold the lock
        threading.Event().wait(_POLL)


def _imported_locking_modules() -> set[str]:
    modules = {name: sys.modules.get(name) for name in _LOCKING_MODULES}
    return {
        name
        for name, module in modules.items()
        if module is not None and not getattr(module.__spec__, "_initializing", False)
    }


def _after_fork_in_parent() -> None:
    with suppress(RuntimeError):  # a signal handler raised before the gate was acquired
        _gate.release()


def _after_fork_in_child() -> None:
    global _gate, _process  # noqa: PLW0603 - a thread that no longer exists may hold the gate
    _gate = threading.RLock()
    _uninterrupted.intersection_update({threading.get_ident()})
    for reset in _resets:
        with suppress(Exception):  # such as a descriptor that the program closed
            reset()
    _process = os.getpid()


def _reset_once() -> None:
    if os.getpid() != _process:  # another thread may have reset the state in the meantime
        _after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
