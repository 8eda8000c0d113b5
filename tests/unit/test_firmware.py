"""Telling an Azure VM by its firmware."""

from __future__ import annotations

import ctypes
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._sources import firmware as dmi
from imds_identity._sources.firmware import ASSET_TAG, Firmware, firmware, firmware_in

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.skipif(sys.platform != "linux", reason="Linux shows it in files")
@pytest.mark.parametrize(
    ("tag", "maker", "is_azure"),
    [
        ("7783-7084-3265-9085-8269-3286-77", "Microsoft Corporation", True),
        ("", "Microsoft Corporation", None),
        ("0000-0000", "Microsoft Corporation", None),
        ("Amazon EC2", "Amazon EC2", False),
        ("", "Google", False),
        (ASSET_TAG[:-1], "QEMU", False),
        (ASSET_TAG * 100, "QEMU", False),
        ("", "Cloud Hypervisor", None),
        (None, None, None),
    ],
)
def test_linux_shows_it_in_files(
    tmp_path: Path, tag: str | None, maker: str | None, is_azure: bool | None
) -> None:
    for name, value in (("chassis_asset_tag", tag), ("sys_vendor", maker)):
        if value is not None:
            (tmp_path / name).write_text(value + "\n")
    assert firmware(str(tmp_path)).is_azure is is_azure


@pytest.mark.parametrize(("platform", "is_azure"), [("darwin", False), ("freebsd14", None)])
def test_mac_is_never_an_azure_vm_and_other_systems_may_be(
    monkeypatch: pytest.MonkeyPatch, platform: str, is_azure: bool | None
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert firmware().is_azure is is_azure


@pytest.mark.skipif(sys.platform != "linux", reason="Linux shows it in files")
def test_linux_shows_it_in_its_documented_files(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def record(path: str) -> str:
        read.append(path)
        return ""

    monkeypatch.setattr(dmi, "_first_line", record)
    assert firmware() == Firmware()
    assert read == ["/sys/class/dmi/id/chassis_asset_tag", "/sys/class/dmi/id/sys_vendor"]


def structure(kind: int, fields: bytes, *strings: bytes) -> bytes:
    head = bytes([kind, 4 + len(fields), 0, 0])
    return head + fields + b"\0".join(strings) + b"\0\0"


def test_windows_firmware_table_is_parsed() -> None:
    table = (
        structure(0, b"\x01\x02", b"BIOS", b"1.0")
        + structure(1, b"\x02\x01", b"Virtual Machine", b" Microsoft Corporation ")
        + structure(3, b"\x01\x03\x00\x00\x02", b"Microsoft Corporation", ASSET_TAG.encode())
        + structure(127, b"")
    )
    assert firmware_in(table) == Firmware(ASSET_TAG, "Microsoft Corporation")
    assert firmware_in(table[:40]).is_azure is None
    assert firmware_in(b"") == Firmware()


def test_string_0_is_no_string() -> None:
    """SMBIOS numbers strings from 1; a field with 0 has none."""
    maker = structure(1, b"\x00", b"Microsoft Corporation", b"last")
    tag = structure(3, b"\x01\x03\x00\x00\x00", b"maker", ASSET_TAG.encode())
    assert firmware_in(maker + tag) == Firmware()
    tag = structure(3, b"\x01\x03\x00\x00\x03", b"maker", ASSET_TAG.encode())
    assert firmware_in(maker + tag) == Firmware()


def test_first_structure_with_the_field_counts() -> None:
    short = structure(3, b"\x01\x03\x00\x00", b"its fields end before the tag")
    tag = structure(3, b"\x01\x03\x00\x00\x01", ASSET_TAG.encode())
    later = structure(3, b"\x01\x03\x00\x00\x01", b"of another chassis")
    assert firmware_in(short + tag + later).asset_tag == ASSET_TAG


def test_table_is_read_up_to_an_impossible_structure() -> None:
    tag = structure(3, b"\x01\x03\x00\x00\x01", ASSET_TAG.encode())
    assert firmware_in(bytes([1, 3, 0, 0]) + b"\0\0" + tag) == Firmware()
    assert firmware_in(bytes([127, 4, 0, 0]) + b"\0\0" + tag).asset_tag == ASSET_TAG
    assert firmware_in(tag[:-1]) == Firmware()


@given(st.binary(max_size=200))
def test_any_table_is_read_to_its_end(table: bytes) -> None:
    assert firmware_in(table).asset_tag != ASSET_TAG


def test_windows_table_follows_a_header_of_eight_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    table = structure(3, b"\x01\x03\x00\x00\x01", ASSET_TAG.encode())
    content = b"\0" * 8 + table

    def read(provider: int, number: int, buffer: Any, size: int) -> int:
        assert (provider, number) == (int.from_bytes(b"RSMB", "big"), 0)
        if size:
            assert size == len(content)
            buffer.raw = content
        return len(content)

    kernel = SimpleNamespace(GetSystemFirmwareTable=read)
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel), raising=False)
    monkeypatch.setattr(sys, "platform", "win32")
    assert firmware() == Firmware(asset_tag=ASSET_TAG)


@pytest.mark.skipif(sys.platform != "win32", reason="asks Windows")
def test_windows_firmware_function_is_called() -> None:
    assert len(dmi._windows_table()) > 100
    assert firmware().is_azure in (True, False, None)
