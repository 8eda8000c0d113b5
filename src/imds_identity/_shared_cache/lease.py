"""Leases: locks whose holders say until when they will be heard of, so that no wait is endless.

A lease is a locked file; the file's time of change notes the holder's term. A holder that is killed
loses the lock by the kernel. One that is stopped (SIGSTOP, `docker pause`) keeps it, and once its
term is over the others pass it over: they take the next file of the same name.
"""

from __future__ import annotations

import os
from contextlib import suppress

from . import flock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import FileIO

    from .._platform.clock import Clock
    from .directory import Directory

FIRST_LEASE_SECONDS = 5.0
LONGEST_LEASE_SECONDS = 180.0
"""Seconds after which nobody waits any more, whatever a holder says: no fetch takes longer."""
LONGEST_COOLDOWN = 5.0
_SUCCESSORS = 3
_GRACE = 0.1
"""Seconds for which a term must have been over: a holder notes its own after it has the lock."""


class LeaseUnavailable(Exception):
    """The term of every holder is over, and there is nobody left to wait for."""


class Lease:
    """A lock that is held.

    Args:
        file: locked.
        clock: the time.
    """

    def __init__(self, file: FileIO, clock: Clock) -> None:
        self._file = file
        self._clock = clock
        self._cooldown_until = 0.0

    def extend(self, seconds: float) -> None:
        """Tell those who wait that nothing may be heard of the holder for so many seconds."""
        expiry = self._clock.now() + min(seconds, LONGEST_LEASE_SECONDS)
        with suppress(OSError, ValueError):  # closed, in a child that was forked in between
            _write_times(self._file, self._cooldown_until, expiry)

    def cooldown(self, seconds: float) -> None:
        """Have nobody take the lease for so many seconds from now, even if it is free."""
        self._cooldown_until = self._clock.now() + min(seconds, LONGEST_COOLDOWN)


class LeaseAttempt:
    """One process's wish for the lease of a name, and what fulfils it.

    Whoever makes one closes it, whatever a signal handler raises and whenever: it knows every file
    that may be locked.

    Args:
        directory: where the files are.
        name: of the first file; its successors add a number.
        clock: the time.
    """

    def __init__(self, directory: Directory, name: str, clock: Clock) -> None:
        self._directory = directory
        self._name = name
        self._clock = clock
        self._files: dict[int, _LockFile] = {}

    def attempt(self) -> Lease | None:
        """The lease, or None if its holder is to be waited for.

        Raises:
            LeaseUnavailable: if nobody is.
            Untrusted: if a file may be somebody else's.
            OSError: if there can be no lock.
        """
        now = self._clock.now()
        for number in range(1 + _SUCCESSORS):
            if _is_cooling_down(self._directory.stat(self._name_of(number)), now):
                return None
            file = self._file(number)
            if flock.take(file.file):
                return self._confirm(number)
            if not file.is_overdue(now):
                return None
        raise LeaseUnavailable

    def _file(self, number: int) -> _LockFile:
        if number not in self._files:
            self._files[number] = _LockFile(self._directory, self._name_of(number))
        return self._files[number]

    def _name_of(self, number: int) -> str:
        return f"{self._name}.{number}" if number else self._name

    def _confirm(self, number: int) -> Lease | None:
        file = self._files[number]
        status = self._directory.stat(self._name_of(number))
        if file.is_at(status) and not _is_cooling_down(status, self._clock.now()):
            lease = Lease(file.file, self._clock)
            lease.extend(FIRST_LEASE_SECONDS)
            return lease
        # Removed, or somebody was quicker: what comes next is another attempt.
        flock.give_back(file.file)
        del self._files[number]
        return None

    def close(self) -> None:
        """Give the lease back, if it was had. It may be closed more than once."""
        for file in self._files.values():
            flock.give_back(file.file)


class _LockFile:
    """An open lock file, and what was seen of it."""

    def __init__(self, directory: Directory, name: str) -> None:
        self._overdue_expiry = -1.0
        self._overdue_since = 0.0
        self.file = directory.open_or_make(name)
        flock.not_for_children(self.file)

    def is_at(self, status: os.stat_result | None) -> bool:
        """Whether the name that has this status still leads to this file."""
        return status is not None and os.path.samestat(status, os.fstat(self.file.fileno()))

    def is_overdue(self, now: float) -> bool:
        """Whether the holder's term was over some time ago, and still is."""
        expiry = os.fstat(self.file.fileno()).st_mtime
        # A moment far ahead is the wall clock's: the file was made and not noted yet.
        if now < expiry <= now + LONGEST_LEASE_SECONDS:
            return False
        if expiry != self._overdue_expiry:
            self._overdue_expiry, self._overdue_since = expiry, now
        return now - self._overdue_since >= _GRACE


def _is_cooling_down(status: os.stat_result | None, now: float) -> bool:
    """Whether a file is not to be taken yet: its time of access says until when."""
    return status is not None and now < status.st_atime <= now + LONGEST_COOLDOWN


def _write_times(file: FileIO, cooldown_until: float, expiry: float) -> None:
    if os.utime in os.supports_fd:
        os.utime(file.fileno(), (cooldown_until, expiry))
    else:
        os.utime(file.name, (cooldown_until, expiry))
