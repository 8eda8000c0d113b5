"""A lock on an open file, which its holder's end frees: had at once or not at all."""

from __future__ import annotations

import os
import weakref

try:
    import fcntl
except ImportError:  # Windows; filelock does everywhere what is done here, and is slower to load
    fcntl = None  # type: ignore[assignment]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import FileIO


def take(file: FileIO) -> bool:
    """Lock ``file``, unless somebody else has; whether it is locked now.

    Raises:
        OSError: if there can be no lock.
    """
    if fcntl is None:
        from filelock import lock_descriptor

        return lock_descriptor(file.fileno(), blocking=False)
    try:
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
            from filelock import unlock_descriptor

            unlock_descriptor(file.fileno())
        else:
            fcntl.flock(file.fileno(), fcntl.LOCK_UN)
    except OSError:
        pass
    finally:
        file.close()


def not_for_children(file: FileIO) -> None:
    """Have ``file`` closed in forked children, or they would keep the lock of a killed parent."""
    _files.add(file)


_files: weakref.WeakSet[FileIO] = weakref.WeakSet()


def _after_fork() -> None:
    for file in list(_files):
        file.close()
    _files.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
