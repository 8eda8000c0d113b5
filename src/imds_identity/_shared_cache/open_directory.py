"""An open directory of this user's own, and how it is told from somebody else's."""

from __future__ import annotations

import functools
import os
import stat
import sys
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .mounts import Mounts

BY_DESCRIPTOR = os.open in os.supports_dir_fd
_OPEN = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_DIRECTORY", "O_NOFOLLOW"))


class Untrusted(Exception):
    """Why a directory or a file is not used."""


class OpenDirectory:
    """An open directory. Where the system opens none (Windows), its path."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.descriptor: int | None = None
        self.opener: Callable[[str, int], int] | None = None
        if BY_DESCRIPTOR:
            self.descriptor = os.open(path, _OPEN)
            self.opener = functools.partial(os.open, mode=0o600, dir_fd=self.descriptor)
        status = self._status()
        self.device = status.st_dev
        self._identity = (status.st_dev, status.st_ino)
        check(status, path, stat.S_ISDIR, "directory")
        if sys.platform == "win32":
            _check_access(path)

    def is_unchanged(self) -> bool:
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


def open_or_make_directory(path: str, present: Mounts | None) -> OpenDirectory:
    """The directory ``path``, in memory if ``present`` says what is.

    Raises:
        Untrusted: if somebody else may have a hand in it.
        OSError: if it cannot be opened or made.
    """
    # First, because who mounts his own file system there can let us wait for an answer.
    if present and os.fsencode(path) in present.others:
        raise Untrusted(f"something is mounted on {path}")
    try:
        opened = OpenDirectory(path)
    except FileNotFoundError:
        _make(path)
        opened = OpenDirectory(path)
    if present and opened.device not in present.devices:
        raise Untrusted(f"{path} is not in memory")
    return opened


def _make(path: str) -> None:
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
        if sys.platform == "win32":  # where only later Pythons heed the mode
            from .._platform.windows import restrict_to_user

            restrict_to_user(path, with_content=True)
        elif stat.S_IMODE(os.lstat(path).st_mode) != 0o700:  # a umask that takes our own rights
            os.chmod(path, 0o700)


def _check_access(path: str) -> None:
    """As `check`, by what Windows has in place of modes. Files have it from their directory.

    Raises:
        Untrusted: if somebody else is let in.
        OSError: if that is not told.
    """
    from .._platform.windows import how_to_restrict, other_readers

    found = other_readers(path)
    if found:
        raise Untrusted(f"{path} is open to others ({', '.join(found)}): {how_to_restrict(path)}")


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
        return  # Windows keeps rights elsewhere: see `_check_access`
    if status.st_uid != os.geteuid():
        raise Untrusted(f"{path} belongs to user {status.st_uid} and not to {os.geteuid()}")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise Untrusted(f"{path} is open to others (mode {stat.S_IMODE(status.st_mode):o})")
