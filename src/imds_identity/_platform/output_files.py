"""Files that the user names for output: which of them are replaced, written to, or refused."""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

from .files import open_parent, write_all, write_atomically

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DESCRIPTORS = re.compile(r"/dev/(?P<name>stdout|stderr)|/(?:dev|proc/self)/fd/(?P<number>\d{1,9})")
_STANDARD = {"stdout": 1, "stderr": 2}
_READABLE_BY_OTHERS = stat.S_IRGRP | stat.S_IROTH
_WALK_FLAGS = getattr(os, "O_PATH", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_MAX_LINKS = 40  # as in Linux


def write_output(
    path: str, content: bytes, *, mode: int = 0o600, parent_is_checked: bool = True
) -> Callable[[], None]:
    """Write ``content`` to the file that the user named; return a function that removes it.

    The umask applies unless ``mode`` is 0600. ``parent_is_checked`` refuses a directory in which
    other users can replace the file.

    Raise OSError if the file cannot be written, or another user may have created it.

    A regular file of this user is replaced atomically. A pipe, a terminal, the null device and an
    open descriptor such as ``/dev/stdout`` are written to and never removed; a pipe must have
    ``mode``, too, so that other users cannot read it.
    """
    if (descriptor := _descriptor_of(path)) is not None:
        write_all(descriptor, content)
        return _keep
    with open_trusted_parent(path) as (directory, name):
        if directory is None:  # Windows
            write_atomically(path, content, mode=mode)
            return partial(remove_if_same, path, os.lstat(path))
        if parent_is_checked:
            check_parent(path, os.fstat(directory))
        status = file_status(name, directory)
        if status is not None and (stat.S_ISFIFO(status.st_mode) or stat.S_ISCHR(status.st_mode)):
            _check_pipe(path, status, mode)
            _write_to(path, name, directory, status, content)
            return _keep
        check_replaceable(path, status)
        write_atomically(name, content, mode=mode, directory=directory)
        written = file_status(name, directory)
    return partial(remove_if_same, path, written)


@contextmanager
def open_trusted_parent(path: str, *, follows: bool = False) -> Iterator[tuple[int | None, str]]:
    """Yield directory and name as `open_parent`, but follow links of this user and of root only.

    With ``follows``, the file may be such a link, too. Another user can replace a link in the path
    at any time, so that the path leads to any directory of this user.
    """
    if not hasattr(os, "O_PATH"):  # Windows and macOS
        with open_parent(os.path.realpath(path) if follows else path) as found:
            yield found
        return
    with ExitStack() as stack:
        try:
            walk = _Walk(path)
            stack.callback(walk.close)
            name = walk.run(follows=follows)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None
        yield walk.directory, name


class _Walk:
    """Opens the directories of ``path`` one by one."""

    def __init__(self, path: str) -> None:
        self.directory = os.open("/" if path.startswith("/") else ".", _WALK_FLAGS)
        self._left = path.split("/")[::-1]
        self._links = 0

    def close(self) -> None:
        os.close(self.directory)

    def run(self, *, follows: bool) -> str:
        """Open the directory of the file; return the file's name in it."""
        name = ""
        while self._left:
            name = self._left.pop()
            is_file = not self._left and not follows
            if is_file or (name and not self._step(name)):
                break
        return name

    def _step(self, name: str) -> bool:
        """Enter a directory, or follow a link; return False if the file itself is neither."""
        try:
            found = os.open(name, _WALK_FLAGS, dir_fd=self.directory)
        except FileNotFoundError:
            if self._left:
                raise
            return False
        status = os.fstat(found)
        is_link = stat.S_ISLNK(status.st_mode)
        if is_link or not self._left:
            target = os.readlink("", dir_fd=found) if is_link else ""
            os.close(found)
            return is_link and self._follow(name, target, status)
        self._enter(found)
        return True

    def _enter(self, directory: int) -> None:
        os.close(self.directory)
        self.directory = directory

    def _follow(self, name: str, target: str, status: os.stat_result) -> bool:
        self._links += 1
        if self._links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if not _is_trusted(status):
            reason = f"{name} is a symbolic link of user {status.st_uid}: name its target"
            raise PermissionError(errno.EPERM, reason)
        if target.startswith("/"):
            self._enter(os.open("/", _WALK_FLAGS))
        self._left += target.split("/")[::-1]
        return True


def _is_trusted(status: os.stat_result) -> bool:
    """Return whether this user or root owns the file."""
    return status.st_uid in (0, os.geteuid())


def check_parent(path: str, status: os.stat_result) -> None:
    """Raise PermissionError if other users can replace files in the directory of ``path``."""
    mode = status.st_mode
    if not _is_trusted(status):
        raise _refusal(
            path,
            f"its directory belongs to user {status.st_uid}, who can replace files in it: use a "
            "directory that only you can write to",
        )
    # On many systems, each user has a group with the same number and no other members.
    is_own_group = status.st_uid == status.st_gid == os.geteuid()
    others = stat.S_IWOTH | (0 if is_own_group else stat.S_IWGRP)
    if mode & others and not mode & stat.S_ISVTX:
        raise _refusal(
            path,
            f"other users can replace files in its directory (mode {stat.S_IMODE(mode):o}): "
            "use a directory that only you can write to",
        )


def check_replaceable(path: str, status: os.stat_result | None) -> None:
    """Raise OSError unless the file does not exist or is a regular file of this user."""
    if status is None:
        return
    if stat.S_ISLNK(status.st_mode):
        raise _refusal(path, "it is a symbolic link: name its target, or remove the link")
    if not stat.S_ISREG(status.st_mode):
        raise FileExistsError(errno.EEXIST, "it exists and is not a regular file", path)
    if status.st_uid != os.geteuid():
        raise _refusal(path, f"it belongs to user {status.st_uid}: remove it, or name another file")


def remove_if_same(path: str, written: os.stat_result | None) -> None:
    """Remove the file ``path`` if it is still the one with the status ``written``."""
    with suppress(OSError), open_trusted_parent(path) as (directory, name):
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        # A new file may have the inode of a deleted one.
        if (
            written is not None
            and os.path.samestat(found, written)
            and found.st_mtime_ns == written.st_mtime_ns
        ):
            os.unlink(name, dir_fd=directory)


def _descriptor_of(path: str) -> int | None:
    if os.name == "nt" or not (found := _DESCRIPTORS.fullmatch(os.path.abspath(path))):
        return None
    return _STANDARD[found["name"]] if found["name"] else int(found["number"])


def file_status(name: str, directory: int) -> os.stat_result | None:
    """Return the status of a file without following a link; None if it does not exist."""
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _check_pipe(path: str, status: os.stat_result, mode: int) -> None:
    """Raise PermissionError if other users may read what is written to a pipe or terminal."""
    if not _is_trusted(status):
        raise _refusal(path, f"it belongs to user {status.st_uid}")
    permissions = stat.S_IMODE(status.st_mode)
    if stat.S_ISFIFO(status.st_mode) and permissions & ~mode & _READABLE_BY_OTHERS:
        raise _refusal(
            path, f"other users can read this pipe (mode {permissions:o}): use mkfifo -m 600"
        )


def _write_to(path: str, name: str, directory: int, status: os.stat_result, content: bytes) -> None:
    """Write to a pipe, a terminal or the null device."""
    with _opened(name, directory) as descriptor:
        opened = os.fstat(descriptor)
        if not os.path.samestat(opened, status):
            raise _refusal(path, "it was replaced while it was opened")
        if stat.S_ISCHR(opened.st_mode) and not _is_terminal_or_null(descriptor, opened):
            raise _refusal(path, "it is a device")
        write_all(descriptor, content)


@contextmanager
def _opened(name: str, directory: int) -> Iterator[int]:
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_terminal_or_null(descriptor: int, status: os.stat_result) -> bool:
    return os.isatty(descriptor) or status.st_rdev == os.stat(os.devnull).st_rdev


def _keep() -> None:
    """Leave the file: it was not created by `write_output`."""


def _refusal(path: str, reason: str) -> PermissionError:
    return PermissionError(errno.EPERM, reason, path)
