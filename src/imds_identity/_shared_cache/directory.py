"""The private directory that the processes of one user share."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from io import FileIO

from .._http.local_errors import local_failure
from .._platform.files import restore_mode, write_atomically
from .._platform.log import log_in_thread
from .mounts import current_mounts
from .open_directory import (
    BY_DESCRIPTOR,
    OpenDirectory,
    UntrustedPath,
    check_file,
    open_or_create_directory,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Self

_ATTEMPTS = 5
_FIX = "make it a directory of your own" + " with mode 700" * (sys.platform != "win32")


class NoUsableDirectory(OSError):
    """There is no directory in which to share anything."""


class ReplacedFile(UntrustedPath):
    """A file was replaced between the check and its opening."""


class Directory:
    """A private directory that is held open, so that other users cannot replace it.

    It is opened when it is first needed. It is opened or created again after it was removed, after
    other users got access to it, and after this process has switched to another user.

    Args:
        paths: returns candidates; the first usable one is used.
        in_memory: whether to accept only file systems in memory.
    """

    def __init__(self, paths: Callable[[], Iterable[str]], *, in_memory: bool = False) -> None:
        self._paths = paths
        self._in_memory = in_memory
        self._opened: OpenDirectory | None = None
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

    def usable(self) -> bool:
        """Return whether it can be used; if not, a warning has reported the reason."""
        try:
            self._current()
        except NoUsableDirectory:
            return False
        return True

    def warn_once(self, reason: str) -> None:
        """Log a warning, once per process."""
        if not self._warned:
            self._warned = True
            log_in_thread("WARNING", "%s", reason)

    def open(self, name: str, mode: str, before: os.stat_result | None = None) -> PrivateFile:
        """Open a private file, with mode ``r`` or ``r+``, or create it, with ``x`` or ``x+``.

        ``before`` is the file's status if the caller knows it.
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
        """Open a private file for reading and writing; ``status`` as for `open`."""
        for _ in range(_ATTEMPTS):
            with suppress(FileNotFoundError, ReplacedFile):
                return self.open(name, "r+", status)
            status = None
            with suppress(FileExistsError):
                return self.open(name, "x+")
        raise UntrustedPath(f"{name} can be neither opened nor created")

    def write(self, name: str, content: bytes, confirm: Callable[[], bool]) -> None:
        """Replace a file atomically, if ``confirm`` returns True immediately before that."""
        opened = self._current()
        path, descriptor = opened.path_of(name), opened.descriptor
        write_atomically(path, content, inherit_access=True, directory=descriptor, confirm=confirm)

    def set_mtime(self, name: str, moment: float) -> None:
        """Set the modification time of a file to ``moment`` (``Clock.now``), if possible."""
        with suppress(OSError), self.open_or_create(name) as file:
            set_times(file, moment, moment)

    def stat(self, name: str) -> os.stat_result | None:
        """Return the status of ``name`` without following links, or None; one system call."""
        try:
            return (self._opened or self._current()).stat(name)
        except OSError:
            return None

    def remove(self, name: str) -> bool:
        """Remove a file, if possible, and return whether it was removed."""
        try:
            opened = self._current()
            os.unlink(opened.path_of(name), dir_fd=opened.descriptor)
        except OSError:
            return False
        return True

    def names(self) -> list[str]:
        """Return the names of the files."""
        try:
            return self._current().names()
        except OSError:
            return []

    def _current(self) -> OpenDirectory:
        opened = self._opened
        if opened is None or not opened.is_unchanged():
            opened = self._opened = self._open_first_usable()
        return opened

    def _open_first_usable(self) -> OpenDirectory:
        paths = list(self._paths())
        # There may be thousands of mounts to parse: only if something has changed.
        state = [_state_of(path) for path in paths] if self._in_memory else None
        if state is None or state != self._unusable_state:
            try:
                opened = self._try_each(paths)
            except OSError as error:  # out of file descriptors: not a property of the directories
                raise NoUsableDirectory(error.strerror) from None
            if opened:
                return opened
            self._unusable_state = state
        raise NoUsableDirectory("no directory can be used")

    def _try_each(self, paths: list[str]) -> OpenDirectory | None:
        mounts = current_mounts() if self._in_memory else None
        reasons: list[str] = []
        for path in paths:
            if mounts and not mounts.in_memory(os.path.dirname(path)):
                continue
            try:
                opened = open_or_create_directory(path, mounts)
            except OSError as error:
                reasons.append(_problem(path, error))
            else:
                if reasons:
                    self.warn_once(f"{reasons[0]}. Tokens are shared in {path} instead")
                return opened
        if reasons:
            self.warn_once(f"tokens are not shared with other processes: {reasons[0]}")
        return None


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


def set_times(file: FileIO, access: float, modification: float) -> None:
    """Set both times of an open file."""
    target = file.fileno() if os.utime in os.supports_fd else file.name
    os.utime(target, (access, modification))
