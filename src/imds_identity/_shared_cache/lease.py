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
from contextlib import suppress

from . import flock
from .directory import set_times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import FileIO

    from .._platform.clock import Clock
    from .directory import Directory

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

    def __init__(self, file: FileIO, clock: Clock, cooldown: float = 0.0) -> None:
        self._file = file
        self._clock = clock
        self._cooldown_until = clock.now() + min(cooldown, LONGEST_COOLDOWN) if cooldown else 0.0

    def extend(self, seconds: float) -> None:
        """Let the lease expire ``seconds`` from now."""
        expiry = self._clock.now() + min(seconds, LONGEST_LEASE_SECONDS)
        with suppress(OSError, ValueError):  # closed, in a forked child
            set_times(self._file, self._cooldown_until, expiry)


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

    def try_acquire(
        self, seconds: float = FIRST_LEASE_SECONDS, cooldown: float = 0.0
    ) -> Lease | None:
        """Return the lease, or None if another process holds it.

        Args:
            seconds: when it expires, unless it is extended.
            cooldown: for how many seconds no other process may take it, even if it is released.

        Raises:
            LeaseUnavailable: if all holders have expired.
            OSError: if a file cannot be opened or locked.
        """
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
        if lock_file.is_same(status) and not _is_cooling_down(status, self._clock.now()):
            lease = Lease(lock_file.file, self._clock, cooldown)
            lease.extend(seconds)
            return lease
        # The file was removed, or another process has held the lease in between: start again.
        flock.release(lock_file.file)
        del self._files[number]
        return None

    def close(self) -> None:
        """Release the lease, if there is one. It may be called more than once."""
        for lock_file in self._files.values():
            flock.release(lock_file.file)


class _LockFile:
    """An open lock file, and since when its holder is known to have expired."""

    def __init__(self, directory: Directory, name: str, status: os.stat_result | None) -> None:
        self._past_expiry = -1.0
        self._expired_since = 0.0
        self.file = directory.open_or_create(name, status)
        flock.close_in_children(self.file)

    def is_same(self, status: os.stat_result | None) -> bool:
        """Return whether ``status``, read by the file's name, is that of this file."""
        return status is not None and self.file.identity == (status.st_dev, status.st_ino)

    def has_expired(self, now: float) -> bool:
        """Return whether the holder has expired and has not extended the lease for a moment."""
        expiry = os.fstat(self.file.fileno()).st_mtime
        # A later time is that of the wall clock: the file was created, and its times not yet set.
        if now < expiry <= now + LONGEST_LEASE_SECONDS:
            return False
        if expiry != self._past_expiry:
            self._past_expiry, self._expired_since = expiry, now
        return now - self._expired_since >= _GRACE


def _is_cooling_down(status: os.stat_result | None, now: float) -> bool:
    return status is not None and now < status.st_atime <= now + LONGEST_COOLDOWN
