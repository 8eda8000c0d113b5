"""Windows security descriptors, and private files on Windows."""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._platform import windows
from imds_identity._platform.files import read_private, write_atomically
from imds_identity._platform.security_descriptor import (
    ADMINISTRATORS,
    EVERYONE,
    SYSTEM,
    other_readers_in,
)
from imds_identity._shared_cache.directory import Directory

if TYPE_CHECKING:
    from pathlib import Path

USER = "S-1-5-21-1-2-3-1001"
OTHER = "S-1-5-21-1-2-3-1002"
ALLOWED, DENIED, ALLOWED_OBJECT = 0, 1, 5
INHERIT_ONLY = 0x08


def sid(text: str) -> bytes:
    revision, authority, *rest = map(int, text.split("-")[1:])
    head = bytes([revision, len(rest)]) + authority.to_bytes(6, "big")
    return head + struct.pack(f"<{len(rest)}I", *rest)


def entry(user: str, kind: int = ALLOWED, flags: int = 3) -> bytes:
    return struct.pack("<BBHI", kind, flags, 8 + len(sid(user)), 0x1F01FF) + sid(user)


def descriptor(owner: str, *entries: bytes, control: int = 0x8004) -> bytes:
    access = b"".join(entries)
    access = struct.pack("<BBHHH", 2, 0, 8 + len(access), len(entries), 0) + access
    return (
        struct.pack("<BBHIIII", 1, 0, control, 20, 0, 0, 20 + len(sid(owner))) + sid(owner) + access
    )


@pytest.mark.parametrize(
    ("owner", "entries", "expected"),
    [
        (USER, [entry(USER), entry(SYSTEM), entry(ADMINISTRATORS)], []),
        (ADMINISTRATORS, [entry(USER)], []),
        (USER, [entry("S-1-3-0", flags=INHERIT_ONLY)], []),
        (USER, [], []),
        (USER, [entry(USER), entry(EVERYONE)], [EVERYONE]),
        (USER, [entry(OTHER, flags=INHERIT_ONLY)], [OTHER]),
        (USER, [entry(OTHER, kind=DENIED)], []),
        (USER, [entry(OTHER, kind=ALLOWED_OBJECT)], ["?"]),
        (OTHER, [entry(USER)], [OTHER]),
        (OTHER, [entry(OTHER), entry(EVERYONE)], [OTHER, EVERYONE]),
    ],
)
def test_everyone_except_the_user_and_the_system_is_reported(
    owner: str, entries: list[bytes], expected: list[str]
) -> None:
    assert other_readers_in(descriptor(owner, *entries), USER) == expected


@pytest.mark.parametrize("control", [0x8000, 0xFFFB])
def test_file_without_an_access_list_is_open_to_everyone(control: int) -> None:
    assert other_readers_in(descriptor(USER, control=control), USER) == [EVERYONE]
    assert other_readers_in(descriptor(USER, control=control | 4), USER) == []


@given(st.binary(max_size=200))
def test_invalid_descriptor_is_reported_as_not_private(content: bytes) -> None:
    assert other_readers_in(content, USER)


@given(st.integers(min_value=0, max_value=90))
def test_truncated_descriptor_is_never_private(size: int) -> None:
    complete = descriptor(USER, entry(SYSTEM), entry(USER), entry(EVERYONE))
    assert other_readers_in(complete[: min(size, len(complete) - 1)], USER)


@pytest.mark.skipif(sys.platform != "win32", reason="needs Windows")
class TestWindows:
    def test_file_is_restricted_to_this_user(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.touch()
        windows.restrict_to_user(str(path))
        assert windows.other_readers(str(path)) == []
        assert windows.user_of().startswith("S-1-5-")
        assert f"*{windows.user_of()}:F" in windows.how_to_restrict(str(path))

    def test_secret_is_not_read_from_a_file_that_everyone_can_read(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.touch()
        windows.set_access(str(path), f"D:P(A;;FA;;;{windows.user_of()})(A;;FR;;;WD)")
        assert windows.other_readers(str(path)) == [EVERYONE]
        with pytest.raises(ValueError, match=r"is accessible to other users .*: run icacls"):
            read_private(str(path))
        write_atomically(str(path), b"s3cret")
        assert read_private(str(path)) == b"s3cret"

    def test_directory_with_access_for_everyone_is_not_used(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = str(tmp_path / "shared")
        assert Directory.at(path).usable()
        assert windows.other_readers(path) == []
        windows.set_access(path, f"D:P(A;OICI;FA;;;{windows.user_of()})(A;OICI;FR;;;WD)")
        assert not Directory.at(path).usable()
        assert f"is accessible to other users ({EVERYONE}): run icacls" in caplog.text

    def test_missing_file_raises_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            windows.other_readers(str(tmp_path / "none"))

    def test_groups_of_this_process_are_returned(self) -> None:
        assert windows.is_administrator() in (True, False)
        assert windows.is_group_member("no such group") is None
