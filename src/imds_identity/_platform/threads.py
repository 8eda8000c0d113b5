"""Threads of this package. Nothing waits for them without a time limit.

An interpreter does not wait for them when it ends. Only a subinterpreter does, such as mod_wsgi's:
until Python 3.13 the whole process aborts if a thread outlives it.
"""

from __future__ import annotations

import _thread
import atexit
import os
import sys
import threading
import weakref
from contextlib import suppress

from .fork import detect_fork, identity_of, reset_in_child, wait_before_fork
from .locks import BriefLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable

MIN_STACK_SIZE = 1024 * 1024
"""Bytes. With a stack of 32 KiB, which a program can choose, `requests` crashes."""
_POLL = 0.01
_END_SECONDS = 60.0
"""Seconds for which the end of a subinterpreter waits: longer than any request takes."""
_FORK_SECONDS = 0.05
"""Seconds for which a fork waits for threads that are about to end."""
_C_FORK_SECONDS = 0.5
"""The same before uWSGI can fork: it is longer, because a worker would hang forever."""
_FORK_POLL = 0.0005

_internal_threads: set[int] = set()
_stack_lock = BriefLock()
_is_ending = False
_sockets: weakref.WeakKeyDictionary[socket.socket, tuple[int, int]] = weakref.WeakKeyDictionary()
_local = threading.local()
_states: set[weakref.ref[object]] = set()
"""Each refers to an object that exists until the interpreter drops its state of a thread."""
_ending: dict[int, int] = {}
"""The threads that are about to end: their native IDs, by ident."""


class _ThreadMarker:
    """A thread-local object; a plain `object` would not support weak references."""


def start_thread(run: Callable[[], object]) -> None:
    """Run ``run`` in a new thread, which the interpreter does not wait for at exit.

    Raise RuntimeError if no thread can be started, also for lack of memory, or if the interpreter
    is shutting down; until Python 3.12 a thread that is started then never runs.

    `threading.Thread.start` takes several steps, and a signal handler that raises between two of
    them leaves the new thread waiting forever. This function takes only one step.
    """
    if _is_ending or sys.is_finalizing():
        raise RuntimeError("the interpreter is shutting down")
    detect_fork()  # before the thread registers itself
    try:
        _stack_lock.run(_start, run)
    except MemoryError:  # it depends on the kind of memory which error Python raises
        raise RuntimeError("can't start new thread") from None


def _start(run: Callable[[], object]) -> None:
    state = _ThreadMarker()
    _states.difference_update([each for each in _states.copy() if each() is None])
    _states.add(weakref.ref(state))  # not in the thread: its interpreter may end before it runs
    size = threading.stack_size()  # this also sets it to 0, the system's default
    try:
        if size:
            threading.stack_size(max(size, MIN_STACK_SIZE))
        _thread.start_new_thread(_run, (run, state))
    finally:
        if size:
            threading.stack_size(size)


def internal_threads() -> frozenset[int]:
    """Return the idents of the threads that currently run something for this package."""
    return frozenset(_internal_threads)


def is_internal_thread() -> bool:
    """Return whether the calling thread is one of `internal_threads`."""
    return _thread.get_ident() in _internal_threads


def check_ending() -> None:
    """Raise SystemExit in an internal thread whose interpreter is ending."""
    if _is_ending and is_internal_thread():
        raise SystemExit


def close_at_end(connection: socket.socket) -> None:
    """Shut ``connection`` down when its subinterpreter ends, so that no thread waits for it.

    A forked child does not use it: a greenlet that was copied would receive the parent's response.
    """
    can_fork = hasattr(os, "fork")  # on Windows, a socket is not a descriptor
    _sockets[connection] = identity_of(connection.fileno()) if can_fork else (0, 0)


def join_all(seconds: float) -> None:
    """Wait until no internal thread is running, for ``seconds`` at most."""
    for _ in range(round(seconds / _POLL)):
        if not _internal_threads:
            return
        threading.Event().wait(_POLL)


def mark_thread(*, ending: bool) -> None:
    """Record whether this internal thread is about to end: a fork waits for such threads."""
    ident = _thread.get_ident()
    if not ending:
        _ending.pop(ident, None)
    elif ident in _internal_threads:
        _ending[ident] = threading.get_native_id()


def _run(run: Callable[[], object], state: _ThreadMarker) -> None:
    ident = _thread.get_ident()
    _internal_threads.add(ident)
    _local.state = state
    del state  # this frame may be part of a traceback, which would keep it
    try:
        run()
    finally:
        # Logging has created an object for this thread, and until Python 3.12 it would remain.
        threading._active.pop(ident, None)  # type: ignore[attr-defined]
        mark_thread(ending=True)
        _internal_threads.discard(ident)


def run_in_thread(
    run: Callable[[], object], seconds: float, otherwise: Callable[[], object] | None = None
) -> None:
    """Run ``run`` in a new thread; wait ``seconds`` at most.

    If no thread can be started, run ``otherwise`` in this one, which is ``run`` by default.
    Exceptions that ``run`` raises in the new thread are dropped.
    """
    done = threading.Lock()
    done.acquire()

    def work() -> None:
        with suppress(Exception):
            run()
        mark_thread(ending=True)
        done.release()

    try:
        start_thread(work)
    except RuntimeError:
        (otherwise or run)()
    else:
        done.acquire(timeout=seconds)
        wait_before_uwsgi_fork()


def wait_before_uwsgi_fork() -> None:
    """Under uWSGI, wait for threads that are about to end, because this thread may fork next.

    uWSGI forks in C and without the GIL. If another thread holds it, it stays locked in the child.
    """
    if "uwsgi" in sys.modules:
        _wait_for_ending_threads(_C_FORK_SECONDS)


@wait_before_fork
def _wait_for_ending_threads(seconds: float = _FORK_SECONDS) -> None:
    """Wait for threads that are about to end: Python warns if a process with threads forks."""
    polls = iter(range(round(seconds / _FORK_POLL)))
    for ident, number in list(_ending.items()):
        if number == threading.get_native_id():  # a greenlet of this thread
            continue
        while os.path.exists(f"/proc/self/task/{number}") and next(polls, None) is not None:
            threading.Event().wait(_FORK_POLL)
        _ending.pop(ident, None)


@atexit.register
def _end_in_subinterpreter() -> None:
    """Stop the threads of a subinterpreter, and wait for them."""
    global _is_ending  # noqa: PLW0603
    detect_fork()  # the threads of a parent do not end here
    if not any(state() for state in _states.copy()) or not _is_subinterpreter():
        return
    _is_ending = True
    for connection in list(_sockets):
        with suppress(OSError):
            connection.shutdown(2)
    for _ in range(round(_END_SECONDS / _POLL)):
        is_over = not any(state() for state in _states.copy())
        threading.Event().wait(_POLL)  # also the last thread has some steps left
        if is_over:
            return


def _is_subinterpreter() -> bool:
    import importlib  # not needed before the end of a program

    for name in ("_interpreters", "_xxsubinterpreters"):  # the latter name until Python 3.12
        with suppress(ImportError):
            interpreters = importlib.import_module(name)
            return bool(interpreters.get_current() != interpreters.get_main())
    return False


@reset_in_child
def _reset() -> None:
    _internal_threads.intersection_update({_thread.get_ident()})
    _states.clear()
    _ending.clear()
    _disconnect()


def _disconnect() -> None:
    """Replace the sockets of the parent by a pipe that is closed."""
    inherited = list(_sockets.items())
    _sockets.clear()
    if not inherited:
        return
    reading, writing = os.pipe()
    os.close(writing)
    for connection, identity in inherited:
        with suppress(OSError, ValueError):  # closed in the meantime
            if identity_of(connection.fileno()) == identity:
                os.dup2(reading, connection.fileno(), inheritable=False)
    os.close(reading)


def running_loop(alternative: str) -> asyncio.AbstractEventLoop:
    """Return asyncio's running event loop.

    Raise RuntimeError if there is none, as under trio.

    Args:
        alternative: the sync function that programs without asyncio can run in a thread.
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
