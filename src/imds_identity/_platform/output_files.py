"""Files that the user names for output: which of them are replaced, written to, or refused."""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import contextmanager, suppress
from functools import partial

from .files import open_parent, write_all, write_atomically

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DESCRIPTORS = re.compile(r"/dev/(?P<name>stdout|stderr)|/(?:dev|proc/self)/fd/(?P<number>\d{1,9})")
_STANDARD = {"stdout": 1, "stderr": 2}


def write_output(
    path: str, content: bytes, *, mode: int = 0o600, parent_is_checked: bool = True
) -> Callable[[], None]:
    """Write ``content`` to the file that the user named; return a function that removes it.

    A regular file of this user is replaced atomically. A pipe, a terminal, the null device and an
    open descriptor such as ``/dev/stdout`` are written to and never removed.

    Args:
        path: the path of the file.
        content: the whole content.
        mode: the mode of the file; the umask applies unless it is 0600.
        parent_is_checked: whether to refuse a directory in which other users can replace the file.

    Raises:
        OSError: if the file cannot be written, or another user may have created it.
    """
    if (descriptor := _descriptor_of(path)) is not None:
        write_all(descriptor, content)
        return _keep
    with open_parent(path) as (directory, name):
        if directory is None:  # Windows
            write_atomically(path, content, mode=mode)
            return partial(remove_if_same, path, os.lstat(path))
        if parent_is_checked:
            check_parent(path, os.fstat(directory))
        status = _status(name, directory)
        if status is not None and (stat.S_ISFIFO(status.st_mode) or stat.S_ISCHR(status.st_mode)):
            _write_to(path, name, directory, status, content)
            return _keep
        check_replaceable(path, status)
        write_atomically(name, content, mode=mode, directory=directory)
        written = _status(name, directory)
    return partial(remove_if_same, path, written)


def check_parent(path: str, status: os.stat_result) -> None:
    """Raise PermissionError if other users can replace files in the directory of ``path``."""
    mode = status.st_mode
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
    with suppress(OSError):
        if written is not None and os.path.samestat(os.lstat(path), written):
            os.unlink(path)


def _descriptor_of(path: str) -> int | None:
    if os.name == "nt" or not (found := _DESCRIPTORS.fullmatch(os.path.abspath(path))):
        return None
    return _STANDARD[found["name"]] if found["name"] else int(found["number"])


def _status(name: str, directory: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _write_to(path: str, name: str, directory: int, status: os.stat_result, content: bytes) -> None:
    """Write to a pipe, a terminal or the null device."""
    if status.st_uid not in (0, os.geteuid()):
        raise _refusal(path, f"it belongs to user {status.st_uid}")
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
