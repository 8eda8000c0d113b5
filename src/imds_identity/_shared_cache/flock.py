"""A lock on an open file, which the kernel releases when its process ends."""

from __future__ import annotations

import weakref

try:
    import fcntl
except ImportError:  # Windows. Elsewhere filelock only takes longer to import.
    fcntl = None  # type: ignore[assignment]

from .._platform.fork import detect_fork, identity_of, reset_in_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import FileIO


def try_lock(file: FileIO) -> bool:
    """Lock ``file`` without waiting, and return whether it is locked now."""
    detect_fork()  # a child shares the lock of a file that it has inherited
    if fcntl is None:
        from filelock import lock_descriptor

        return lock_descriptor(file.fileno(), blocking=False)
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def release(file: FileIO) -> None:
    """Release the lock and close ``file``."""
    detect_fork()
    if file.closed:  # in a forked child
        return
    try:
        # Closing is not enough: a forked child that has the file open would keep the lock.
        if fcntl is None:
            from filelock import unlock_descriptor

            unlock_descriptor(file.fileno())
        else:
            fcntl.flock(file.fileno(), fcntl.LOCK_UN)
    except OSError:
        pass
    finally:
        file.close()


def close_in_children(file: FileIO) -> None:
    """Close ``file`` in forked children, which would keep the lock of a killed parent."""
    detect_fork()  # before this process has files of its own
    _files[file] = identity_of(file.fileno())


_files: weakref.WeakKeyDictionary[FileIO, tuple[int, int]] = weakref.WeakKeyDictionary()


@reset_in_child
def _close_files() -> None:
    for file, identity in list(_files.items()):
        # A child may have closed all descriptors before a fork in C is detected. Then the number
        # may belong to another file.
        if not file.closed and identity_of(file.fileno()) == identity:
            file.close()
    _files.clear()
