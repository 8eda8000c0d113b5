"""What the firmware says of whose machine this is, which takes no network and no time.

Hyper-V, and so a laptop with virtual machines, has the same maker as Azure; the chassis asset tag
is Azure's alone. It is what cloud-init and systemd look at, too.
https://www.dmtf.org/standards/smbios
"""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

ASSET_TAG = "7783-7084-3265-9085-8269-3286-77"
"""The chassis asset tag of every Azure VM."""

_MAKER = "Microsoft Corporation"
_LINUX_FOLDER = "/sys/class/dmi/id"
_LONGEST = 256
_WINDOWS_TABLE = 0x52534D42  # "RSMB"
_WINDOWS_HEADER = 8
_SYSTEM, _CHASSIS = 1, 3
# Where, in the structure of a type, the number of the string stands that is wanted.
_STRING_AT = {_SYSTEM: 4, _CHASSIS: 8}
_STRINGS_END = b"\0\0"


class Firmware(NamedTuple):
    """What the firmware says; empty where it cannot be asked.

    Attributes:
        asset_tag: the chassis asset tag.
        maker: who made the machine.
    """

    asset_tag: str = ""
    maker: str = ""

    @property
    def is_azure(self) -> bool | None:
        """Whether this is an Azure VM; None if the firmware does not show it."""
        if self.asset_tag == ASSET_TAG:
            return True
        return None if self.maker in ("", _MAKER) else False


def firmware(folder: str = _LINUX_FOLDER) -> Firmware:
    """What this machine's firmware says.

    Args:
        folder: where Linux shows it.
    """
    if sys.platform == "linux":
        return Firmware(
            _first_line(os.path.join(folder, "chassis_asset_tag")),
            _first_line(os.path.join(folder, "sys_vendor")),
        )
    if sys.platform == "win32":
        return firmware_in(_windows_table())
    return Firmware()


def firmware_in(table: bytes) -> Firmware:
    """What a table of SMBIOS structures says.

    A structure has its type, its length and a handle, then fields, then its strings, each ended by
    a zero, and one more zero.
    """
    found: dict[int, str] = {}
    position = 0
    while len(table) >= position + 4 > position:
        kind, length = table[position], table[position + 1]
        end = table.find(_STRINGS_END, position + length)
        if length < 4 or end < 0:
            break
        fields, strings = table[position : position + length], table[position + length : end]
        at = _STRING_AT.get(kind)
        if at is not None and at < length:
            found.setdefault(kind, _string(strings, fields[at]))
        position = end + len(_STRINGS_END)
    return Firmware(found.get(_CHASSIS, ""), found.get(_SYSTEM, ""))


def _string(strings: bytes, number: int) -> str:
    listed = strings.split(b"\0")
    return listed[number - 1].decode("latin-1").strip() if 0 < number <= len(listed) else ""


def _first_line(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(_LONGEST).decode("latin-1").strip()
    except OSError:
        return ""


def _windows_table() -> bytes:
    import ctypes

    kernel: object = getattr(ctypes, "windll").kernel32  # noqa: B009 - only Windows has it
    read = getattr(kernel, "GetSystemFirmwareTable")  # noqa: B009
    size = read(_WINDOWS_TABLE, 0, None, 0)
    buffer = ctypes.create_string_buffer(size)
    read(_WINDOWS_TABLE, 0, buffer, size)
    return buffer.raw[_WINDOWS_HEADER:]
