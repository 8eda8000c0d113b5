"""Arc's key file: what is read, and all that is not."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._core.failure import Reason, SecretUnreadable
from imds_identity._sources.arc import key_file as secret_file
from imds_identity._sources.arc.key_file import read_secret
from support import WINE

if TYPE_CHECKING:
    from pathlib import Path

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX files")


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    directory = tmp_path / "tokens"
    directory.mkdir()
    return directory


def refused(path: Path | str, tokens: Path) -> str:
    with pytest.raises(SecretUnreadable) as caught:
        read_secret(str(path), str(tokens))
    return str(caught.value)


def test_content_is_read_unchanged(tokens: Path) -> None:
    (tokens / "a.key").write_bytes(b" s3cret== ")
    assert read_secret(str(tokens / "a.key"), str(tokens)).reveal() == " s3cret== "
    assert read_secret(str(tokens / "a.key"), f"{tokens}/").reveal() == " s3cret== "


def test_key_file_may_have_at_most_4096_bytes(tokens: Path) -> None:
    (tokens / "a.key").write_text("x" * 4096)
    assert len(read_secret(str(tokens / "a.key"), str(tokens))) == 4096
    (tokens / "b.key").write_text("x" * 4097)
    assert "file size is more than 4096" in refused(tokens / "b.key", tokens)


def test_missing_file_is_reported(tokens: Path) -> None:
    assert "does not exist" in refused(tokens / "a.key", tokens)


def test_missing_directory_is_reported(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    assert "does not exist" in refused(missing / "a.key", missing)


@posix
def test_key_file_is_opened_for_reading_only(tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags: list[int] = []
    opened = os.open

    def record(path: str, given: int, **keywords: Any) -> int:
        flags.append(given)
        return opened(path, given, **keywords)

    (tokens / "a.key").write_text("s3cret")
    monkeypatch.setattr(os, "open", record)
    monkeypatch.setattr(os, "supports_dir_fd", {*os.supports_dir_fd, record})
    assert read_secret(str(tokens / "a.key"), str(tokens)).reveal() == "s3cret"
    directory, file = flags
    access = os.O_RDONLY | os.O_WRONLY | os.O_RDWR
    assert (directory & access, file & access) == (os.O_RDONLY, os.O_RDONLY)
    for flag in (os.O_NOFOLLOW, os.O_NONBLOCK, os.O_CLOEXEC):
        assert file & flag
    assert directory & os.O_DIRECTORY
    # The agent's group may search the directory, but not read it.
    assert directory & getattr(os, "O_PATH", os.O_DIRECTORY)


def test_other_error_is_reported_with_its_text(
    tokens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **kwargs: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    (tokens / "a.key").touch()
    monkeypatch.setattr(os, "open", broken)
    with pytest.raises(SecretUnreadable, match="cannot be opened: Input/output error") as caught:
        read_secret(str(tokens / "a.key"), str(tokens))
    assert caught.value.reason is Reason.ARC_KEY_FILE_UNREADABLE


@pytest.mark.parametrize("name", ["../a.key", "../tokens/a.key", "sub/a.key", "./a.key", "..", ""])
def test_another_directory_is_refused(tokens: Path, name: str) -> None:
    (tokens / "sub").mkdir()
    for file in (tokens / "a.key", tokens / "sub" / "a.key", tokens.parent / "a.key"):
        file.write_text("s3cret")
    assert "not in" in refused(f"{tokens}/{name}", tokens)


def test_another_name_is_refused(tokens: Path) -> None:
    (tokens / "a.txt").write_text("s3cret")
    assert "its extension is not '.key'" in refused(tokens / "a.txt", tokens)


@posix
def test_path_may_have_at_most_4096_characters(tokens: Path) -> None:
    path = f"{tokens}/{'x' * (4092 - len(f'{tokens}/'))}.key"
    assert "cannot be opened: File name too long" in refused(path, tokens)
    assert "not a valid path" in refused(path.replace("x", "xx", 1), tokens)


@posix
def test_link_is_not_followed(tokens: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.key").write_text("s3cret")
    (tokens / "a.key").symlink_to(tmp_path / "elsewhere.key")
    assert "not a key file of the agent: it is a symbolic link" in refused(tokens / "a.key", tokens)


@posix
def test_fifo_is_refused_without_blocking(tokens: Path) -> None:
    os.mkfifo(tokens / "a.key")
    assert "not a regular file" in refused(tokens / "a.key", tokens)


def test_directory_is_not_a_key_file(tokens: Path) -> None:
    (tokens / "a.key").mkdir()
    assert "not a regular file" in refused(tokens / "a.key", tokens)


def test_empty_key_file_is_refused(tokens: Path) -> None:
    (tokens / "a.key").touch()
    assert "it is empty" in refused(tokens / "a.key", tokens)


@pytest.mark.parametrize("content", [b"a\r\nX-Evil: 1", b"a\n", b"a\x00", "schlüssel".encode()])
def test_unsendable_content_is_refused(tokens: Path, content: bytes) -> None:
    (tokens / "a.key").write_bytes(content)
    message = refused(tokens / "a.key", tokens)
    assert "Authorization header" in message
    assert "Evil" not in message


@posix
@pytest.mark.parametrize("locked", ["file", "directory"])
def test_missing_permission_names_the_group_and_the_command(
    tokens: Path, monkeypatch: pytest.MonkeyPatch, locked: str
) -> None:
    def denied(*args: object, **kwargs: object) -> int:
        raise PermissionError(13, "Permission denied")

    (tokens / "a.key").write_text("s3cret")
    monkeypatch.setattr(secret_file, "_open", denied)
    message = refused(tokens / "a.key", tokens)
    assert "group 'himds'" in message
    assert "sudo usermod -aG himds" in message


@posix
def test_search_permission_on_the_directory_suffices(tokens: Path) -> None:
    (tokens / "a.key").write_text("s3cret")
    tokens.chmod(0o311)
    try:
        assert read_secret(str(tokens / "a.key"), str(tokens)).reveal() == "s3cret"
    finally:
        tokens.chmod(0o700)


def test_links_and_replaced_files_are_found_without_dir_fd(
    tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "supports_dir_fd", set())
    (tokens / "a.key").write_text("s3cret")
    assert read_secret(str(tokens / "a.key"), str(tokens)).reveal() == "s3cret"
    if not WINE:  # which makes no links
        (tokens / "b.key").symlink_to(tokens / "a.key")
        assert "symbolic link" in refused(tokens / "b.key", tokens)
    (tokens / "c.key").write_text("other")
    other = os.lstat(tokens / "c.key")
    (tokens / "d.key").mkdir()
    assert "not a regular file" in refused(tokens / "d.key", tokens)
    monkeypatch.setattr(os, "lstat", lambda path: other)
    assert "another file replaced it" in refused(tokens / "a.key", tokens)


class Watched:
    """The os module's look at files, of which none may happen."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.looked: list[object] = []
        for name in ("open", "stat", "lstat", "access", "listdir", "scandir", "readlink"):
            monkeypatch.setattr(os, name, self._look)
        monkeypatch.setattr(os.path, "exists", self._look)
        monkeypatch.setattr(os.path, "lexists", self._look)

    def _look(self, path: object, *_: object, **__: object) -> bool:
        self.looked.append(path)
        return False


@pytest.mark.parametrize(
    "realm",
    [
        r"\\\\attacker\share\a.key", "//attacker/share/a.key", "/etc/passwd", "/etc/a.key",
        "a.key", "/var/opt/azcmagent/tokens/../a.key", "", "/", "\x00", "/a\nb.key",
        "/var/opt/azcmagent/tokens/\x00.key", "/var/opt/azcmagent/tokens/a\r\nb.key",
        "/var/opt/azcmagent/tokens/" + "a" * 8192 + ".key", "/var/opt/azcmagent/tokens/\ud800.key",
        "/var/opt/azcmagent/tokens/\u202eyek.key", "/var/opt/azcmagent/tokens/a.txt:b.key",
    ],
)  # fmt: skip
def test_paths_outside_the_directory_are_not_accessed(
    monkeypatch: pytest.MonkeyPatch, realm: str
) -> None:
    with monkeypatch.context() as patched:
        watched = Watched(patched)
        with pytest.raises(SecretUnreadable) as caught:
            read_secret(realm, "/var/opt/azcmagent/tokens")
        assert watched.looked == []
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


def test_no_variable_of_a_failed_frame_shows_the_secret(tokens: Path) -> None:
    (tokens / "a.key").write_bytes(b"s3cret-s3cret\n")
    with pytest.raises(SecretUnreadable) as caught:
        read_secret(str(tokens / "a.key"), str(tokens))
    frames = [frame for frame, _ in traceback.walk_tb(caught.tb)]
    assert len(frames) > 2
    assert not [f for f in frames[1:] if "s3cret" in repr(f.f_locals)]


@given(st.text(max_size=50) | st.text(alphabet="/\\.:key\0", max_size=20))
def test_no_realm_reads_a_file_outside_the_directory(name: str) -> None:
    directory = "/nonexistent/tokens"
    with pytest.raises(SecretUnreadable):
        read_secret(f"{directory}/{name}", directory)
    with pytest.raises(SecretUnreadable):
        read_secret(name, directory)
