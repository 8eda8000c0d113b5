"""Removes files from the shared directory that no process needs any more: a few after each write.

The modification time of a file is its expiry, as for a lease (``Clock.now``). Removing a file
too early is harmless: a record is fetched again, and a lock file is removed only while it is
locked, so that no other process holds it.
"""

from __future__ import annotations

import os
import sys

from .lease import LONGEST_LEASE_SECONDS, remove_lock_file
from .record import DIGEST_LENGTH, LONGEST_LIFE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._platform.clock import Clock
    from .directory import Directory

MOST_RECORDS = 1000
"""Records that are kept: a program may request any scope that its clients choose."""
_MOST_EXAMINED = 256
_MANY_REMOVED = 16
"""If a sweep removes this many files, the next write sweeps again."""
_WRITES_PER_SWEEP = 16
_SWEEP_SECONDS = 10.0
_KEEP_SECONDS = 10.0
"""Seconds for which a lock file is kept, because it may be needed again."""
_DRAFT_SECONDS = 60.0
"""Seconds after which a file without an expiry must have been left by a killed process."""
_OLD_RECORD_SECONDS = 86400.0
"""The same for a record of a version of this package that does not set the expiry."""


class Sweeper:
    """Removes files of the shared directory."""

    def __init__(self, directory: Directory, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._writes_left = 0
        self._swept_at = float("-inf")

    def after_write(self) -> None:
        """Sweep if enough time or enough writes have passed since this process's last sweep."""
        self._writes_left -= 1
        now = self._clock.now()
        if self._writes_left < 0 or now >= self._swept_at + _SWEEP_SECONDS:
            self._swept_at = now
            is_clean = self._directory.run(self._sweep) < _MANY_REMOVED
            self._writes_left = _WRITES_PER_SWEEP if is_clean else 0

    def _sweep(self) -> int:
        """Examine a random part of the directory; return the number of removed files."""
        names = self._directory.names()
        if not names:
            return 0
        first = int.from_bytes(os.urandom(4), "big") % len(names)
        removed, records = 0, []
        for name in (names[first:] + names[:first])[:_MOST_EXAMINED]:
            status = self._directory.stat(name) if kind_of(name) else None
            if status is None:
                continue
            if self._has_expired(name, status):
                removed += self._remove(name)
            elif name.endswith(".json"):
                records.append((status.st_mtime, name))
        excess = sum(name.endswith(".json") for name in names) - removed - MOST_RECORDS
        return removed + sum(self._remove(name) for _, name in sorted(records)[: max(excess, 0)])

    def _has_expired(self, name: str, status: os.stat_result) -> bool:
        now, wall, expiry = self._clock.now(), self._clock.wall(), status.st_mtime
        # On Windows, it is the creation time, which may be that of a file that this one replaced.
        if sys.platform != "win32" and status.st_ctime < wall - now - _DRAFT_SECONDS:
            return True  # from before the boot
        is_record = name.endswith(".json")
        keep = 0.0 if is_record else _KEEP_SECONDS
        longest = LONGEST_LIFE if kind_of(name) in (".json", ".new") else LONGEST_LEASE_SECONDS
        if now - keep < expiry <= now + longest:
            return False
        # A later time comes from the wall clock: the file is new and its expiry is not yet set.
        return abs(wall - expiry) > (_OLD_RECORD_SECONDS if is_record else _DRAFT_SECONDS)

    def _remove(self, name: str) -> bool:
        if kind_of(name) == ".lock":
            return remove_lock_file(self._directory, name)
        return self._directory.remove(name)


def kind_of(name: str) -> str:
    """Return the suffix of a file of this package; empty for another program's file."""
    head, rest = name[:DIGEST_LENGTH], name[DIGEST_LENGTH:]
    if head.strip("0123456789abcdef") or rest[:1] not in (".", "-"):
        return ""
    if rest[-1:].isdigit() and rest[-2:-1] == ".":  # the successor of a lease
        rest = rest[:-2]
    return next((kind for kind in (".json", ".lock", ".pause", ".new") if rest.endswith(kind)), "")
