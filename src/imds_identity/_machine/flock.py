"""A lock on an open file, which its holder's end frees: had at once or not at all."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from io import FileIO


def take(file: FileIO) -> bool:
    """Lock ``file``, unless somebody else has; whether it is locked now.

    Raises:
        OSError: if there can be no lock.
    """
    try:
        if fcntl is None:
            _msvcrt().locking(file.fileno(), _msvcrt().LK_NBLCK, 1)
        else:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def give_back(file: FileIO) -> None:
    """Release the lock and close ``file``."""
    if file.closed:  # in a child that was forked in between
        return
    try:
        # A child that has the file open, too, would keep the lock: closing is not enough.
        if fcntl is None:
            _msvcrt().locking(file.fileno(), _msvcrt().LK_UNLCK, 1)
        else:
            fcntl.flock(file.fileno(), fcntl.LOCK_UN)
    except OSError:
        pass
    finally:
        file.close()


def not_for_children(file: FileIO) -> None:
    """Have ``file`` closed in forked children, or they would keep the lock of a killed parent."""
    _files.add(file)


def _msvcrt() -> Any:
    import msvcrt

    return msvcrt


_files: weakref.WeakSet[FileIO] = weakref.WeakSet()


def _after_fork() -> None:
    for file in list(_files):
        file.close()
    _files.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
