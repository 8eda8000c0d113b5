"""Atomic replacement of files, and reading of private ones."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._platform.files import current_user, read_private, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX modes and links")


def test_file_is_replaced_and_no_draft_remains(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"old and longer", b"new"):
        write_atomically(str(path), content)
        assert path.read_bytes() == read_private(str(path)) == content
    assert list(tmp_path.iterdir()) == [path]


def test_file_is_kept_if_the_rename_is_not_confirmed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    write_atomically(str(path), b"new", confirm=lambda: False)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@POSIX
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_umask_applies_unless_the_mode_is_private(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_atomically(str(tmp_path / "private"), b"")
        write_atomically(str(tmp_path / "public"), b"", mode=0o666)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "public").stat().st_mode) == 0o666 & ~umask


@POSIX
def test_symbolic_link_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_atomically(str(tmp_path / "link"), b"new")
    assert (tmp_path / "target").read_bytes() == b"old"
    assert not (tmp_path / "link").is_symlink()


def test_error_names_the_file_and_not_the_draft(tmp_path: Path) -> None:
    path = str(tmp_path / "missing" / "file")
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(path, b"")
    assert caught.value.filename == path
    (tmp_path / "directory").mkdir()
    with pytest.raises(OSError, match="directory") as raised:
        write_atomically(str(tmp_path / "directory"), b"")
    assert raised.value.filename == str(tmp_path / "directory")
    assert os.listdir(tmp_path) == ["directory"]


@pytest.mark.skipif(sys.platform != "win32", reason="renames a file that must not be open")
def test_modification_time_is_set_after_the_file_was_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows sets it when a file that was written is closed."""
    utime, path = os.utime, tmp_path / "file"

    def set_time(draft: str, times: tuple[float, float], **options: Any) -> None:
        os.rename(draft, f"{draft}.renamed")
        os.rename(f"{draft}.renamed", draft)
        utime(draft, times, **options)

    monkeypatch.setattr(os, "utime", set_time)
    write_atomically(str(path), b"content", mtime=1000.0)
    assert path.stat().st_mtime == 1000


@pytest.mark.parametrize("durable", [False, True])
def test_only_a_durable_file_is_flushed_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    write_atomically(str(tmp_path / "file"), b"content", durable=durable)
    assert len(flushed) == durable


@POSIX
def test_file_that_other_users_can_read_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(str(path), b"secret")
    path.chmod(0o640)
    with pytest.raises(ValueError, match=r"is accessible to other users \(mode 640\)"):
        read_private(str(path))
    os.mkfifo(tmp_path / "fifo", 0o600)
    assert read_private(str(tmp_path / "fifo")) == b""  # without waiting for a writer


def test_current_user_is_the_effective_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
    assert current_user() == 1000
    with monkeypatch.context() as without:  # the fixtures of all tests need it afterwards
        without.delattr(os, "geteuid")
        assert current_user() == 0


def test_private_file_has_at_most_64_kibibytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(str(path), b"x" * 64 * 1024)
    assert len(read_private(str(path))) == 64 * 1024
    write_atomically(str(path), b"x" * (64 * 1024 + 1))
    with pytest.raises(ValueError, match="is larger than 65536 bytes"):
        read_private(str(path))
