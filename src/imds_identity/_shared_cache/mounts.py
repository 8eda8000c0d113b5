"""Which file systems live in memory, by what the kernel says of this process's mounts."""

from __future__ import annotations

import os
import sys

from .._platform.named_tuple import NamedTuple

_IN_MEMORY = frozenset({b"tmpfs", b"ramfs"})
_MOUNTS = "/proc/self/mountinfo"
_FIRST_OPTIONAL_FIELD = 6


class Mounts(NamedTuple):
    """What is mounted.

    Attributes:
        devices: numbers (``st_dev``) of the file systems on which nothing survives a reboot.
        others: where file systems of another kind are mounted.
    """

    devices: frozenset[int]
    others: frozenset[bytes]

    def in_memory(self, path: str) -> bool:
        """Whether ``path`` is there and its file system lives in memory."""
        try:
            return os.stat(path).st_dev in self.devices
        except OSError:
            return False


def mounts() -> Mounts:
    """What is mounted as this process sees it; nothing where that cannot be known."""
    if not sys.platform.startswith("linux"):
        return parse_mounts(b"")
    try:
        with open(_MOUNTS, "rb") as file:
            return parse_mounts(file.read())
    except OSError:
        return parse_mounts(b"")


def parse_mounts(table: bytes) -> Mounts:
    """What ``table`` (as /proc/self/mountinfo has it) lists.

    Names of mounts are chosen by users: only line feeds end a line and only blanks a field, and a
    line that is none is skipped. https://docs.kernel.org/filesystems/proc.html
    """
    kinds: dict[int, set[bytes]] = {}
    others: set[bytes] = set()
    for line in table.split(b"\n"):
        fields = line.split(b" ")
        try:
            major, minor = fields[2].split(b":")
            device = os.makedev(int(major), int(minor))
            kind = fields[fields.index(b"-", _FIRST_OPTIONAL_FIELD) + 1]
        except (IndexError, ValueError, OverflowError):
            continue
        kinds.setdefault(device, set()).add(kind)
        if kind not in _IN_MEMORY:
            others.add(fields[4])
    devices = frozenset(device for device, found in kinds.items() if found <= _IN_MEMORY)
    return Mounts(devices, frozenset(others))
