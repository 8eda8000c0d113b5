"""Work that a fork must not cut in two.

A child has one thread: that which forked. A lock that another thread held is held for ever in the
child, and an import or a log call holds such locks. So a fork waits, for a bounded time, until no
other thread is inside `fork_safe`.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import weakref
from contextlib import suppress

from .locks import locked
from .threads import run_in_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FORK_SECONDS = 10.0
_IMPORT_SECONDS = 60.0
_POLL = 0.005
_HOLDERS = {"logging": "_lock", "concurrent.futures.thread": "_global_shutdown_lock"}
"""Modules that take a lock of theirs before each fork and let go of it afterwards."""


class fork_safe:  # noqa: N801 - used as a statement: ``with fork_safe():``
    """A context manager for imports, log calls and other work that holds locks of others.

    Threads inside do not exclude one another. Whoever is thrown out by an exception at any moment
    is forgotten with its frame, so nothing is left for a fork to wait for.
    """

    __slots__ = ("__weakref__", "_entry", "thread")

    def __enter__(self) -> None:
        self.thread = threading.get_ident()
        self._entry = weakref.ref(self, _forget)
        if _is_inside(self.thread):  # a fork waits for this thread already: do not wait for it
            _inside.add(self._entry)
            return
        locked(_entrance, _inside.add, self._entry)

    def __exit__(self, *exc_info: object) -> None:
        _inside.discard(self._entry)
        del self._entry  # or `_forget` would be called, in which a handler's exception is lost


def _forget(entry: weakref.ref[fork_safe]) -> None:
    with suppress(TypeError):  # it was never added: a signal handler raised before
        _inside.discard(entry)


def load(name: str) -> Any:
    """The module ``name``, imported now if need be, and not in the main thread.

    Python runs signal handlers there, and one that raises in the middle of an import can leave the
    module locked for every thread.
    """
    module = sys.modules.get(name)
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        return module
    if threading.get_ident() != threading.main_thread().ident:
        return _imported(name)
    run_in_thread(functools.partial(_imported, name), _IMPORT_SECONDS)
    return _imported(name)


def _imported(name: str) -> Any:
    with fork_safe():
        from importlib import import_module

        return import_module(name)


def _threads_inside() -> set[int]:
    # Other threads come and go meanwhile, which an iteration over a set or a WeakSet does not
    # survive. A copy is made in one step, and unlike a tuple also where there is no GIL.
    return {work.thread for entry in _inside.copy() if (work := entry()) is not None}


def _is_inside(thread: int) -> bool:
    return thread in _threads_inside()


def _before_fork() -> None:
    _entrance.acquire()
    imported, holds = _imported_holders(), False
    for _ in range(round(_FORK_SECONDS / _POLL)):
        if _threads_inside() <= {threading.get_ident()}:
            break
        holds = _let_others_work()
    for name in _imported_holders() - imported - ({"logging"} if holds else set()):
        # It was imported in the meantime: it lets go of its lock after this fork, and is loud
        # about one that it does not hold.
        getattr(sys.modules[name], _HOLDERS[name]).acquire()


def _imported_holders() -> set[str]:
    modules = {name: sys.modules.get(name) for name in _HOLDERS}
    return {
        name
        for name, module in modules.items()
        if module is not None and not getattr(module.__spec__, "_initializing", False)
    }


def _let_others_work() -> bool:
    """Wait for a moment, and not with the lock that `logging` has taken for this very fork.

    Its preparations come before ours if it was imported later, and who is inside may need it.

    Returns:
        Whether this thread holds that lock.
    """
    lock = getattr(sys.modules.get("logging"), "_lock", None)
    try:
        threading.Condition(lock).wait(_POLL)
    except RuntimeError:  # this thread does not hold it
        threading.Event().wait(_POLL)
        return False
    return True


def _after_fork_in_parent() -> None:
    with suppress(RuntimeError):  # a signal handler raised before it was had
        _entrance.release()


def _after_fork_in_child() -> None:
    global _entrance  # noqa: PLW0603 - the old one may be held by a thread that is gone
    _entrance = threading.RLock()
    me = threading.get_ident()
    for entry in tuple(_inside):
        work = entry()
        if work is None or work.thread != me:
            _inside.discard(entry)


_entrance = threading.RLock()
_inside: set[weakref.ref[fork_safe]] = set()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
