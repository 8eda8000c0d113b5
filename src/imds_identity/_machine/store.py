"""What the processes of one user on one machine share: tokens, failures of a moment, and locks.

One file a key, whose name is a digest; it is replaced atomically and has mode 0600 from its first
byte. A file that is torn, foreign, of another boot, for another endpoint or in another format is
as good as none. So is a directory that cannot be written: then a process goes without.
"""

from __future__ import annotations

import functools
import json
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from .._core.challenge import Challenge
from .._core.failure import Failure, facts_of, failure_from
from .._core.key import Key
from .._core.token import Token
from . import flock
from .digest import sha256
from .directory import Untrusted, boot_id, check, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._core.clock import Clock

_FORMAT = 1
_LARGEST = 128 * 1024
_POLL = 0.02
_LONGEST_WAIT = 120.0
_READ = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY")
)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


class Entry(NamedTuple):
    """What is known of a key: a token, or why there was none a moment ago.

    Attributes:
        key: whose.
        token: the token, if there is one.
        failure: why there is none.
        failure_until: until when that is worth knowing (``Clock.now``).
    """

    key: Key
    token: Token | None = None
    failure: Failure | None = None
    failure_until: float = 0.0
    challenge: Challenge | None = None


class Lease:
    """A lock that is held."""

    def extend(self, seconds: float) -> None:
        """Tell those who wait that nothing may be heard of the holder for so many seconds."""


class MachineCache:
    """A directory of entries and locks.

    Args:
        directory: where; made if it is not there.
        clock: the time, the same for every process of this boot.
        boot: what tells this boot from others.
    """

    def __init__(self, directory: str, clock: Clock, boot: str | None = None) -> None:
        self.directory = directory
        self.clock = clock
        self._boot = boot_id() if boot is None else boot
        self._ready = False
        self._warned = False

    def read(self, key: Key) -> Entry | None:
        """What is known of ``key``, if it can be trusted."""
        return self._entry(self._path(key), key)

    def write(self, entry: Entry) -> None:
        """Let every process know; whoever cannot write goes without."""
        if not self.usable():
            return
        path = self._path(entry.key)
        try:
            replace_file(path, json.dumps(self._document(entry)).encode())
        except OSError as error:
            self._warn(f"{path} cannot be written: {error.strerror}")

    @contextmanager
    def locked(self, name: str, timeout: float) -> Iterator[bool]:
        """Hold the lock ``name``, or go on without it once ``timeout`` seconds are over.

        Yields:
            Whether it is held.
        """
        release = self._acquired(name, timeout) if self.usable() else None
        try:
            yield release is not None
        finally:
            if release is not None:
                release()

    @contextmanager
    def leased(self, name: str) -> Iterator[Lease | None]:
        """Hold the lease ``name``, or None for "go without"."""
        with self.locked(name, _LONGEST_WAIT) as held:
            yield Lease() if held else None

    def stamp(self, key: Key) -> object:
        """What changes whenever somebody writes about ``key``; None if nothing is known of it."""
        try:
            st = os.stat(self._path(key))
        except OSError:
            return None
        return (st.st_dev, st.st_ino, st.st_mtime_ns)

    def name_of(self, key: Key) -> str:
        """The name of what belongs to ``key``; it shows nothing of the identity."""
        return _digest(self._boot, key)

    def entries(self) -> list[Entry]:
        """Everything that is known, for a person to look at."""
        if not self.usable():
            return []
        names = sorted(name for name in os.listdir(self.directory) if name.endswith(".json"))
        found = (self._entry(os.path.join(self.directory, name), None) for name in names)
        return [entry for entry in found if entry is not None]

    def clear(self) -> int:
        """Forget everything; how many entries there were. Locks stay: others may hold them."""
        if not self.usable():
            return 0
        names = [name for name in os.listdir(self.directory) if name.endswith((".json", ".new"))]
        for name in names:
            remove(os.path.join(self.directory, name))
        return len(names)

    def _path(self, key: Key) -> str:
        return os.path.join(self.directory, f"{self.name_of(key)}.json")

    def usable(self) -> bool:
        """Whether the directory is there and trusted; if it is not, a warning has said why."""
        if not self._ready and not self._warned:
            try:
                prepare(self.directory)
                self._ready = True
            except Untrusted as reason:
                self._warn(f"{reason}; make it a directory of your own with mode 700")
            except OSError as error:
                self._warn(f"{self.directory} cannot be used: {error.strerror}")
        return self._ready

    def _warn(self, reason: str) -> None:
        if self._warned:
            return
        self._warned = True
        import logging

        logging.getLogger("imds_identity").warning(
            "tokens are not shared with the other processes of this machine: %s", reason
        )

    def _entry(self, path: str, key: Key | None) -> Entry | None:
        content = self.content(path)
        if content is None:
            return None
        try:
            return self._understood(json.loads(content), key)
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
            return None

    def content(self, path: str) -> bytes | None:
        """What is in a file of this user's own in a directory of this user's own."""
        if not self.usable():
            return None
        try:
            descriptor = os.open(path, _READ)
        except OSError:
            return None
        try:
            check(os.fstat(descriptor), path, stat.S_ISREG, "regular file")
            content = os.read(descriptor, _LARGEST)
        except (Untrusted, OSError):
            return None
        finally:
            os.close(descriptor)
        return content

    def _document(self, entry: Entry) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "boot": self._boot,
            "key": list(entry.key),
            "token": entry.token.facts() if entry.token else None,
            "failure": facts_of(entry.failure) if entry.failure else None,
            "failure_until": entry.failure_until,
            "challenge": _written(entry.challenge),
        }

    def _understood(self, document: dict[str, Any], key: Key | None) -> Entry | None:
        if document["format"] != _FORMAT or document["boot"] != self._boot:
            return None
        found = Key(*map(str, document["key"]))
        if key is not None and found != key:
            return None
        token = None if document["token"] is None else _token(document["token"])
        if token and not token.received_at <= self.clock.now():
            return None  # of another clock: a container's, say
        said = document["failure"]
        failure = None if said is None else failure_from(said)
        challenge = _challenge(document["challenge"])
        return Entry(found, token, failure, float(document["failure_until"]), challenge)

    def _acquired(self, name: str, timeout: float) -> Callable[[], object] | None:
        """What releases the lock, or None if it was not to be had."""
        path = os.path.join(self.directory, f"{name}.lock")
        try:
            descriptor = flock.take(path) if flock.AVAILABLE else None
            if descriptor is not None:
                return functools.partial(flock.give_back, descriptor)
            return _waited_for(path, timeout)
        except (OSError, NotImplementedError, RuntimeError) as error:
            self._warn(f"{path} cannot be locked ({type(error).__name__})")
            return None


def _waited_for(path: str, timeout: float) -> Callable[[], object] | None:
    from filelock import FileLock, Timeout

    try:
        lock = FileLock(path, mode=0o600)
        lock.acquire(timeout=timeout, poll_interval=_POLL)
    except Timeout:
        return None
    return lock.release


@functools.lru_cache(maxsize=256)
def _digest(boot: str, key: Key) -> str:
    return sha256(json.dumps([_FORMAT, boot, *key]).encode())[:40]


def replace_file(path: str, content: bytes) -> None:
    """Put ``content`` where ``path`` is, at once and for this user's eyes only.

    The caller holds a lock, so the one name of what is on its way is enough, and a process that is
    killed in between leaves one small file at the most.

    Raises:
        OSError: if it cannot be done; then what was there is there still.
    """
    new = f"{path}.new"
    try:
        descriptor = os.open(new, _CREATE, 0o600)
    except FileExistsError:  # of a process that was killed
        os.unlink(new)
        descriptor = os.open(new, _CREATE, 0o600)
    try:
        os.write(descriptor, content)
    except OSError:
        remove(new)
        raise
    finally:
        os.close(descriptor)
    os.replace(new, path)


def remove(path: str) -> None:
    """Remove a file, if it is there and can be removed."""
    with suppress(OSError):
        os.unlink(path)


def _token(facts: dict[str, Any]) -> Token:
    token = Token(**facts)
    moments = (token.received_at, token.refresh_at, token.expires_at)
    numbers = (*moments, token.expires_on, token.refresh_on, token.setbacks)
    if not all(type(number) in (int, float) for number in numbers):
        raise ValueError("no numbers")
    if not (isinstance(token.value, str) and isinstance(token.token_type, str)):
        raise TypeError("no strings")
    if not (token.value.isascii() and token.value.isprintable() and token.value):
        raise ValueError("no token")
    received_at, refresh_at, expires_at = moments
    if (
        not received_at <= refresh_at
        or not received_at < expires_at < received_at + 10 * 366 * 86400
    ):
        raise ValueError("no life of a token")
    return token


def _written(challenge: Challenge | None) -> list[Any] | None:
    if challenge is None:
        return None
    failure = facts_of(challenge.failure) if challenge.failure else None
    return [challenge.claims, challenge.until, failure]


def _challenge(said: list[Any] | None) -> Challenge | None:
    if said is None:
        return None
    claims, until, failure = said
    return Challenge(str(claims), float(until), failure_from(failure) if failure else None)
