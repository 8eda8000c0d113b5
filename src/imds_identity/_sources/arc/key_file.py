"""Reads the agent's key file, and no other file that a hostile challenge may name."""

from __future__ import annotations

import errno
import os
import stat
import sys

from ..._core.failure import Reason, SecretUnreadable, sanitize
from ..._core.secret import Secret
from ..._http.local_errors import local_failure

WINDOWS_GROUP = "Hybrid agent extension applications"
LINUX_GROUP = "himds"
"""Members of the agent's group may read its key files."""

_MAX_BYTES = 4096
_MAX_PATH = 4096
_FLAGS = os.O_RDONLY | sum(
    getattr(os, name, 0)
    # Without O_NONBLOCK, opening a FIFO would block forever.
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY", "O_NOINHERIT")
)
# O_PATH: the group may search the directory but not list it.
_DIRECTORY_FLAGS = (
    getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
)


def read_secret(path: str, directory: str) -> Secret:
    """Return the content of the key file ``path``.

    Raise SecretUnreadable unless ``path`` is a readable regular file directly in ``directory``, not
    a link, of at most 4096 bytes, with the extension ``.key``.
    """
    name = _name_in(path, directory)
    try:
        descriptor = _open(name, directory, path)
    except FileNotFoundError:
        raise SecretUnreadable(
            f"the challenge names a key file that does not exist: {sanitize(path)!r}",
            "If this process is in a container, mount the agent's directory of key files.",
            reason=Reason.ARC_KEY_FILE_MISSING,
        ) from None
    except PermissionError:
        raise SecretUnreadable(
            f"this user may not read {sanitize(path)!r}",
            _permission_hint(),
            reason=Reason.ARC_KEY_FILE_DENIED,
        ) from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            text, reason = "it is a symbolic link", Reason.ARC_KEY_FILE_LINK
            raise _not_a_key_file(path, text, reason) from None
        problem = f"{sanitize(path)!r} cannot be opened: {error.strerror}"
        raise local_failure(error) or SecretUnreadable(problem) from None
    try:
        return _content(descriptor, path)
    finally:
        os.close(descriptor)


def _name_in(path: str, directory: str) -> str:
    """Return the name of ``path`` in ``directory``, without any access to the file system.

    On Windows, any access to a share of another host authenticates there.
    """
    if len(path) > _MAX_PATH or not path.isprintable():
        raise _not_a_key_file(path, "not a valid path")
    parent, name = os.path.split(path)
    if os.path.normcase(parent) != os.path.normcase(directory.rstrip("/\\")) or name in ("", ".."):
        text = f"Unexpected file path: not in {directory!r}"
        raise _not_a_key_file(path, text, Reason.ARC_KEY_FILE_OUTSIDE)
    # On Windows, a colon names an alternate stream of another file.
    if not name.endswith(".key") or ":" in name:
        raise _not_a_key_file(path, "its extension is not '.key'")
    return name


def _open(name: str, directory: str, path: str) -> int:
    """Open ``name`` relative to ``directory``, so that no part of the path can be replaced."""
    if os.open not in os.supports_dir_fd:
        return _open_by_path(os.path.join(directory, name), path)
    parent = os.open(directory, _DIRECTORY_FLAGS)
    try:
        return os.open(name, _FLAGS, dir_fd=parent)
    finally:
        os.close(parent)


def _open_by_path(file: str, path: str) -> int:
    """Open ``file`` on systems that cannot open it relative to a directory."""
    before = os.lstat(file)
    if stat.S_ISLNK(before.st_mode):
        raise OSError(errno.ELOOP, "a symbolic link")
    if not stat.S_ISREG(before.st_mode):
        raise _not_a_key_file(path, "it is not a regular file")
    descriptor = os.open(file, _FLAGS)
    if not os.path.samestat(before, os.fstat(descriptor)):
        os.close(descriptor)
        raise _not_a_key_file(path, "another file replaced it while it was opened")
    return descriptor


def _content(descriptor: int, path: str) -> Secret:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise _not_a_key_file(path, "it is not a regular file")
    # Not in a variable of its own: error trackers show the variables of a failed frame.
    secret = Secret(os.read(descriptor, _MAX_BYTES + 1).decode("latin-1"))
    if len(secret) > _MAX_BYTES:
        raise _not_a_key_file(path, f"its file size is more than {_MAX_BYTES} bytes")
    if not secret.fits_a_header():
        text = "its content cannot be sent in an Authorization header"
        raise _not_a_key_file(path, text if len(secret) else "it is empty")
    return secret


def _not_a_key_file(
    path: str, text: str, reason: Reason = Reason.ARC_KEY_FILE_INVALID
) -> SecretUnreadable:
    return SecretUnreadable(
        f"the challenge names {sanitize(path, 200)!r}, which is not a key file of the agent: "
        f"{text}",
        "The file was not used. If the agent did send this challenge, update the agent.",
        reason=reason,
    )


def _permission_hint() -> str:
    if sys.platform == "win32":
        return (
            f"Only Administrators and the group '{WINDOWS_GROUP}' may read it. Run: "
            f'net localgroup "{WINDOWS_GROUP}" /add USER (the user of this process), then log in '
            "again or restart the service."
        )
    return (
        f"Only root and the group '{LINUX_GROUP}' may read it. Run: sudo usermod -aG {LINUX_GROUP} "
        "USER (the user of this process), then log in again or restart the service."
    )
