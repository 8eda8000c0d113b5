"""Which file systems are in memory or local, according to the kernel's list of mounts."""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

from .._http.local_errors import local_failure

_IN_MEMORY = frozenset({b"tmpfs", b"ramfs"})
_LOCAL = _IN_MEMORY | frozenset(
    {b"bcachefs", b"btrfs", b"ext2", b"ext3", b"ext4", b"f2fs", b"overlay", b"xfs", b"zfs"}
)
"""File systems that need neither a server nor another process."""
_MOUNTS = "/proc/self/mountinfo"
_FIRST_OPTIONAL_FIELD = 6


class Mounts(NamedTuple):
    """Mounted file systems."""

    devices: frozenset[int]
    """Numbers (``st_dev``) of the file systems in memory."""
    others: frozenset[bytes]
    """Mount points of all other file systems."""
    local: frozenset[int] = frozenset()
    """Numbers of the file systems that do not depend on a server or on another process."""

    def in_memory(self, path: str) -> bool:
        """Return whether ``path`` exists in a file system in memory."""
        try:
            return os.stat(path).st_dev in self.devices
        except OSError:
            return False


def current_mounts() -> Mounts:
    """Return the mounts that this process sees: on Windows the local drives, elsewhere none.

    Raise OSError if this process is out of file descriptors or memory.
    """
    if sys.platform.startswith("linux"):
        try:
            with open(_MOUNTS, "rb") as file:
                return parse_mounts(file.read())
        except OSError as error:
            if local_failure(error):
                raise
    mounts = parse_mounts(b"")
    if sys.platform == "win32":
        from .._platform.windows import local_drives

        return mounts._replace(local=local_drives())
    return mounts


def parse_mounts(table: bytes) -> Mounts:
    """Parse the content of /proc/self/mountinfo, and skip invalid lines.

    Users choose names of mount points: only a line feed ends a line, and only a space a field.
    https://docs.kernel.org/filesystems/proc.html
    """
    types: dict[int, set[bytes]] = {}
    others: set[bytes] = set()
    for line in table.split(b"\n"):
        fields = line.split(b" ")
        try:
            major, minor = fields[2].split(b":")
            device = os.makedev(int(major), int(minor))
            fs_type = fields[fields.index(b"-", _FIRST_OPTIONAL_FIELD) + 1]
        except (IndexError, ValueError, OverflowError):
            continue
        types.setdefault(device, set()).add(fs_type)
        if fs_type not in _IN_MEMORY:
            others.add(fields[4])
    in_memory, local = (
        frozenset(device for device, found in types.items() if found <= wanted)
        for wanted in (_IN_MEMORY, _LOCAL)
    )
    return Mounts(in_memory, frozenset(others), local)
