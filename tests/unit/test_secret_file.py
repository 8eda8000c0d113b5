"""Arc's key file: what is read, and all that is not."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._core.failure import SecretUnreadable
from imds_identity._wire import secret_file
from imds_identity._wire.secret_file import read_secret

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


def test_the_content_is_read_as_it_is(tokens: Path) -> None:
    (tokens / "a.key").write_bytes(b" s3cret== ")
    assert read_secret(str(tokens / "a.key"), str(tokens)) == " s3cret== "
    assert read_secret(str(tokens / "a.key"), f"{tokens}/") == " s3cret== "


def test_4096_bytes_are_read_and_no_more(tokens: Path) -> None:
    (tokens / "a.key").write_text("x" * 4096)
    assert len(read_secret(str(tokens / "a.key"), str(tokens))) == 4096
    (tokens / "b.key").write_text("x" * 4097)
    assert "file size is more than 4096" in refused(tokens / "b.key", tokens)


def test_a_file_that_is_not_there(tokens: Path) -> None:
    assert "does not exist" in refused(tokens / "a.key", tokens)
    assert "does not exist" in refused("key_file", tokens)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    assert "does not exist" in refused(missing / "a.key", missing)


@pytest.mark.parametrize("name", ["../a.key", "../tokens/a.key", "sub/a.key", "./a.key", "..", ""])
def test_another_directory_is_refused(tokens: Path, name: str) -> None:
    (tokens / "sub").mkdir()
    for file in (tokens / "a.key", tokens / "sub" / "a.key", tokens.parent / "a.key"):
        file.write_text("s3cret")
    assert "not in" in refused(f"{tokens}/{name}", tokens)


def test_another_name_is_refused(tokens: Path) -> None:
    (tokens / "a.txt").write_text("s3cret")
    assert "extension '.key'" in refused(tokens / "a.txt", tokens)


@posix
def test_a_link_is_not_followed(tokens: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.key").write_text("s3cret")
    (tokens / "a.key").symlink_to(tmp_path / "elsewhere.key")
    assert "symbolic link" in refused(tokens / "a.key", tokens)


@posix
def test_a_fifo_neither_blocks_nor_is_read(tokens: Path) -> None:
    os.mkfifo(tokens / "a.key")
    assert "not a regular file" in refused(tokens / "a.key", tokens)


def test_a_directory_in_its_place_is_refused(tokens: Path) -> None:
    (tokens / "a.key").mkdir()
    assert "not a regular file" in refused(tokens / "a.key", tokens)


@pytest.mark.parametrize(
    "content", [b"", b"a\r\nX-Evil: 1", b"a\n", b"a\x00", "schlüssel".encode()]
)
def test_what_cannot_go_into_a_header_is_refused(tokens: Path, content: bytes) -> None:
    (tokens / "a.key").write_bytes(content)
    message = refused(tokens / "a.key", tokens)
    assert "Authorization header" in message
    assert "Evil" not in message


@posix
@pytest.mark.parametrize("locked", ["file", "directory"])
def test_a_user_without_the_right_is_told_which_group_and_how(
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
def test_a_directory_that_may_only_be_searched_is_enough(tokens: Path) -> None:
    (tokens / "a.key").write_text("s3cret")
    tokens.chmod(0o311)
    try:
        assert read_secret(str(tokens / "a.key"), str(tokens)) == "s3cret"
    finally:
        tokens.chmod(0o700)


def test_without_dir_fd_links_and_exchanges_are_found_by_looking_twice(
    tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "supports_dir_fd", set())
    (tokens / "a.key").write_text("s3cret")
    assert read_secret(str(tokens / "a.key"), str(tokens)) == "s3cret"
    (tokens / "b.key").symlink_to(tokens / "a.key")
    assert "symbolic link" in refused(tokens / "b.key", tokens)
    (tokens / "c.key").write_text("other")
    other = os.lstat(tokens / "c.key")
    monkeypatch.setattr(os, "lstat", lambda path: other)
    assert "symbolic link" in refused(tokens / "a.key", tokens)


@given(st.text(alphabet=st.characters(exclude_characters="\x00"), max_size=50))
def test_no_realm_reads_a_file_outside(name: str) -> None:
    directory = "/nonexistent/tokens"
    with pytest.raises(SecretUnreadable):
        read_secret(f"{directory}/{name}", directory)
    with pytest.raises(SecretUnreadable):
        read_secret(name, directory)
