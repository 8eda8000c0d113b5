"""Arc's key file: opened so that a hostile realm can make us read nothing else."""

from __future__ import annotations

import errno
import os
import stat
import sys

from .._core.failure import Reason, SecretUnreadable, sanitize
from .._core.secret import Secret

_LARGEST = 4096
_LONGEST_PATH = 4096
_FLAGS = os.O_RDONLY | sum(
    getattr(os, name, 0)
    # Without O_NONBLOCK a FIFO in the file's place would hold us for ever.
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY", "O_NOINHERIT")
)
# O_PATH: members of the group may search the directory, and need not be able to list it.
_DIRECTORY_FLAGS = (
    getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
)


def read_secret(path: str, directory: str) -> Secret:
    """The content of the key file ``path``, as it is.

    Args:
        path: what the agent's challenge named.
        directory: where this platform's agent keeps its key files.

    Raises:
        SecretUnreadable: unless ``path`` is a regular file of at most 4096 bytes, itself in
            ``directory`` and no link, that ends in ``.key`` and that this user may read.
    """
    name = _name_in(path, directory)
    try:
        descriptor = _open(name, directory, path)
    except FileNotFoundError:
        raise SecretUnreadable(
            f"the challenge names a key file that does not exist: {sanitize(path)!r}",
            "Is this process on the machine itself, or in a container that cannot see its files?",
            reason=Reason.ARC_KEY_FILE_MISSING,
        ) from None
    except PermissionError:
        raise SecretUnreadable(
            f"this user may not read {sanitize(path)!r}",
            _how_to_be_let_in(),
            reason=Reason.ARC_KEY_FILE_DENIED,
        ) from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise _not_a_key_file(path, "it is a symbolic link") from None
        raise SecretUnreadable(f"{sanitize(path)!r} cannot be opened: {error.strerror}") from None
    try:
        return _content(descriptor, path)
    finally:
        os.close(descriptor)


def _name_in(path: str, directory: str) -> str:
    """The name of ``path`` in ``directory``, found in the text alone.

    Outside the directory nothing is so much as looked at: on Windows a look at another host's
    share is enough to authenticate there.
    """
    if len(path) > _LONGEST_PATH or not path.isprintable():
        raise _not_a_key_file(path, "that is no path")
    parent, name = os.path.split(path)
    if os.path.normcase(parent) != os.path.normcase(directory.rstrip("/\\")) or name in ("", ".."):
        raise _not_a_key_file(path, f"Unexpected file path: it is not in {directory!r}")
    # On Windows a colon would name a stream of another file.
    if not name.endswith(".key") or ":" in name:
        raise _not_a_key_file(path, "it has not the extension '.key'")
    return name


def _open(name: str, directory: str, path: str) -> int:
    """Open ``name`` in ``directory`` itself, whatever becomes of the path in the meantime."""
    if os.open not in os.supports_dir_fd:
        return _open_by_path(os.path.join(directory, name), path)
    parent = os.open(directory, _DIRECTORY_FLAGS)
    try:
        return os.open(name, _FLAGS, dir_fd=parent)
    finally:
        os.close(parent)


def _open_by_path(file: str, path: str) -> int:
    """Where a name cannot be opened relative to a directory, and links can only be looked for."""
    before = os.lstat(file)
    if stat.S_ISLNK(before.st_mode):
        raise OSError(errno.ELOOP, "a symbolic link")
    if not stat.S_ISREG(before.st_mode):
        raise _not_a_key_file(path, "it is not a regular file")
    descriptor = os.open(file, _FLAGS)
    if not os.path.samestat(before, os.fstat(descriptor)):
        os.close(descriptor)
        raise _not_a_key_file(path, "it was replaced by another file while it was opened")
    return descriptor


def _content(descriptor: int, path: str) -> Secret:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise _not_a_key_file(path, "it is not a regular file")
    # Never in a variable as it is: tools that report errors show the variables of a failed frame.
    secret = Secret(os.read(descriptor, _LARGEST + 1).decode("latin-1"))
    if len(secret) > _LARGEST:
        raise _not_a_key_file(path, f"its file size is more than {_LARGEST} bytes")
    if not secret.fits_a_header():
        raise _not_a_key_file(path, "its content cannot go into an Authorization header")
    return secret


def _not_a_key_file(path: str, reason: str) -> SecretUnreadable:
    return SecretUnreadable(
        f"the challenge names {sanitize(path, 200)!r}, which is no key file of the agent: {reason}",
        "It was not used. If the agent really answers there, update it.",
        reason=Reason.ARC_KEY_FILE_INVALID,
    )


def _how_to_be_let_in() -> str:
    if sys.platform == "win32":
        return (
            "Run as a member of Administrators or of the group 'Hybrid agent extension "
            'applications\': net localgroup "Hybrid agent extension applications" /add <user>'
        )
    return (
        "Only root and the group 'himds' may: run `sudo usermod -aG himds <user>` for the user of "
        "this process, then log in again or restart the service."
    )
