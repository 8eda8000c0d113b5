"""Threads of this package. Nothing waits for them without a time limit."""

from __future__ import annotations

import _thread
import sys
import threading
from contextlib import suppress

from .fork import detect_fork, reset_in_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_POLL = 0.01
_internal_threads: set[int] = set()


def start_thread(run: Callable[[], object]) -> None:
    """Run ``run`` in a new thread, which the interpreter does not wait for at exit.

    `threading.Thread.start` takes several steps, and a signal handler that raises between two of
    them leaves the new thread waiting forever. This function takes only one step.

    Raises:
        RuntimeError: if no thread can be started, or the interpreter is shutting down; until
            Python 3.12 a thread that is started then never runs.
    """
    if sys.is_finalizing():
        raise RuntimeError("the interpreter is shutting down")
    detect_fork()  # before the thread registers itself
    _thread.start_new_thread(_run, (run,))


def internal_threads() -> frozenset[int]:
    """Return the idents of the threads that currently run something for this package."""
    return frozenset(_internal_threads)


def is_internal_thread() -> bool:
    """Return whether the calling thread is one of `internal_threads`."""
    return _thread.get_ident() in _internal_threads


def runs_event_loop() -> bool:
    """Return whether an asyncio event loop is running in this thread."""
    get_running_loop = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    return get_running_loop is not None and get_running_loop() is not None


def join_all(seconds: float) -> None:
    """Wait until no internal thread is running, for ``seconds`` at most."""
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
    """Run ``run`` in a new thread, or in this one if none can be started; wait ``seconds`` at most.

    Exceptions that ``run`` raises in the new thread are dropped.
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


@reset_in_child
def _reset() -> None:
    _internal_threads.intersection_update({_thread.get_ident()})


def running_loop(alternative: str) -> asyncio.AbstractEventLoop:
    """Return asyncio's running event loop.

    Args:
        alternative: the sync function that programs without asyncio can run in a thread.

    Raises:
        RuntimeError: if there is none, as under trio.
    """
    import asyncio  # every caller has imported it

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        pass
    raise RuntimeError(
        "there is no running asyncio event loop, and this class works with asyncio only. Under "
        f"trio, run the sync function in a thread: await trio.to_thread.run_sync({alternative})"
    )
