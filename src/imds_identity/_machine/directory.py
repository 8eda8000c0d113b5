"""Which directory holds what the processes of one user share, and whether it can be trusted."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

OFF = "off"
_NAME = "imds-identity"
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - in it only a 0700 directory of this user's own is used
_IN_MEMORY = ("tmpfs", "ramfs")


class Untrusted(Exception):
    """Why a directory or a file is not used."""


def default_directory(runtime_directory: str | None) -> str | None:
    """A private directory in memory, made if need be: no token survives a reboot in it.

    Args:
        runtime_directory: what XDG_RUNTIME_DIR says.

    Returns:
        Its path, or None where there is no such thing.
    """
    if not sys.platform.startswith("linux"):
        return None
    user = os.geteuid()
    # After sudo it may be another user's, who would not get in any more.
    own = runtime_directory if _owner(runtime_directory) == user else None
    if own and os.path.isabs(own) and in_memory(own):
        return os.path.join(own, _NAME)
    if os.path.isdir(_SHARED_MEMORY) and in_memory(_SHARED_MEMORY):
        return os.path.join(_SHARED_MEMORY, f"{_NAME}-{user}")
    return None


def _owner(directory: str | None) -> int | None:
    try:
        return os.stat(directory or "").st_uid
    except OSError:
        return None


def in_memory(path: str) -> bool:
    """Whether the file system of ``path`` is one that lives in memory (Linux)."""
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            mounts = [line.split() for line in file]
    except OSError:
        return False
    kinds = {fields[fields.index("-") + 1] for fields in mounts if fields[2] == number}
    return bool(kinds) and kinds <= set(_IN_MEMORY)


def prepare(directory: str) -> None:
    """Make ``directory`` if it is not there, and check that nobody else has a hand in it.

    Raises:
        Untrusted: if somebody may have.
        OSError: if it cannot be made.
    """
    with suppress(FileExistsError):
        os.mkdir(directory, 0o700)
    check(os.lstat(directory), directory, stat.S_ISDIR, "directory")


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
    if not hasattr(os, "geteuid"):
        return  # Windows keeps rights elsewhere; there a directory is used only if it was named.
    if status.st_uid != os.geteuid():
        raise Untrusted(f"{path} belongs to user {status.st_uid} and not to {os.geteuid()}")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise Untrusted(f"{path} is open to others (mode {stat.S_IMODE(status.st_mode):o})")


def boot_id() -> str:
    """What tells this boot of this machine from every other; empty where there is nothing."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
