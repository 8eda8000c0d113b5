"""Threads that work for those who ask, and that nobody waits for without an end."""

from __future__ import annotations

import _thread
import os
import sys
import threading
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LOG_SECONDS = 1.0
"""For how long a log call beside is waited for: its handler may be waiting for who waits for it."""
_POLL = 0.01
_internal_threads: set[int] = set()


def start_thread(run: Callable[[], object]) -> None:
    """Run ``run`` in a thread of its own, which nobody waits for at the interpreter's end.

    It is started in one step of the interpreter. `threading.Thread.start` takes several, and a
    signal handler that raises between two of them leaves the new thread waiting for ever.

    Raises:
        RuntimeError: if there can be no more threads, or the interpreter is going down. Until
            Python 3.12 a thread that is started then never runs.
    """
    if sys.is_finalizing():
        raise RuntimeError("the interpreter is going down")
    _thread.start_new_thread(_run, (run,))


def internal_threads() -> frozenset[int]:
    """The threads that run something for this package, by their idents."""
    return frozenset(_internal_threads)


def is_internal_thread() -> bool:
    """Whether this thread is one of them."""
    return _thread.get_ident() in _internal_threads


def join_all(seconds: float) -> None:
    """Wait until none of them runs any more, for ``seconds`` at the most."""
    for _ in range(round(seconds / _POLL)):
        if not _internal_threads:
            return
        threading.Event().wait(_POLL)


def _run(run: Callable[[], object]) -> None:
    ident = _thread.get_ident()
    _internal_threads.add(ident)
    try:
        run()
    finally:
        _internal_threads.discard(ident)


def run_in_thread(run: Callable[[], object], seconds: float) -> None:
    """Run ``run`` in a thread of its own, or here if there can be none; wait for it for a while.

    Args:
        run: what may hang, or must not be interrupted by a signal handler that raises; its own
            exceptions are lost there.
        seconds: how long to wait.
    """
    done = threading.Lock()
    done.acquire()

    def work() -> None:
        with suppress(Exception):
            run()
        done.release()

    try:
        start_thread(work)
    except RuntimeError:
        run()
    else:
        done.acquire(timeout=seconds)


def _after_fork_in_child() -> None:
    _internal_threads.intersection_update({_thread.get_ident()})


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
