"""Work that a fork must not cut in two.

A child has one thread: that which forked. A lock that another thread held is held for ever in the
child, and an import or a log call holds such locks. So a fork waits, for a bounded time, until no
other thread is inside `whole`.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from typing import Any

_FORK_SECONDS = 10.0
_POLL = 0.005


class whole:  # noqa: N801 - used as a statement: ``with whole():``
    """A context manager for imports, log calls and other work that holds locks of others.

    Threads inside do not exclude one another. Whoever is thrown out by an exception at any moment
    is forgotten with its frame, so nothing is left for a fork to wait for.
    """

    __slots__ = ("__weakref__", "thread")

    def __enter__(self) -> None:
        self.thread = threading.get_ident()
        if _is_inside(self.thread):  # a fork waits for this thread already: do not wait for it
            _inside.add(self)
            return
        with _entrance:
            _inside.add(self)

    def __exit__(self, *exc_info: object) -> None:
        _inside.discard(self)


def load(name: str) -> Any:
    """The module ``name``, imported now if need be, and not in the main thread.

    Python runs signal handlers there, and one that raises in the middle of an import can leave the
    module locked for every thread.
    """
    module = sys.modules.get(name)
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        return module
    if threading.current_thread() is not threading.main_thread():
        return _imported(name)
    done = threading.Lock()
    done.acquire()

    def work() -> None:
        try:
            _imported(name)
        finally:
            done.release()

    try:
        threading.Thread(target=work, name="imds-identity", daemon=True).start()
    except RuntimeError:  # no more threads, or the interpreter is going down
        return _imported(name)
    done.acquire()
    return _imported(name)


def _imported(name: str) -> Any:
    with whole():
        from importlib import import_module

        return import_module(name)


def _is_inside(thread: int) -> bool:
    return any(work.thread == thread for work in list(_inside))


def _others_are_inside() -> bool:
    me = threading.get_ident()
    return any(work.thread != me for work in list(_inside))


def _before_fork() -> None:
    _entrance.acquire()
    pause = threading.Event()
    for _ in range(round(_FORK_SECONDS / _POLL)):
        if not _others_are_inside():
            return
        pause.wait(_POLL)


def _after_fork_in_parent() -> None:
    _entrance.release()


def _after_fork_in_child() -> None:
    global _entrance, _inside  # noqa: PLW0603 - the old ones belong to threads that are gone
    me = threading.get_ident()
    _inside = weakref.WeakSet(work for work in list(_inside) if work.thread == me)
    _entrance = threading.RLock()


_entrance = threading.RLock()
_inside: weakref.WeakSet[whole] = weakref.WeakSet()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
