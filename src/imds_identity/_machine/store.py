"""What the processes of one user on one machine share: tokens, failures of a moment, and leases.

One file a key, whose name is a digest; it is replaced atomically and has mode 0600 from its first
byte. A process that cannot read, write or lock goes without.
"""

from __future__ import annotations

import functools
import json
import os
from contextlib import contextmanager, suppress

from .._core.challenge import is_later
from .digest import sha256
from .directory import Unusable
from .entries import FORMAT, Entry, understood, written
from .held import Untrusted
from .lease import LONGEST_TERM, AllOverdue, Claim
from .place import this_place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._core.key import Key
    from .._runtime.clock import Clock
    from .directory import Directory
    from .lease import Lease
    from .place import Place

_LARGEST = 128 * 1024
_SHORTEST_POLL = 0.02
_LONGEST_POLL = 0.2
_NAME_LENGTH = 40
_DISPOSABLE = (".json", ".new", ".pause")
_LEFT_BEHIND = 60.0


class MachineCache:
    """A directory of entries and leases.

    Args:
        directory: where.
        clock: the time, the same for every process of this boot.
        place: what tells services of the same address apart; by default this process's.
    """

    def __init__(self, directory: Directory, clock: Clock, place: Place | None = None) -> None:
        self.directory = directory
        self.clock = clock
        self._place = this_place() if place is None else place
        self._swept = False

    def usable(self) -> bool:
        """Whether the directory is there and trusted; if it is not, a warning has said why."""
        return self.directory.usable()

    def name_of(self, key: Key) -> str:
        """The name of what belongs to ``key``; it shows nothing of the identity."""
        return _digest(self._place, key)

    def stamp(self, key: Key) -> tuple[int, int] | None:
        """What changes whenever somebody writes about ``key``; None if nothing is known of it."""
        status = self.directory.stat(f"{_digest(self._place, key)}.json")
        return None if status is None else (status.st_ino, status.st_mtime_ns)

    def read(self, key: Key) -> Entry | None:
        """What is known of ``key``, if it can be trusted."""
        entry = self._entry(f"{self.name_of(key)}.json")
        return entry if entry is not None and entry.key == key else None

    def write(self, entry: Entry) -> None:
        """Let every process know, but never in place of a later token; or go without."""
        name = f"{self.name_of(entry.key)}.json"
        try:
            self._sweep()
            self._replace(name, entry)
        except Unusable:
            return
        except (OSError, Untrusted) as error:
            said = getattr(error, "strerror", None) or error
            self._go_without(f"{name} cannot be written: {said}")

    @contextmanager
    def leased(self, name: str) -> Iterator[Lease | None]:
        """Hold the lease ``name``.

        It is waited for while its holder keeps its term, or one of its successors does.

        Yields:
            The lease, or None for "go without".
        """
        claim = self.claim(name)
        try:
            try:
                yield self._waited_for(claim, name)
            finally:
                claim.close()
        except BaseException:
            claim.close()  # once more: a signal handler may have raised within the first
            raise

    def claim(self, name: str) -> Claim:
        """A claim to the lease ``name``, for who would not wait for this one alone."""
        return Claim(self.directory, f"{name}.lock", self.clock)

    def entries(self) -> list[Entry]:
        """Everything that is known, for a person to look at."""
        names = sorted(name for name in self.directory.names() if _is_ours(name, (".json",)))
        found = (self._entry(name) for name in names)
        return [entry for entry in found if entry is not None]

    def clear(self) -> int:
        """Forget every entry and end every pause; how many entries there were.

        Locks stay, because others may hold them, and so does whatever is not ours by its name.
        """
        ours = [name for name in self.directory.names() if _is_ours(name, _DISPOSABLE)]
        removed = [name for name in ours if self.directory.remove(name)]
        return sum(name.endswith(".json") for name in removed)

    def _entry(self, name: str) -> Entry | None:
        try:
            with self.directory.open(name, "r") as file:
                content = os.read(file.fileno(), _LARGEST)
        except (OSError, Untrusted):
            return None
        return understood(content, self._place, self.clock)

    def _is_outdated(self, entry: Entry) -> bool:
        """Whether others have a later token: a process that was stopped may come late with its."""
        known = self.read(entry.key)
        if known is None or known.token is None:
            return False
        return entry.token is None or is_later(known.token, entry.token)

    def _replace(self, name: str, entry: Entry) -> None:
        """Put ``entry`` where ``name`` is, at once, or leave what was there.

        This process may be stopped at any moment, so the last thing before the replacing is a look
        whether others have written. A lock would be kept from them by a process that is stopped.
        """
        new = f"{name[:_NAME_LENGTH]}.{os.urandom(4).hex()}.new"
        try:
            with self.directory.open(new, "x") as file:
                _write_whole(file.fileno(), written(entry, self._place))
            if self._is_latest(entry):
                with suppress(FileNotFoundError):  # swept away while this process stood still
                    self.directory.replace(new, name)
            else:
                self.directory.remove(new)
        except BaseException:
            self.directory.remove(new)
            raise

    def _is_latest(self, entry: Entry) -> bool:
        """Whether nobody else has a later token, having looked until nobody wrote meanwhile."""
        seen = self.stamp(entry.key)
        while seen is None or not self._is_outdated(entry):
            before, seen = seen, self.stamp(entry.key)
            if seen == before:
                return True
        return False

    def _sweep(self) -> None:
        """Remove, once a process, what processes that were killed had begun to write."""
        if self._swept:
            return
        self._swept = True
        for name in self.directory.names():
            if _is_ours(name, (".new",)):
                status = self.directory.stat(name)
                if status and abs(self.clock.wall() - status.st_mtime) > _LEFT_BEHIND:
                    self.directory.remove(name)

    def _waited_for(self, claim: Claim, name: str) -> Lease | None:
        """The lease once it can be had; None to go without."""
        started = self.clock.now()
        try:
            while True:
                lease = claim.attempt()
                waited = self.clock.now() - started
                if lease is not None or waited > LONGEST_TERM:
                    return lease
                self.clock.sleep(min(max(_SHORTEST_POLL, waited / 10), _LONGEST_POLL) * _spread())
        except (AllOverdue, Unusable):
            return None
        except (OSError, Untrusted, ValueError) as error:
            self._go_without(f"{name}.lock cannot be locked ({type(error).__name__})")
            return None

    def _go_without(self, reason: str) -> None:
        self.directory.complain(
            f"tokens are not shared with the other processes of this machine: {reason}"
        )


def _spread() -> float:
    """A random factor around 1, so that those who wait do not look in step."""
    return 0.5 + os.urandom(1)[0] / 256


def _is_ours(name: str, endings: tuple[str, ...]) -> bool:
    head, rest = name[:_NAME_LENGTH], name[_NAME_LENGTH:]
    return not head.strip("0123456789abcdef") and rest[:1] in (".", "-") and rest.endswith(endings)


def _write_whole(descriptor: int, content: bytes) -> None:
    """Write all of ``content``: a disk that is nearly full takes a part of it.

    Raises:
        OSError: if not all of it can be written.
    """
    while content:
        content = content[os.write(descriptor, content) :]


@functools.lru_cache(maxsize=256)
def _digest(place: Place, key: Key) -> str:
    return sha256(json.dumps([FORMAT, *place, *key]).encode())[:_NAME_LENGTH]


def note_moment(directory: Directory, name: str, moment: float) -> None:
    """Have the time of change of the file ``name`` say ``moment`` (``Clock.now``), if it can."""
    with suppress(OSError, Untrusted), directory.open_or_make(name) as file:
        os.utime(file.fileno() if os.utime in os.supports_fd else file.name, (moment, moment))
