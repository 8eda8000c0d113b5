"""Leases: locks between processes that expire.

A lease is a file with a `flock`. Its modification time is the moment at which the holder's lease
expires unless the holder extends it; its access time is the end of a cooldown.

A lease guarantees that no process waits forever:

- While a holder extends its lease in time, no other process gets it.
- If a holder is killed, the kernel releases its lock, and the next process gets the lease at once.
- If a holder is stopped (SIGSTOP, `docker pause`), it keeps its lock. After its lease has expired,
  the others ignore it and use its successor, the next file of the same name.

A lease does not guarantee mutual exclusion: a stopped holder may resume later and does not know
that it has a successor. Whatever it does then must be harmless. It is not fair, because waiting
processes poll. And it may be unavailable: after the last successor a process proceeds without one.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from .._platform.files import set_times
from . import flock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import FileIO

    from .._platform.clock import Clock
    from .directory import Directory, PrivateFile

FIRST_LEASE_SECONDS = 5.0
LONGEST_LEASE_SECONDS = 180.0
"""No fetch takes longer, so no process waits longer, whatever the file's times are."""
LONGEST_COOLDOWN = 5.0
_SUCCESSORS = 3
_GRACE = 0.1
"""Seconds after the expiry: a new holder sets its expiry shortly after it has locked the file."""


class LeaseUnavailable(Exception):
    """The lease and all of its successors have expired, and their holders still lock them."""


class Lease:
    """A lease that this process holds."""

    def __init__(
        self, directory: Directory, file: FileIO, clock: Clock, cooldown: float = 0.0
    ) -> None:
        self._directory = directory
        self._file = file
        self._clock = clock
        self._cooldown_until = clock.now() + min(cooldown, LONGEST_COOLDOWN) if cooldown else 0.0

    def extend(self, seconds: float) -> None:
        """Let the lease expire ``seconds`` from now."""
        expiry = self._clock.now() + min(seconds, LONGEST_LEASE_SECONDS)
        with suppress(OSError, ValueError):  # closed, in a forked child
            self._directory.run(set_times, self._file, self._cooldown_until, expiry)


class LeaseAttempt:
    """An attempt of this process to get the lease ``name``.

    It keeps every file that it may have locked, so that closing it releases the lease even if a
    signal handler has raised an exception in between.
    """

    def __init__(self, directory: Directory, name: str, clock: Clock) -> None:
        self._directory = directory
        self._name = name
        self._clock = clock
        self._files: dict[int, _LockFile] = {}
        self._is_closed = False

    def try_acquire(
        self, seconds: float = FIRST_LEASE_SECONDS, cooldown: float = 0.0
    ) -> Lease | None:
        """Return the lease, or None if another process holds it.

        Raise LeaseUnavailable if all holders have expired; OSError if a file cannot be opened or
        locked.

        Args:
            seconds: after how many seconds it expires, unless it is extended.
            cooldown: for how many seconds no other process may take it, even if it is released.
        """
        return self._directory.run(self._try_each, seconds, cooldown)

    def close(self) -> None:
        """Release the lease, if there is one. It may be called more than once."""
        self._is_closed = True
        if self._files:
            self._directory.finish(self._release)

    def _try_each(self, seconds: float, cooldown: float) -> Lease | None:
        now = self._clock.now()
        for number in range(1 + _SUCCESSORS):
            status = self._directory.stat(self._name_of(number))
            if _is_cooling_down(status, now):
                return None
            lock_file = self._lock_file(number, status)
            if flock.try_lock(lock_file.file):
                return self._confirm(number, seconds, cooldown)
            if not lock_file.has_expired(now):
                return None
        raise LeaseUnavailable

    def _lock_file(self, number: int, status: os.stat_result | None) -> _LockFile:
        if number not in self._files:
            self._files[number] = _LockFile(self._directory, self._name_of(number), status)
        return self._files[number]

    def _name_of(self, number: int) -> str:
        return f"{self._name}.{number}" if number else self._name

    def _confirm(self, number: int, seconds: float, cooldown: float) -> Lease | None:
        lock_file = self._files[number]
        status = self._directory.stat(self._name_of(number))
        is_free = not self._is_closed and not _is_cooling_down(status, self._clock.now())
        if is_free and _is_same(lock_file.file, status):
            lease = Lease(self._directory, lock_file.file, self._clock, cooldown)
            lease.extend(seconds)
            return lease
        # The file was removed, another process has held the lease in between, or the caller has
        # given up, because the directory did not respond.
        flock.release(lock_file.file)
        del self._files[number]
        return None

    def _release(self) -> None:
        for lock_file in list(self._files.values()):
            flock.release(lock_file.file)


class _LockFile:
    """An open lock file, and since when its lease is known to have expired."""

    def __init__(self, directory: Directory, name: str, status: os.stat_result | None) -> None:
        self._past_expiry = -1.0
        self._expired_since = 0.0
        self.file = directory.open_or_create(name, status)
        flock.close_in_children(self.file)

    def has_expired(self, now: float) -> bool:
        """Return whether the lease has expired and its holder has not extended it for a moment."""
        expiry = os.fstat(self.file.fileno()).st_mtime
        # A later time is that of the wall clock: the file was created, and its times not yet set.
        if now < expiry <= now + LONGEST_LEASE_SECONDS:
            return False
        if expiry != self._past_expiry:
            self._past_expiry, self._expired_since = expiry, now
        return now - self._expired_since >= _GRACE


def remove_lock_file(directory: Directory, name: str) -> bool:
    """Remove a lock file if no process holds it, and return whether it was removed.

    A process that has opened it and not yet locked it notices that it is gone, and tries again.
    """
    if sys.platform == "win32":
        return directory.remove(name)  # it fails while a process has the file open
    with suppress(OSError):
        file = directory.open(name, "r+")
        flock.close_in_children(file)
        try:
            is_free = flock.try_lock(file) and _is_same(file, directory.stat(name))
            return is_free and directory.remove(name)
        finally:
            flock.release(file)
    return False


def _is_same(file: PrivateFile, status: os.stat_result | None) -> bool:
    """Return whether ``status``, read by the name of ``file``, is that of ``file``."""
    return status is not None and file.identity == (status.st_dev, status.st_ino)


def _is_cooling_down(status: os.stat_result | None, now: float) -> bool:
    return status is not None and now < status.st_atime <= now + LONGEST_COOLDOWN
