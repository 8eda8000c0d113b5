"""What the processes of one user on one machine share: tokens, failures of a moment, and leases.

One file a key, whose name is a digest; it is replaced atomically and has mode 0600 from its first
byte. A process that cannot read, write or lock goes without.
"""

from __future__ import annotations

import functools
import json
import os
from contextlib import contextmanager, suppress

from .._core.claims import is_later
from .digest import sha256
from .directory import Unusable
from .lease import LONGEST_LEASE_SECONDS, LeaseAttempt, LeaseUnavailable
from .namespace import current_namespace
from .open_directory import Untrusted
from .record import FORMAT, Record, dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._core.key import Key
    from .._platform.clock import Clock
    from .directory import Directory
    from .lease import Lease
    from .namespace import Namespace

_LARGEST = 128 * 1024
_SHORTEST_POLL = 0.02
_LONGEST_POLL = 0.2
_NAME_LENGTH = 40
_DISPOSABLE = (".json", ".new", ".pause")
_LEFT_BEHIND = 60.0


class SharedCache:
    """A directory of entries and leases.

    Args:
        directory: where.
        clock: the time, the same for every process of this boot.
        namespace: what tells services of the same address apart; by default this process's.
    """

    def __init__(
        self, directory: Directory, clock: Clock, namespace: Namespace | None = None
    ) -> None:
        self.directory = directory
        self.clock = clock
        self._namespace = current_namespace() if namespace is None else namespace
        self._swept = False

    def usable(self) -> bool:
        """Whether the directory is there and trusted; if it is not, a warning has said why."""
        return self.directory.usable()

    def name_of(self, key: Key) -> str:
        """The name of what belongs to ``key``; it shows nothing of the identity."""
        return _digest(self._namespace, key)

    def version(self, key: Key) -> tuple[int, int] | None:
        """What changes whenever somebody writes about ``key``; None if nothing is known of it."""
        status = self.directory.stat(f"{_digest(self._namespace, key)}.json")
        return None if status is None else (status.st_ino, status.st_mtime_ns)

    def read(self, key: Key) -> Record | None:
        """What is known of ``key``, if it can be trusted."""
        record = self._record(f"{self.name_of(key)}.json")
        return record if record is not None and record.key == key else None

    def write(self, record: Record) -> None:
        """Let every process know, but never in place of a later token; or go without."""
        name = f"{self.name_of(record.key)}.json"
        try:
            self._sweep()
            self._replace(name, record)
        except Unusable:
            return
        except (OSError, Untrusted) as error:
            said = getattr(error, "strerror", None) or error
            self._warn_not_shared(f"{name} cannot be written: {said}")

    @contextmanager
    def leased(self, name: str) -> Iterator[Lease | None]:
        """Hold the lease ``name``.

        It is waited for while its holder keeps its term, or one of its successors does.

        Yields:
            The lease, or None for "go without".
        """
        lease_attempt = self.lease_attempt(name)
        try:
            try:
                yield self._wait_for(lease_attempt, name)
            finally:
                lease_attempt.close()
        except BaseException:
            lease_attempt.close()  # once more: a signal handler may have raised within the first
            raise

    def lease_attempt(self, name: str) -> LeaseAttempt:
        """A claim to the lease ``name``, for who would not wait for this one alone."""
        return LeaseAttempt(self.directory, f"{name}.lock", self.clock)

    def records(self) -> list[Record]:
        """Everything that is known, for a person to look at."""
        names = sorted(name for name in self.directory.names() if _is_ours(name, (".json",)))
        found = (self._record(name) for name in names)
        return [record for record in found if record is not None]

    def clear(self) -> int:
        """Forget every entry and end every pause; how many entries there were.

        Locks stay, because others may hold them, and so does whatever is not ours by its name.
        """
        ours = [name for name in self.directory.names() if _is_ours(name, _DISPOSABLE)]
        removed = [name for name in ours if self.directory.remove(name)]
        return sum(name.endswith(".json") for name in removed)

    def _record(self, name: str) -> Record | None:
        try:
            with self.directory.open(name, "r") as file:
                content = os.read(file.fileno(), _LARGEST)
        except (OSError, Untrusted):
            return None
        return loads(content, self._namespace, self.clock)

    def _is_outdated(self, record: Record) -> bool:
        """Whether others have a later token: a process that was stopped may come late with its."""
        known = self.read(record.key)
        if known is None or known.token is None:
            return False
        return record.token is None or is_later(known.token, record.token)

    def _replace(self, name: str, record: Record) -> None:
        """Put ``record`` where ``name`` is, at once, or leave what was there.

        This process may be stopped at any moment, so the last thing before the replacing is a look
        whether others have written. A lock would be kept from them by a process that is stopped.
        """
        new = f"{name[:_NAME_LENGTH]}.{os.urandom(4).hex()}.new"
        try:
            with self.directory.open(new, "x") as file:
                _write_whole(file.fileno(), dumps(record, self._namespace))
            if self._is_latest(record):
                with suppress(FileNotFoundError):  # swept away while this process stood still
                    self.directory.replace(new, name)
            else:
                self.directory.remove(new)
        except BaseException:
            self.directory.remove(new)
            raise

    def _is_latest(self, record: Record) -> bool:
        """Whether nobody else has a later token, having looked until nobody wrote meanwhile."""
        seen = self.version(record.key)
        while seen is None or not self._is_outdated(record):
            before, seen = seen, self.version(record.key)
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

    def _wait_for(self, lease_attempt: LeaseAttempt, name: str) -> Lease | None:
        """The lease once it can be had; None to go without."""
        started = self.clock.now()
        try:
            while True:
                lease = lease_attempt.attempt()
                waited = self.clock.now() - started
                if lease is not None or waited > LONGEST_LEASE_SECONDS:
                    return lease
                self.clock.sleep(min(max(_SHORTEST_POLL, waited / 10), _LONGEST_POLL) * _spread())
        except (LeaseUnavailable, Unusable):
            return None
        except (OSError, Untrusted, ValueError) as error:
            self._warn_not_shared(f"{name}.lock cannot be locked ({type(error).__name__})")
            return None

    def _warn_not_shared(self, reason: str) -> None:
        self.directory.warn_once(
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
def _digest(namespace: Namespace, key: Key) -> str:
    return sha256(json.dumps([FORMAT, *namespace, *key]).encode())[:_NAME_LENGTH]


def set_mtime(directory: Directory, name: str, moment: float) -> None:
    """Have the time of change of the file ``name`` say ``moment`` (``Clock.now``), if it can."""
    with suppress(OSError, Untrusted), directory.open_or_make(name) as file:
        os.utime(file.fileno() if os.utime in os.supports_fd else file.name, (moment, moment))
