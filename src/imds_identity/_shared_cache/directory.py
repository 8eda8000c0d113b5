"""The private directory that the processes of one user share."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from io import FileIO

from .._core.failure import escape
from .._http.local_errors import local_failure
from .._platform.files import restore_mode, set_times, write_atomically
from .._platform.log import log_in_thread
from .mounts import current_mounts
from .open_directory import (
    BY_DESCRIPTOR,
    NoUsableDirectory,
    OpenDirectory,
    UntrustedPath,
    check_file,
    open_or_create_directory,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    from typing_extensions import Self

    from .watchdog import Watchdog

    T = TypeVar("T")

_ATTEMPTS = 5
_FIX = "make it a directory of your own" + " with mode 700" * (sys.platform != "win32")


class ReplacedFile(UntrustedPath):
    """A file was replaced between the check and its opening."""


class Directory:
    """A private directory that is held open, so that other users cannot replace it.

    It is opened when it is first needed. It is opened or created again after it was removed, after
    other users got access to it, and after this process has switched to another user. If a file
    system in memory is full, all processes use the next candidate until it has space again.

    Args:
        paths: returns candidates; the first usable one is used.
        in_memory: whether to accept only file systems in memory.
        watchdog: limits the time that operations may take, unless the file system is local.

    Attributes:
        may_hang: whether operations may hang: a caller with a valid token does not wait for them.
    """

    def __init__(
        self,
        paths: Callable[[], Iterable[str]],
        *,
        in_memory: bool = False,
        watchdog: Watchdog | None = None,
    ) -> None:
        self.may_hang: bool = watchdog is not None
        self._paths = paths
        self._in_memory = in_memory
        self._watchdog = watchdog
        self._opened: OpenDirectory | None = None
        self._full: list[OpenDirectory] = []
        self._unusable_state: object = None
        self._warned = False

    @classmethod
    def at(cls, path: str) -> Self:
        """Return a `Directory` at ``path``, on any file system."""
        return cls(lambda: [path])

    @property
    def path(self) -> str:
        """The path that is used or would be tried first, for messages; empty if there is none."""
        return self._opened.path if self._opened else next(iter(self._paths()), "")

    def run(self, work: Callable[..., T], *args: object) -> T:
        """Return ``work(*args)``, an operation on this directory, if that does not take too long.

        Raise NoUsableDirectory if it does, or if this process is out of memory.
        """
        try:
            if self._watchdog is None:
                return work(*args)
            return self._watchdog.run(work, *args, in_thread=self.may_hang)
        except MemoryError:
            raise NoUsableDirectory(errno.ENOMEM, os.strerror(errno.ENOMEM)) from None

    def finish(self, work: Callable[[], object]) -> None:
        """Call ``work``, which closes files, and do not wait for it if that takes too long."""
        if self._watchdog is not None and self.may_hang:
            self._watchdog.finish(work)
        else:
            work()

    def usable(self) -> bool:
        """Return whether it can be used; if not, a warning has reported the reason."""
        try:
            self.run(self._current)
        except NoUsableDirectory:
            return False
        return True

    def warn_once(self, reason: str) -> None:
        """Log a warning, once per process."""
        if not self._warned:
            self._warned = True
            log_in_thread("WARNING", "%s", escape(reason))

    def read(self, name: str, max_size: int) -> bytes:
        """Return the first ``max_size`` bytes of a private file."""
        return self.run(self._read, name, max_size)

    def open(self, name: str, mode: str, before: os.stat_result | None = None) -> PrivateFile:
        """Open a private file, with mode ``r`` or ``r+``, or create it, with ``x`` or ``x+``.

        ``before`` is the file's status if the caller knows it. Call it within `run`.
        """
        opened = self._current()
        if "x" not in mode:
            before = before or opened.stat(name)  # first, because opening a FIFO would block
            check_file(before, name)
        file = PrivateFile(opened.path_of(name), mode, opener=opened.opener)
        if before is None:
            restore_mode(file.fileno())
        status = os.fstat(file.fileno())
        if before and BY_DESCRIPTOR and not os.path.samestat(before, status):
            file.close()
            raise ReplacedFile(f"{name} was replaced while it was opened")
        file.identity = (status.st_dev, status.st_ino)
        return file

    def open_or_create(self, name: str, status: os.stat_result | None = None) -> PrivateFile:
        """Open a private file for reading and writing; otherwise like `open`."""
        for _ in range(_ATTEMPTS):
            with suppress(FileNotFoundError, ReplacedFile):
                return self.open(name, "r+", status)
            status = None
            with suppress(FileExistsError):
                return self.open(name, "x+")
        raise UntrustedPath(f"{name} can be neither opened nor created")

    def write(self, name: str, content: bytes, confirm: Callable[[], bool], expiry: float) -> None:
        """Replace a file atomically, if ``confirm`` returns True immediately before that.

        ``expiry`` becomes its modification time (``Clock.now``), less a random part of a second:
        each write must change the status, even if an inode number is used again (as on Windows).
        """
        self.run(self._write, name, content, confirm, expiry)

    def set_mtime(self, name: str, moment: float) -> None:
        """Set the modification time of a file to ``moment`` (``Clock.now``), if possible."""
        with suppress(OSError):
            self.run(self._set_mtime, name, moment)

    def stat(self, name: str) -> os.stat_result | None:
        """Return the status of ``name`` without following links, or None; one system call."""
        try:
            return self._stat(name) if self._watchdog is None else self.run(self._stat, name)
        except (OSError, MemoryError):
            return None

    def remove(self, name: str) -> bool:
        """Remove a file, if possible, and return whether it was removed."""
        try:
            self.run(self._remove, name)
        except OSError:
            return False
        return True

    def names(self) -> list[str]:
        """Return the names of the files."""
        try:
            return self.run(lambda: self._current().names())
        except OSError:
            return []

    def _read(self, name: str, max_size: int) -> bytes:
        with self.open(name, "r") as file:
            return os.read(file.fileno(), max_size)

    def _write(self, name: str, content: bytes, confirm: Callable[[], bool], expiry: float) -> None:
        opened = self._current()
        write_atomically(
            opened.path_of(name),
            content,
            inherit_access=True,
            directory=opened.descriptor,
            confirm=confirm,
            mtime=expiry - int.from_bytes(os.urandom(4), "big") / 2**32,
        )

    def _set_mtime(self, name: str, moment: float) -> None:
        with self.open_or_create(name) as file:
            set_times(file, moment, moment)

    def _stat(self, name: str) -> os.stat_result:
        return (self._opened or self._current()).stat(name)

    def _remove(self, name: str) -> None:
        opened = self._current()
        os.unlink(opened.path_of(name), dir_fd=opened.descriptor)

    def _current(self) -> OpenDirectory:
        opened = self._opened
        if opened is None or not opened.is_unchanged() or self._has_space_elsewhere(opened):
            opened = self._opened = self._open_first_usable()
            if self._watchdog is not None:
                with suppress(OSError):  # out of file descriptors
                    self.may_hang = opened.device not in current_mounts().local
        return opened

    def _has_space_elsewhere(self, opened: OpenDirectory) -> bool:
        """Return whether ``opened`` has become full, or a preferred directory has space again."""
        if not self._in_memory:
            return False
        full = self._full
        became_full = opened not in full and opened.is_full()
        return became_full or not all(each.is_full() for each in full)

    def _open_first_usable(self) -> OpenDirectory:
        paths = list(self._paths())
        # There may be thousands of mounts to parse: only if something has changed.
        state = [_state_of(path) for path in paths] if self._in_memory else None
        if state is None or state != self._unusable_state:
            try:
                opened = self._try_each(paths)
            except OSError as error:  # out of file descriptors: the directories are not the cause
                raise NoUsableDirectory(error.strerror) from None
            if opened:
                return opened
            self._unusable_state = state
        raise NoUsableDirectory("no directory can be used")

    def _try_each(self, paths: list[str]) -> OpenDirectory | None:
        mounts = current_mounts() if self._in_memory else None
        reasons: list[str] = []
        full: list[OpenDirectory] = []
        self._full = full
        for path in paths:
            if mounts and not mounts.in_memory(os.path.dirname(path)):
                continue
            try:
                if full and os.stat(os.path.dirname(path)).st_dev == full[-1].device:
                    continue
                opened = open_or_create_directory(path, mounts)
            except OSError as error:
                reasons.append(_problem(path, error))
                continue
            if mounts and opened.is_full():
                reasons.append(f"the file system of {path} is full")
                full.append(opened)
            else:
                if reasons:
                    self.warn_once(f"{reasons[0]}. Tokens are shared in {path} instead")
                return opened
        if reasons:
            self.warn_once(f"tokens are not shared with other processes: {reasons[0]}")
        return full[0] if full else None  # its records can still be read


def _problem(path: str, error: OSError) -> str:
    """Return why ``path`` cannot be used; raise ``error`` if the path is not the reason."""
    if isinstance(error, UntrustedPath):
        return f"{error}; {_FIX}"
    if local_failure(error):
        raise error
    return f"{path} cannot be used: {error.strerror}"


class PrivateFile(FileIO):
    """A file that is closed without a warning when its last reference is dropped.

    A signal handler that raises may drop the reference at any moment, but never a bare descriptor.

    Attributes:
        identity: device and inode.
    """

    identity = (0, 0)
    __del__ = FileIO.close


def _state_of(path: str) -> list[int]:
    """Return the status of ``path`` and its parent: a change may make an unusable path usable."""
    values: list[int] = []
    for name in (os.path.dirname(path), path):
        with suppress(OSError, ValueError):
            status = os.lstat(name)
            values += [*status[:5], status.st_ctime_ns]  # from the mode to the owner
    return values
