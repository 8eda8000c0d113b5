"""Private files, and the atomic replacement of a file."""

from __future__ import annotations

import functools
import os
import stat
import sys
from contextlib import contextmanager, suppress

from .clock import SYSTEM_CLOCK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import FileIO

_MAX_SIZE = 64 * 1024
_PRIVATE = 0o600
_BY_DESCRIPTOR = sys.platform != "win32"
# O_PATH, because a directory may be writable and not readable.
_DIRECTORY_FLAGS = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0)
_WINDOWS_RETRIES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.6)
"""Pauses in seconds, two in all: Windows does not replace a file that another process has open."""


def write_atomically(
    path: str,
    content: bytes,
    *,
    mode: int = _PRIVATE,
    inherit_access: bool = False,
    directory: int | None = None,
    durable: bool = False,
    confirm: Callable[[], bool] | None = None,
    mtime: float | None = None,
) -> None:
    """Replace the file ``path``: readers see all of the old content or all of the new.

    A symbolic link is replaced, not followed. ``path`` may be relative to the descriptor
    ``directory``. The umask applies unless ``mode`` is private. A private file on Windows keeps the
    access list of its directory only if ``inherit_access``. ``durable`` content survives a crash of
    the operating system. ``confirm`` can prevent the final rename by returning False. ``mtime`` is
    the modification time.
    """
    with open_parent(path, directory) as (parent, name):
        _replace(path, name, content, mode, inherit_access, parent, durable, confirm, mtime)


@contextmanager
def open_parent(path: str, directory: int | None = None) -> Iterator[tuple[int | None, str]]:
    """Yield an open descriptor of the file's directory, and the name of the file in it.

    Without a descriptor, another user who can rename a parent directory could redirect operations.
    ``directory`` is the descriptor, if the caller has one. On Windows it is None.
    """
    if directory is not None or not _BY_DESCRIPTOR:
        yield directory, path
        return
    parent, name = os.path.split(path)
    try:
        descriptor = os.open(parent or ".", _DIRECTORY_FLAGS)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    try:
        yield descriptor, name
    finally:
        os.close(descriptor)


def _replace(
    path: str,
    name: str,
    content: bytes,
    mode: int,
    inherit_access: bool,
    directory: int | None,
    durable: bool,
    confirm: Callable[[], bool] | None,
    mtime: float | None,
) -> None:
    draft = f"{name}.{os.urandom(4).hex()}.new"
    opener = functools.partial(os.open, mode=mode, dir_fd=directory)
    is_renamed = False
    try:
        # Mode "x" means O_EXCL, which does not follow links.
        with open(draft, "xb", buffering=0, opener=opener) as file:
            if mode == _PRIVATE:
                _make_private(draft, file.fileno(), inherit_access)
            write_all(file.fileno(), content)
            if durable:
                os.fsync(file.fileno())
        if mtime is not None:  # Windows sets it when a file that was written is closed
            os.utime(draft, (mtime, mtime), dir_fd=directory)
        if confirm is None or confirm():
            _rename(draft, name, directory)
            is_renamed = True
    except OSError as error:  # the caller does not know the name of the temporary file
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        if not is_renamed:
            with suppress(OSError):
                os.unlink(draft, dir_fd=directory)


def read_private(path: str) -> bytes:
    """Return the content of a file; raise ValueError if other users can access it."""
    with open(path, "rb", opener=_open_nonblocking) as file:
        if problem := access_problem(path, os.fstat(file.fileno()), trust_root=True):
            raise ValueError(f"{path} {problem}")
        content = file.read(_MAX_SIZE + 1)
    if content is None:  # no process has written to the pipe yet
        raise ValueError(f"{path} is a pipe without content: write to it first, or name a file")
    if len(content) > _MAX_SIZE:
        raise ValueError(f"{path} is larger than {_MAX_SIZE} bytes")
    return content


def current_user() -> int:
    """Return the user ID of this process; 0 on Windows."""
    return os.geteuid() if hasattr(os, "geteuid") else 0


def access_problem(path: str, status: os.stat_result, *, trust_root: bool = False) -> str:
    """Return which other user owns or can access ``path``; an empty string if none can."""
    if sys.platform == "win32":
        from .windows import how_to_restrict, other_readers

        readers = ", ".join(other_readers(path))
        return readers and f"is accessible to other users ({readers}): {how_to_restrict(path)}"
    if not hasattr(os, "geteuid"):
        return ""
    user = os.geteuid()
    if status.st_uid != user and not (trust_root and status.st_uid == 0):
        return f"belongs to user {status.st_uid} and not to user {user}"
    mode = stat.S_IMODE(status.st_mode)
    return f"is accessible to other users (mode {mode:o})" if mode & 0o077 else ""


def restore_mode(descriptor: int) -> None:
    """Make a new file readable and writable by its owner even if the umask is 0777."""
    if hasattr(os, "fchmod") and stat.S_IMODE(os.fstat(descriptor).st_mode) != _PRIVATE:
        os.fchmod(descriptor, _PRIVATE)


def set_times(file: FileIO, access: float, modification: float) -> None:
    """Set both times of an open file."""
    target = file.fileno() if os.utime in os.supports_fd else file.name
    os.utime(target, (access, modification))


def _make_private(path: str, descriptor: int, inherit_access: bool) -> None:
    if sys.platform == "win32" and not inherit_access:
        from .windows import restrict_to_user

        restrict_to_user(path)
    restore_mode(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """Write the whole ``content``."""
    while content:  # a nearly full disk takes only a part
        content = content[os.write(descriptor, content) :]


def _rename(source: str, target: str, directory: int | None) -> None:
    if sys.platform == "win32":
        for pause in _WINDOWS_RETRIES:
            with suppress(PermissionError):
                return os.replace(source, target)
            SYSTEM_CLOCK.sleep(pause)
    return os.replace(source, target, src_dir_fd=directory, dst_dir_fd=directory)


def _open_nonblocking(path: str, flags: int) -> int:
    # Opening a FIFO would wait for a writer.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
