"""Reads from the firmware whether this is an Azure VM, without using the network.

The manufacturer is the same for any Hyper-V virtual machine, but only Azure VMs have this chassis
asset tag. cloud-init and systemd also check it.
https://www.dmtf.org/standards/smbios
"""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

ASSET_TAG = "7783-7084-3265-9085-8269-3286-77"
"""The chassis asset tag of every Azure VM."""

_MAKER = "Microsoft Corporation"
# Azure Kubernetes Service runs Kata containers in virtual machines of this hypervisor, whose
# firmware hides that of the Azure VM.
_NESTED_MAKER = "Cloud Hypervisor"
_APPLE = "Apple Inc."
_LINUX_FOLDER = "/sys/class/dmi/id"
_WINDOWS_TABLE = 0x52534D42  # "RSMB"
_WINDOWS_HEADER = 8
_SYSTEM, _CHASSIS = 1, 3
# By structure type: the offset of the field that contains the index of the wanted string.
_STRING_AT = {_SYSTEM: 4, _CHASSIS: 8}
_STRINGS_END = b"\0\0"


class Firmware(NamedTuple):
    """Values from the firmware; empty if they cannot be read.

    Attributes:
        asset_tag: the chassis asset tag.
        maker: the manufacturer of the machine.
    """

    asset_tag: str = ""
    maker: str = ""

    @property
    def is_azure(self) -> bool | None:
        """Whether this is an Azure VM; None if the firmware does not show it."""
        if self.asset_tag == ASSET_TAG:
            return True
        return None if self.maker in ("", _MAKER, _NESTED_MAKER) else False


def firmware(folder: str = _LINUX_FOLDER) -> Firmware:
    """Return the values from this machine's firmware.

    Args:
        folder: the directory in which Linux exposes them.
    """
    if sys.platform == "linux":
        return Firmware(
            _first_line(os.path.join(folder, "chassis_asset_tag")),
            _first_line(os.path.join(folder, "sys_vendor")),
        )
    if sys.platform == "win32":
        return firmware_in(_windows_table())
    if sys.platform == "darwin":  # Azure has no virtual machines with macOS
        return Firmware(maker=_APPLE)
    return Firmware()


def firmware_in(table: bytes) -> Firmware:
    """Return the values from a table of SMBIOS structures.

    A structure consists of its type, length and handle, its fields, its strings, each terminated
    by a zero byte, and a final zero byte.
    """
    found: dict[int, str] = {}
    position = 0
    while len(table) >= position + 4:
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
            return file.read().decode("latin-1").strip()
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
