"""Whom a file of Windows lets in, by its security descriptor."""

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
ALLOWS, REFUSES, ALLOWS_AN_OBJECT = 0, 1, 5
INHERITED_ONLY = 0x08


def sid(text: str) -> bytes:
    revision, authority, *rest = map(int, text.split("-")[1:])
    head = bytes([revision, len(rest)]) + authority.to_bytes(6, "big")
    return head + struct.pack(f"<{len(rest)}I", *rest)


def entry(who: str, kind: int = ALLOWS, flags: int = 3) -> bytes:
    return struct.pack("<BBHI", kind, flags, 8 + len(sid(who)), 0x1F01FF) + sid(who)


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
        (USER, [entry("S-1-3-0", flags=INHERITED_ONLY)], []),
        (USER, [], []),
        (USER, [entry(USER), entry(EVERYONE)], [EVERYONE]),
        (USER, [entry(OTHER, flags=INHERITED_ONLY)], [OTHER]),
        (USER, [entry(OTHER, kind=REFUSES)], []),
        (USER, [entry(OTHER, kind=ALLOWS_AN_OBJECT)], ["?"]),
        (OTHER, [entry(USER)], [OTHER]),
        (OTHER, [entry(OTHER), entry(EVERYONE)], [OTHER, EVERYONE]),
    ],
)
def test_all_but_the_user_and_the_system_are_strangers(
    owner: str, entries: list[bytes], expected: list[str]
) -> None:
    assert other_readers_in(descriptor(owner, *entries), USER) == expected


def test_without_an_access_list_everyone_is_let_in() -> None:
    assert other_readers_in(descriptor(USER, control=0x8000), USER) == [EVERYONE]


@given(st.binary(max_size=200))
def test_what_is_no_descriptor_lets_in_who_is_not_known(content: bytes) -> None:
    assert other_readers_in(content, USER)


@given(st.integers(min_value=0, max_value=90))
def test_a_torn_one_is_never_taken_for_private(size: int) -> None:
    whole = descriptor(USER, entry(SYSTEM), entry(USER), entry(EVERYONE))
    assert other_readers_in(whole[: min(size, len(whole) - 1)], USER)


@pytest.mark.skipif(sys.platform != "win32", reason="asks Windows")
class TestWindows:
    def test_a_file_is_kept_for_this_user(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.touch()
        windows.restrict_to_user(str(path))
        assert windows.other_readers(str(path)) == []
        assert windows.user_of().startswith("S-1-5-")
        assert f"*{windows.user_of()}:F" in windows.how_to_restrict(str(path))

    def test_one_that_everybody_may_read_holds_no_secret(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.touch()
        windows.set_access(str(path), f"D:P(A;;FA;;;{windows.user_of()})(A;;FR;;;WD)")
        assert windows.other_readers(str(path)) == [EVERYONE]
        with pytest.raises(ValueError, match=r"is accessible to other users .*: run icacls"):
            read_private(str(path))
        write_atomically(str(path), b"s3cret")
        assert read_private(str(path)) == b"s3cret"

    def test_a_shared_directory_is_this_user_s_or_not_used(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = str(tmp_path / "shared")
        assert Directory.at(path).usable()
        assert windows.other_readers(path) == []
        windows.set_access(path, f"D:P(A;OICI;FA;;;{windows.user_of()})(A;OICI;FR;;;WD)")
        assert not Directory.at(path).usable()
        assert f"is accessible to other users ({EVERYONE}): run icacls" in caplog.text

    def test_what_is_not_there_has_no_descriptor(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            windows.other_readers(str(tmp_path / "none"))

    def test_groups_of_this_process_are_told(self) -> None:
        assert windows.acts_for_administrator() in (True, False)
        assert windows.acts_for_group("no such group of anybody's") is None
