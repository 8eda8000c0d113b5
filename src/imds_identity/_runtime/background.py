"""Threads that work for those who ask, and that nobody waits for without an end."""

from __future__ import annotations

import _thread
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

THREAD_NAME = "imds-identity"


def start_thread(run: Callable[[], object]) -> None:
    """Run ``run`` in a thread of its own.

    The main thread has another one start it. Python runs signal handlers in the main thread, and
    one that raises inside of `threading.Thread.start` leaves the new thread waiting for ever.

    Raises:
        RuntimeError: if there can be no more threads, or the interpreter is going down. Until
            Python 3.12 a thread that is started then never runs, and who starts it waits for ever.
    """
    if sys.is_finalizing():
        raise RuntimeError("the interpreter is going down")
    thread = threading.Thread(target=run, name=THREAD_NAME, daemon=True)
    if threading.current_thread() is threading.main_thread():
        _thread.start_new_thread(_start_or_run, (thread, run))
    else:
        thread.start()


def _start_or_run(thread: threading.Thread, run: Callable[[], object]) -> None:
    try:
        thread.start()
    except RuntimeError:  # there can be no more than this one
        run()


def run_beside(run: Callable[[], object], seconds: float) -> None:
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
