"""A private directory that is held open, and the checks that no other user can change it."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress

from .._platform.files import access_problem, current_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .mounts import Mounts

# Not `os.open`, which eventlet may have replaced.
BY_DESCRIPTOR = os.stat in os.supports_dir_fd
# Enough for the records that processes write until the next check, and for their locks.
_MIN_FREE_BYTES = 256 * 1024
_MIN_FREE_FILES = 64
_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_DIRECTORY", "O_NOFOLLOW"))


class NoUsableDirectory(OSError):
    """There is no directory in which to share anything."""


class UntrustedPath(OSError):
    """Another user may have created, or can access, a directory or a file."""


class OpenDirectory:
    """An open directory, or only its path on Windows, where a directory cannot be held open."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.descriptor = os.open(path, _FLAGS) if BY_DESCRIPTOR else None
        status = self._status()
        self.device = status.st_dev
        self._identity = (status.st_dev, status.st_ino)
        check_directory(status, path)
        self._facts = _facts(status)
        if sys.platform == "win32" and (problem := access_problem(path, status)):
            raise UntrustedPath(f"{path} {problem}")

    def is_unchanged(self) -> bool:
        """Return whether it still exists and is open, with the same owner and mode."""
        try:
            status = self._status()
        except OSError:
            return False
        return status.st_nlink > 0 and _facts(status) == self._facts

    def is_full(self) -> bool:
        """Return whether its file system has no space: every user can fill /dev/shm."""
        if sys.platform == "win32" or self.descriptor is None:
            return False
        try:
            status = os.fstatvfs(self.descriptor)
        except OSError:
            return False
        # Without a limit, the number of files is 0.
        has_files = not status.f_files or status.f_favail >= _MIN_FREE_FILES
        return not has_files or status.f_bavail * status.f_frsize < _MIN_FREE_BYTES

    def path_of(self, name: str) -> str:
        """Return the path of ``name``, relative to the directory if its descriptor is open."""
        return name if self.descriptor is not None else os.path.join(self.path, name)

    def opener(self, path: str, flags: int) -> int:
        """Open a file of this directory, or create it for this user only."""
        return os.open(path, flags, mode=0o600, dir_fd=self.descriptor)

    def stat(self, name: str) -> os.stat_result:
        return os.stat(self.path_of(name), dir_fd=self.descriptor, follow_symlinks=False)

    def names(self) -> list[str]:
        if self.descriptor is None:
            return os.listdir(self.path)
        # A forked child shares the read position of the descriptor itself.
        listed = os.open(".", _FLAGS, dir_fd=self.descriptor)
        try:
            return os.listdir(listed)
        finally:
            os.close(listed)

    def _status(self) -> os.stat_result:
        return os.lstat(self.path) if self.descriptor is None else os.fstat(self.descriptor)

    def __del__(self) -> None:
        descriptor = getattr(self, "descriptor", None)
        if descriptor is None:
            return
        with suppress(OSError):
            status = os.fstat(descriptor)
            # After the number was closed elsewhere, it may belong to another file.
            if (status.st_dev, status.st_ino) == getattr(self, "_identity", None):
                os.close(descriptor)


def _facts(status: os.stat_result) -> tuple[int, ...]:
    """Return the attributes that decide whether a directory is trusted."""
    return status.st_dev, status.st_ino, status.st_mode, status.st_uid, current_user()


def open_or_create_directory(path: str, mounts: Mounts | None) -> OpenDirectory:
    """Open or create the directory ``path``; in memory only, if ``mounts`` is given."""
    # Checked before opening, because a FUSE file system can block its users.
    if mounts and os.fsencode(path) in mounts.others:
        raise UntrustedPath(f"{path} is a mount point")
    try:
        opened = OpenDirectory(path)
    except FileNotFoundError:
        _create(path)
        opened = OpenDirectory(path)
    if mounts and opened.device not in mounts.devices:
        raise UntrustedPath(f"{path} is not in memory")
    return opened


def _create(path: str) -> None:
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
        if sys.platform == "win32":  # only recent versions of Python apply the mode
            from .._platform.windows import restrict_to_user

            restrict_to_user(path, inheritable=True)
        elif stat.S_IMODE(os.lstat(path).st_mode) != 0o700:  # the umask denies this user
            os.chmod(path, 0o700)


def check_directory(status: os.stat_result, path: str) -> None:
    """Raise UntrustedPath unless ``path`` is a directory that only this user can access."""
    if not stat.S_ISDIR(status.st_mode):
        raise UntrustedPath(f"{path} is not a directory (links are not followed)")
    _check_access(status, path)


def check_file(status: os.stat_result, path: str) -> None:
    """Raise UntrustedPath unless ``path`` is a file that only this user can access."""
    if not stat.S_ISREG(status.st_mode):
        raise UntrustedPath(f"{path} is not a regular file (links are not followed)")
    if status.st_nlink > 1:
        raise UntrustedPath(f"{path} has another hard link")
    _check_access(status, path)


def _check_access(status: os.stat_result, path: str) -> None:
    # On Windows files inherit the access list of their directory, which was checked when opened.
    if sys.platform != "win32" and (problem := access_problem(path, status)):
        raise UntrustedPath(f"{path} {problem}")
