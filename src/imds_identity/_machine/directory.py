"""The directory that the processes of one user share: judged once, and held open from then on."""

from __future__ import annotations

import functools
import os
import stat
from contextlib import suppress
from io import FileIO
from typing import TYPE_CHECKING

from .._runtime.background import run_beside
from .._runtime.fork import whole
from .memory import Mounts, mounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Self

_BY_DESCRIPTOR = os.open in os.supports_dir_fd
_OPEN = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_DIRECTORY", "O_NOFOLLOW"))
_ATTEMPTS = 5
_LOG_SECONDS = 1.0


class Untrusted(Exception):
    """Why a directory or a file is not used."""


class Unusable(OSError):
    """There is no directory to share anything in."""


class Directory:
    """A directory of this user's own, by descriptor: nobody can put another in its place.

    It is opened when it is first needed, and opened anew, or made anew, once it has been removed,
    is open to others or belongs to somebody else than this process has become.

    Args:
        places: gives paths; the first that is usable is used.
        in_memory: whether only file systems in memory will do.
    """

    def __init__(self, places: Callable[[], Iterable[str]], *, in_memory: bool = False) -> None:
        self._places = places
        self._in_memory = in_memory
        self._held: _Held | None = None
        self._in_vain: object = None
        self._complained = False

    @classmethod
    def named(cls, path: str) -> Self:
        """The directory ``path``, wherever it lies."""
        return cls(lambda: [path])

    @property
    def path(self) -> str:
        """Where it is, or would be, for a message; empty where there is no place for it."""
        return self._held.path if self._held else next(iter(self._places()), "")

    def usable(self) -> bool:
        """Whether it is there and trusted; if it is not, a warning has said why."""
        try:
            self._current()
        except Unusable:
            return False
        return True

    def complain(self, reason: str) -> None:
        """Log a warning, once a process."""
        if not self._complained:
            self._complained = True
            # A handler may be slow, or wait for the very token that is on its way here.
            run_beside(functools.partial(_warn, reason), _LOG_SECONDS)

    def open(self, name: str, mode: str) -> FileIO:
        """Open a file of this user's own and nobody else's.

        Args:
            name: in this directory.
            mode: ``r`` or ``r+`` for one that is there, ``x`` or ``x+`` for one that is not.

        Raises:
            Untrusted: if somebody else may have a hand in it.
            OSError: if it cannot be opened.
        """
        held = self._current()
        before = None
        if "x" not in mode:
            before = held.stat(name)  # first, because opening a FIFO would wait
            check(before, name, stat.S_ISREG, "regular file")
        file = _File(held.path_of(name), mode, opener=held.opener)
        if before is None:
            _restore_mode(file)
        elif _BY_DESCRIPTOR and not os.path.samestat(before, os.fstat(file.fileno())):
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
            return (self._held or self._current()).stat(name)
        except OSError:
            return None

    def replace(self, source: str, target: str) -> None:
        """Put ``source`` in the place of ``target``, at once.

        Raises:
            OSError: if it cannot be done.
        """
        held = self._current()
        at = held.descriptor
        os.replace(held.path_of(source), held.path_of(target), src_dir_fd=at, dst_dir_fd=at)

    def remove(self, name: str) -> bool:
        """Remove a file, if it is there and can be removed; whether it was."""
        try:
            held = self._current()
            os.unlink(held.path_of(name), dir_fd=held.descriptor)
        except OSError:
            return False
        return True

    def names(self) -> list[str]:
        """What is in it."""
        try:
            return self._current().names()
        except OSError:
            return []

    def _current(self) -> _Held:
        held = self._held
        if held is None or not held.is_good():
            held = self._held = self._opened()
        return held

    def _opened(self) -> _Held:
        """The first of the places that will do; of mounts there may be thousands to look through.

        Raises:
            Unusable: if none does.
        """
        paths = list(self._places())
        sights = [_sight(path) for path in paths] if self._in_memory else None
        if sights is None or sights != self._in_vain:
            if held := self._first_usable(paths):
                return held
            self._in_vain = sights
        raise Unusable("no directory can be used")

    def _first_usable(self, paths: list[str]) -> _Held | None:
        present = mounts() if self._in_memory else None
        reasons: list[str] = []
        for path in paths:
            if present and not present.in_memory(os.path.dirname(path)):
                continue
            try:
                held = _open_or_make(path, present)
            except OSError as error:
                reasons.append(f"{path} cannot be used: {error.strerror}")
            except Untrusted as reason:
                reasons.append(f"{reason}; make it a directory of your own with mode 700")
            else:
                if reasons:
                    self.complain(f"{reasons[0]}. Tokens are shared in {path} in its place")
                return held
        if reasons:
            self.complain(
                "tokens are not shared with the other processes of this machine: " + reasons[0]
            )
        return None


class _File(FileIO):
    """Closes itself when nobody holds it, whatever a signal handler raised in the meantime.

    A lock is never the number of a descriptor, which an exception could make us lose.
    """

    __del__ = FileIO.close  # unlike its own it does not warn


class _Held:
    """An open directory. Where the system opens none (Windows), its path."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.descriptor: int | None = None
        self.opener: Callable[[str, int], int] | None = None
        if _BY_DESCRIPTOR:
            self.descriptor = os.open(path, _OPEN)
            self.opener = functools.partial(os.open, mode=0o600, dir_fd=self.descriptor)
        status = self._status()
        self.device = status.st_dev
        self._identity = (status.st_dev, status.st_ino)
        check(status, path, stat.S_ISDIR, "directory")

    def is_good(self) -> bool:
        """Whether it is what it was: the descriptor may have been closed by who makes daemons."""
        try:
            status = self._status()
            check(status, self.path, stat.S_ISDIR, "directory")
        except (OSError, Untrusted):
            return False
        return status.st_nlink > 0 and self._identity == (status.st_dev, status.st_ino)

    def path_of(self, name: str) -> str:
        """What to call ``name`` where the descriptor is given, too, if there is one."""
        return name if self.descriptor is not None else os.path.join(self.path, name)

    def stat(self, name: str) -> os.stat_result:
        return os.stat(self.path_of(name), dir_fd=self.descriptor, follow_symlinks=False)

    def names(self) -> list[str]:
        if self.descriptor is None:
            return os.listdir(self.path)
        # Not by the descriptor itself: a child of a fork shares its place in the list.
        listed = os.open(".", _OPEN, dir_fd=self.descriptor)
        try:
            return os.listdir(listed)
        finally:
            os.close(listed)

    def _status(self) -> os.stat_result:
        if self.descriptor is None:
            return os.lstat(self.path)
        return os.fstat(self.descriptor)

    def __del__(self) -> None:
        if self.descriptor is None:
            return
        with suppress(OSError):
            status = os.fstat(self.descriptor)
            # The number may be somebody else's by now.
            if (status.st_dev, status.st_ino) == getattr(self, "_identity", None):
                os.close(self.descriptor)


def _warn(reason: str) -> None:
    with whole():
        import logging

        logging.getLogger("imds_identity").warning("%s", reason)


def _open_or_make(path: str, present: Mounts | None) -> _Held:
    """The directory ``path``, in memory if ``present`` says what is.

    Raises:
        Untrusted: if somebody else may have a hand in it.
        OSError: if it cannot be opened or made.
    """
    # First, because who mounts his own file system there can let us wait for an answer.
    if present and os.fsencode(path) in present.others:
        raise Untrusted(f"something is mounted on {path}")
    try:
        held = _Held(path)
    except FileNotFoundError:
        _make(path)
        held = _Held(path)
    if present and held.device not in present.devices:
        raise Untrusted(f"{path} is not in memory")
    return held


def _sight(path: str) -> list[object]:
    """What changes with whatever may make a place usable that is not."""
    seen: list[object] = []
    for name in (os.path.dirname(path), path):
        with suppress(OSError, ValueError):
            status = os.lstat(name)
            seen += [status.st_dev, status.st_ino, status.st_mode, status.st_uid, status.st_ctime]
    return seen


def _make(path: str) -> None:
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
        if stat.S_IMODE(os.lstat(path).st_mode) != 0o700:  # a umask that takes our own rights
            os.chmod(path, 0o700)


def _restore_mode(file: FileIO) -> None:
    """A umask may have taken this user's own rights away."""
    if hasattr(os, "fchmod") and stat.S_IMODE(os.fstat(file.fileno()).st_mode) != 0o600:
        os.fchmod(file.fileno(), 0o600)


def check(status: os.stat_result, path: str, is_kind: Callable[[int], bool], kind: str) -> None:
    """Refuse what is not this user's own and nobody else's.

    Args:
        status: of the thing itself, no link followed.
        path: what to call it.
        is_kind: tells by the mode whether it is of the right kind.
        kind: what it should be.

    Raises:
        Untrusted: with the reason.
    """
    if not is_kind(status.st_mode):
        raise Untrusted(f"{path} is no {kind} (a link is none)")
    if kind != "directory" and status.st_nlink > 1:
        raise Untrusted(f"{path} has another name, too")
    if not hasattr(os, "geteuid"):
        return  # Windows keeps rights elsewhere; there a directory is used only if it was named.
    if status.st_uid != os.geteuid():
        raise Untrusted(f"{path} belongs to user {status.st_uid} and not to {os.geteuid()}")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise Untrusted(f"{path} is open to others (mode {stat.S_IMODE(status.st_mode):o})")
