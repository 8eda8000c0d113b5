"""A file lock that is had at once or not at all; whoever has to wait for it does so by filelock.

Both lock the same file in the same way. Nearly always nobody else wants the lock, and then flock
alone costs a hundredth of the time, before every first token of a process.
"""

from __future__ import annotations

import os
from contextlib import suppress

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

AVAILABLE = fcntl is not None

_OPEN = os.O_RDWR | os.O_CREAT | sum(getattr(os, n, 0) for n in ("O_NOFOLLOW", "O_CLOEXEC"))
_taken: set[int] = set()


def touch(path: str) -> int:
    """Open a lock file, which is made if need be and is this user's alone.

    Raises:
        OSError: if it cannot be.
    """
    return os.open(path, _OPEN, 0o600)


def take(path: str) -> int | None:
    """A descriptor that holds the lock, or None if somebody else does.

    Raises:
        OSError: if there can be no lock.
    """
    descriptor = touch(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    _taken.add(descriptor)
    return descriptor


def give_back(descriptor: int) -> None:
    """Release the lock."""
    _taken.discard(descriptor)
    with suppress(OSError):
        # A child that was forked in between has the file open, too: closing is not enough.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _after_fork() -> None:
    """A child holds none of its parent's locks, or they would outlive a parent that is killed."""
    for descriptor in _taken:
        with suppress(OSError):
            os.close(descriptor)
    _taken.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
