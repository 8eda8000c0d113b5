"""The cache that the processes of one user share: tokens, recent failures and leases.

There is one file per key, named by a digest, replaced atomically, with mode 0600 from the start.
A process that cannot read, write or lock the files works without them.
"""

from __future__ import annotations

import functools
import os
import sys
from contextlib import contextmanager, suppress

from .._core.claims import is_later
from .lease import LONGEST_LEASE_SECONDS, LeaseAttempt, LeaseUnavailable
from .namespace import Namespace, current_namespace, namespace_of
from .open_directory import NoUsableDirectory
from .record import Record, digest_of, dumps, expiry_of, loads
from .sweep import Sweeper, kind_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._core.key import Key
    from .._platform.clock import Clock
    from .directory import Directory
    from .lease import Lease

_MAX_SIZE = 128 * 1024
_SHORTEST_POLL = 0.02
_LONGEST_POLL = 0.2


class SharedCache:
    """A directory of records and leases. Its clock is the same in all processes of this boot."""

    def __init__(
        self, directory: Directory, clock: Clock, namespace: Namespace | None = None
    ) -> None:
        self.directory = directory
        self.clock = clock
        self._known_namespace = namespace
        self._sweeper = Sweeper(directory, clock)

    @property
    def _namespace(self) -> Namespace:
        """The namespace passed to the constructor, else that of the first use."""
        # Not a cached_property: until Python 3.12 it takes a lock, which a fork could leave locked.
        if self._known_namespace is None:
            try:
                self._known_namespace = current_namespace()
            except OSError:  # out of file descriptors: share nothing this time
                return Namespace(os.urandom(8).hex())
        return self._known_namespace

    def in_network(self, network: str) -> SharedCache:
        """Return the cache of a network namespace in the same directory; empty means this one."""
        if not network:
            return self
        return SharedCache(self.directory, self.clock, namespace_of(network))

    def preload(self) -> None:
        """Import what locks and access rights need on Windows."""
        if sys.platform == "win32":
            import filelock

            from .._platform import windows

            del filelock, windows

    def usable(self) -> bool:
        """Return whether the directory can be used; if not, a warning has reported the reason."""
        return self.directory.usable()

    def name_of(self, key: Key) -> str:
        """Return the file name for ``key``, which does not reveal the identity."""
        return digest_of(self._namespace, key)

    def version(self, key: Key) -> tuple[int, ...] | None:
        """Return a value that changes with each write of the record; None if there is none."""
        status = self.directory.stat(f"{digest_of(self._namespace, key)}.json")
        return None if status is None else (status.st_ino, status.st_mtime_ns, status.st_ctime_ns)

    def read(self, key: Key) -> Record | None:
        """Return the record of ``key``, if it is valid."""
        record = self._record(f"{self.name_of(key)}.json")
        return record if record is not None and record.key == key else None

    def write(self, record: Record) -> None:
        """Publish ``record``, unless another process has published a later token."""
        name = f"{self.name_of(record.key)}.json"
        is_latest = functools.partial(self._is_latest, record)
        content = dumps(record, self._namespace)
        if len(content) > _MAX_SIZE:
            return  # no process would read it
        try:
            self.directory.write(name, content, is_latest, expiry_of(record))
        except (NoUsableDirectory, FileNotFoundError):
            return  # not found: this process was stopped, and another one has removed its file
        except OSError as error:
            self._warn_not_shared(f"{name} cannot be written: {error.strerror}")

    def sweep(self) -> None:
        """Remove a limited number of files that no process needs any more, after a write."""
        with suppress(OSError):
            self._sweeper.after_write()

    @contextmanager
    def leased(self, name: str) -> Iterator[Lease | None]:
        """Wait for the lease ``name`` and hold it; yield None to proceed without one."""
        attempt = self.lease_attempt(name)
        try:
            try:
                yield self._wait_for(attempt, name)
            finally:
                attempt.close()
        except BaseException:
            attempt.close()  # again: a signal handler may have raised during the first call
            raise

    def lease_attempt(self, name: str) -> LeaseAttempt:
        """Return an attempt to get the lease ``name``, for a caller that waits for several."""
        return LeaseAttempt(self.directory, f"{name}.lock", self.clock)

    def records(self) -> list[Record]:
        """Return all valid records of this namespace."""
        names = sorted(name for name in self.directory.names() if kind_of(name) == ".json")
        found = (self._record(name) for name in names)
        return [record for record in found if record is not None]

    def clear(self) -> int:
        """Remove all records and end all pauses; return the number of records.

        Lock files stay, because other processes may hold them, and so do files of other programs.
        """
        disposable = (".json", ".new", ".pause")
        own = [name for name in self.directory.names() if kind_of(name) in disposable]
        removed = [name for name in own if self.directory.remove(name)]
        return sum(name.endswith(".json") for name in removed)

    def _record(self, name: str) -> Record | None:
        try:
            content = self.directory.read(name, _MAX_SIZE)
        except OSError:
            return None
        return loads(content, self._namespace, self.clock)

    def _is_latest(self, record: Record) -> bool:
        """Return whether no other process has published a later token.

        It is called immediately before the rename, because this process may have been stopped
        since it fetched the token. A lock would not help: a stopped process keeps it.
        """
        version = self.version(record.key)
        while version is not None:
            if self._is_outdated(record):
                return False
            before, version = version, self.version(record.key)
            if version == before:
                break
        return True

    def _is_outdated(self, record: Record) -> bool:
        published = self.read(record.key)
        if published is None or published.token is None:
            return False
        return record.token is None or is_later(published.token, record.token)

    def _wait_for(self, attempt: LeaseAttempt, name: str) -> Lease | None:
        started = self.clock.now()
        try:
            while True:
                lease = attempt.try_acquire()
                waited = self.clock.now() - started
                if lease is not None or waited > LONGEST_LEASE_SECONDS:
                    return lease
                self.clock.sleep(min(max(_SHORTEST_POLL, waited / 10), _LONGEST_POLL) * _jitter())
        except (LeaseUnavailable, NoUsableDirectory):
            return None
        except (OSError, ValueError) as error:
            self._warn_not_shared(f"{name}.lock cannot be locked ({type(error).__name__})")
            return None

    def _warn_not_shared(self, reason: str) -> None:
        self.directory.warn_once(f"tokens are not shared with other processes: {reason}")


def _jitter() -> float:
    return 0.5 + os.urandom(1)[0] / 256
