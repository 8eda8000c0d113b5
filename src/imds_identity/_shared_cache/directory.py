"""The directory that the processes of one user share: judged once, and held open from then on."""

from __future__ import annotations

import functools
import os
import stat
import sys
from contextlib import suppress
from io import FileIO

from .._platform.fork import fork_safe
from .._platform.replacing import replace
from .._platform.threads import LOG_SECONDS, run_in_thread
from .mounts import mounts
from .open_directory import BY_DESCRIPTOR, OpenDirectory, Untrusted, check, open_or_make_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Self

_ATTEMPTS = 5
_MAKE_PRIVATE = "make it a directory of your own" + " with mode 700" * (sys.platform != "win32")


class Unusable(OSError):
    """There is no directory to share anything in."""


class Directory:
    """A directory of this user's own, by descriptor: nobody can put another in its place.

    It is opened when it is first needed, and opened anew, or made anew, once it has been removed,
    is open to others or belongs to somebody else than this process has become.

    Args:
        paths: gives paths; the first that is usable is used.
        in_memory: whether only file systems in memory will do.
    """

    def __init__(self, paths: Callable[[], Iterable[str]], *, in_memory: bool = False) -> None:
        self._paths = paths
        self._in_memory = in_memory
        self._opened_directory: OpenDirectory | None = None
        self._unusable_state: object = None
        self._warned = False

    @classmethod
    def named(cls, path: str) -> Self:
        """The directory ``path``, wherever it lies."""
        return cls(lambda: [path])

    @property
    def path(self) -> str:
        """Where it is, or would be, for a message; empty where there is no place for it."""
        return (
            self._opened_directory.path if self._opened_directory else next(iter(self._paths()), "")
        )

    def usable(self) -> bool:
        """Whether it is there and trusted; if it is not, a warning has said why."""
        try:
            self._current()
        except Unusable:
            return False
        return True

    def warn_once(self, reason: str) -> None:
        """Log a warning, once a process."""
        if not self._warned:
            self._warned = True
            # A handler may be slow, or wait for the very token that is on its way here.
            run_in_thread(functools.partial(_warn, reason), LOG_SECONDS)

    def open(self, name: str, mode: str) -> FileIO:
        """Open a file of this user's own and nobody else's.

        Args:
            name: in this directory.
            mode: ``r`` or ``r+`` for one that is there, ``x`` or ``x+`` for one that is not.

        Raises:
            Untrusted: if somebody else may have a hand in it.
            OSError: if it cannot be opened.
        """
        opened = self._current()
        before = None
        if "x" not in mode:
            before = opened.stat(name)  # first, because opening a FIFO would wait
            check(before, name, stat.S_ISREG, "regular file")
        file = _File(opened.path_of(name), mode, opener=opened.opener)
        if before is None:
            _restore_mode(file)
        elif BY_DESCRIPTOR and not os.path.samestat(before, os.fstat(file.fileno())):
            file.close()
            raise Untrusted(f"{name} was exchanged while it was opened")
        return file

    def open_or_make(self, name: str) -> FileIO:
        """Like `open` for reading and writing, and made if need be.

        Raises:
            Untrusted: if somebody else may have a hand in it.
            OSError: if it cannot be opened.
        """
        for _ in range(_ATTEMPTS):
            with suppress(FileNotFoundError):
                return self.open(name, "r+")
            with suppress(FileExistsError):
                return self.open(name, "x+")
        raise Untrusted(f"{name} is there and is not")

    def stat(self, name: str) -> os.stat_result | None:
        """The status of ``name`` itself, or None if there is none. No more than a system call."""
        try:
            return (self._opened_directory or self._current()).stat(name)
        except OSError:
            return None

    def replace(self, source: str, target: str) -> None:
        """Put ``source`` in the place of ``target``, at once.

        Raises:
            OSError: if it cannot be done.
        """
        opened = self._current()
        replace(opened.path_of(source), opened.path_of(target), opened.descriptor)

    def remove(self, name: str) -> bool:
        """Remove a file, if it is there and can be removed; whether it was."""
        try:
            opened = self._current()
            os.unlink(opened.path_of(name), dir_fd=opened.descriptor)
        except OSError:
            return False
        return True

    def names(self) -> list[str]:
        """What is in it."""
        try:
            return self._current().names()
        except OSError:
            return []

    def _current(self) -> OpenDirectory:
        opened = self._opened_directory
        if opened is None or not opened.is_unchanged():
            opened = self._opened_directory = self._open_first_usable()
        return opened

    def _open_first_usable(self) -> OpenDirectory:
        """The first of the places that will do; of mounts there may be thousands to look through.

        Raises:
            Unusable: if none does.
        """
        paths = list(self._paths())
        sights = [_state_of(path) for path in paths] if self._in_memory else None
        if sights is None or sights != self._unusable_state:
            if opened := self._try_each(paths):
                return opened
            self._unusable_state = sights
        raise Unusable("no directory can be used")

    def _try_each(self, paths: list[str]) -> OpenDirectory | None:
        present = mounts() if self._in_memory else None
        reasons: list[str] = []
        for path in paths:
            if present and not present.in_memory(os.path.dirname(path)):
                continue
            try:
                opened = open_or_make_directory(path, present)
            except OSError as error:
                reasons.append(f"{path} cannot be used: {error.strerror}")
            except Untrusted as reason:
                reasons.append(f"{reason}; {_MAKE_PRIVATE}")
            else:
                if reasons:
                    self.warn_once(f"{reasons[0]}. Tokens are shared in {path} in its place")
                return opened
        if reasons:
            self.warn_once(
                "tokens are not shared with the other processes of this machine: " + reasons[0]
            )
        return None


class _File(FileIO):
    """Closes itself when nobody holds it, whatever a signal handler raised in the meantime.

    A lock is never the number of a descriptor, which an exception could make us lose.
    """

    __del__ = FileIO.close  # unlike its own it does not warn


def _warn(reason: str) -> None:
    with fork_safe():
        import logging

        logging.getLogger("imds_identity").warning("%s", reason)


def _state_of(path: str) -> list[object]:
    """What changes with whatever may make a place usable that is not."""
    seen: list[object] = []
    for name in (os.path.dirname(path), path):
        with suppress(OSError, ValueError):
            status = os.lstat(name)
            seen += [status.st_dev, status.st_ino, status.st_mode, status.st_uid, status.st_ctime]
    return seen


def _restore_mode(file: FileIO) -> None:
    """A umask may have taken this user's own rights away."""
    if hasattr(os, "fchmod") and stat.S_IMODE(os.fstat(file.fileno()).st_mode) != 0o600:
        os.fchmod(file.fileno(), 0o600)
