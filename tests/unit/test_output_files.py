"""Output files that the user names: what is replaced, what is written to, and what is refused."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from imds_identity._core.event import Event
from imds_identity._endpoint.listen import listen_unix
from imds_identity._platform import output_files
from imds_identity._platform.output_files import write_output
from imds_identity.telemetry import PrometheusTextFile

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX modes and links")
ROOT = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="requires root")
EVENT = Event("fetch", "imds", "fetched", 0.1, 60.0)
OTHER_USER = 12345


def test_new_file_is_private_and_is_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    remove = write_output(str(path), b"secret")
    assert path.read_bytes() == b"secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    remove()
    assert not path.exists()


def test_file_that_replaced_the_written_one_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    remove = write_output(str(path), b"secret")
    write_output(str(path), b"another program's")
    remove()
    assert path.read_bytes() == b"another program's"


def test_new_file_with_the_inode_of_the_written_one_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    remove = write_output(str(path), b"secret")
    path.write_bytes(b"another program's")
    os.utime(path, ns=(1, 1))
    remove()
    assert path.read_bytes() == b"another program's"


def test_relative_path_is_below_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_output("file", b"secret")
    assert (tmp_path / "file").read_bytes() == b"secret"


@pytest.mark.parametrize(
    "path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/dev/../dev/fd/1"]
)
def test_open_descriptor_is_written_to(path: str) -> None:
    script = (
        "from imds_identity._platform.output_files import write_output\n"
        f"write_output({path!r}, b'secret')()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout == b"secret"


def test_standard_output_that_is_a_file_keeps_its_content(tmp_path: Path) -> None:
    script = (
        "from imds_identity._platform.output_files import write_output\n"
        "write_output('/dev/stdout', b'secret')()"
    )
    with open(tmp_path / "log", "wb") as log:
        log.write(b"first line\n")
        log.flush()
        subprocess.run([sys.executable, "-c", script], stdout=log, check=True)
    assert (tmp_path / "log").read_bytes() == b"first line\nsecret"


def test_null_device_is_neither_replaced_nor_removed() -> None:
    before = os.stat(os.devnull)
    write_output(os.devnull, b"secret")()
    assert os.path.samestat(before, os.stat(os.devnull))
    assert stat.S_ISCHR(before.st_mode)


@ROOT
def test_null_device_that_root_could_replace_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "null"
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.stat(os.devnull).st_rdev)
        path.read_bytes()
    except PermissionError:
        pytest.skip("devices cannot be created or opened here")
    write_output(str(path), b"secret")()
    assert stat.S_ISCHR(path.stat().st_mode)


def test_pipe_is_written_to(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path, 0o600)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(path.read_bytes()))
    reader.start()
    write_output(str(path), b"secret")()
    reader.join(10)
    assert received == [b"secret"]
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_terminal_is_written_to() -> None:
    leader, terminal = os.openpty()
    try:
        write_output(os.ttyname(terminal), b"secret")()
        assert os.read(leader, 100) == b"secret"
    finally:
        os.close(leader)
        os.close(terminal)


def test_other_devices_are_refused() -> None:
    with pytest.raises(PermissionError, match="it is a device"):
        write_output("/dev/zero", b"secret")


@pytest.mark.parametrize("kind", ["directory", "socket"])
def test_file_of_another_kind_is_never_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    if kind == "directory":
        path.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    with pytest.raises(FileExistsError, match="not a regular file"):
        write_output(str(path), b"secret")
    assert path.exists()
    assert not path.is_file()


@pytest.mark.parametrize("exists", [True, False])
def test_symbolic_link_is_refused(tmp_path: Path, exists: bool) -> None:
    target = tmp_path / "target"
    if exists:
        target.write_bytes(b"old")
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(PermissionError, match="symbolic link: name its target") as raised:
        write_output(str(tmp_path / "link"), b"secret")
    assert raised.value.filename == str(tmp_path / "link")
    assert target.exists() == exists
    assert (tmp_path / "link").is_symlink()


@ROOT
@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_file_of_another_user_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    os.mkfifo(path) if kind == "pipe" else path.write_bytes(b"old")
    os.chown(path, OTHER_USER, -1)
    with pytest.raises(PermissionError, match=f"belongs to user {OTHER_USER}"):
        write_output(str(path), b"secret")


@pytest.mark.parametrize(
    ("mode", "refused"), [(0o777, True), (0o1777, False), (0o702, True), (0o755, False)]
)
def test_directory_in_which_others_can_replace_the_file_is_refused(
    tmp_path: Path, mode: int, refused: bool
) -> None:
    directory = tmp_path / "directory"
    directory.mkdir()
    directory.chmod(mode)
    path = str(directory / "file")
    if refused:
        with pytest.raises(PermissionError, match="other users can replace files in its directory"):
            write_output(path, b"secret")
        assert os.listdir(directory) == []
    else:
        write_output(path, b"secret")


@ROOT
@pytest.mark.parametrize(("group", "refused"), [(0, False), (OTHER_USER, True)])
def test_directory_of_a_group_is_refused_unless_it_is_the_private_group_of_the_user(
    tmp_path: Path, group: int, refused: bool
) -> None:
    directory = tmp_path / "directory"
    directory.mkdir()
    os.chown(directory, 0, group)
    directory.chmod(0o775)
    write = partial(write_output, str(directory / "file"), b"secret")
    if refused:
        with pytest.raises(PermissionError, match="mode 775"):
            write()
    else:
        write()


@ROOT
@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_directory_of_another_user_is_refused(tmp_path: Path, mode: int) -> None:
    """Its owner can replace files in it whatever its mode is, even with the sticky bit."""
    directory = tmp_path / "directory"
    directory.mkdir()
    directory.chmod(mode)
    os.chown(directory, OTHER_USER, 0)
    with pytest.raises(PermissionError, match=f"its directory belongs to user {OTHER_USER}"):
        write_output(str(directory / "file"), b"secret")
    with pytest.raises(PermissionError, match=f"its directory belongs to user {OTHER_USER}"):
        listen_unix(str(directory / "file"), 0o600)
    assert os.listdir(directory) == []


@ROOT
@pytest.mark.parametrize("owner", [0, OTHER_USER])
@pytest.mark.parametrize("path", ["link", "link/inner", "other/..//link"])
def test_link_of_another_user_in_the_path_is_not_followed(
    tmp_path: Path, path: str, owner: int
) -> None:
    """In /tmp, another user could let it lead to any directory of this user."""
    (tmp_path / "own" / "inner").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to("own")
    os.lchown(tmp_path / "link", owner, owner)
    file = f"{tmp_path}/{path}/file"
    if owner == 0:
        remove = write_output(file, b"secret")
        assert Path(file).read_bytes() == b"secret"
        remove()
    else:
        with pytest.raises(PermissionError, match=f"link is a symbolic link of user {OTHER_USER}"):
            write_output(file, b"secret")
    assert not Path(file).exists()


def test_endless_links_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(OSError, match="symbolic links") as raised:
        write_output(f"{tmp_path}/a/file", b"secret")
    assert raised.value.filename == f"{tmp_path}/a/file"


def test_directory_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    for path in ("a/file", "a/b/file"):
        with pytest.raises(NotADirectoryError):
            write_output(f"{tmp_path}/{path}", b"secret")


def test_pipe_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    path.chmod(0o644)
    with pytest.raises(PermissionError, match="mkfifo -m 600"):
        write_output(str(path), b"secret")


def test_file_that_is_replaced_by_a_link_after_the_check_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user wins the race in a shared directory: the link's target is not changed."""
    target, path = tmp_path / "target", tmp_path / "file"
    target.write_bytes(b"old")
    check = output_files.check_replaceable

    def replace_after_check(*args: object) -> None:
        check(*args)  # type: ignore[arg-type]
        path.symlink_to(target)

    monkeypatch.setattr(output_files, "check_replaceable", replace_after_check)
    write_output(str(path), b"secret")
    assert target.read_bytes() == b"old"
    assert not path.is_symlink()


def test_pipe_that_is_replaced_after_the_check_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "pipe", tmp_path / "other"
    os.mkfifo(path, 0o600)
    other.touch()
    open_file = os.open

    def replace_before_open(name: str, *args: Any, **options: Any) -> int:
        if name == path.name:
            other.rename(path)
        return open_file(name, *args, **options)

    monkeypatch.setattr(os, "open", replace_before_open)
    with pytest.raises(PermissionError, match="it was replaced while it was opened"):
        write_output(str(path), b"secret")
    assert path.read_bytes() == b""


def test_directory_that_is_replaced_after_the_check_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, elsewhere = tmp_path / "directory", tmp_path / "elsewhere"
    directory.mkdir()
    elsewhere.mkdir()
    check = output_files.check_replaceable

    def move_after_check(*args: object) -> None:
        check(*args)  # type: ignore[arg-type]
        directory.rename(tmp_path / "moved")
        directory.symlink_to(elsewhere)

    monkeypatch.setattr(output_files, "check_replaceable", move_after_check)
    write_output(str(directory / "file"), b"secret")
    assert os.listdir(elsewhere) == []
    assert os.listdir(tmp_path / "moved") == ["file"]


@ROOT
def test_metrics_do_not_follow_planted_links_in_a_shared_directory(tmp_path: Path) -> None:
    """The collector's directory may be writable by a group; its members plant links."""
    directory, target = tmp_path / "collector", tmp_path / "target"
    target.write_bytes(b"root's file")
    directory.mkdir()
    os.chown(directory, 0, OTHER_USER)
    directory.chmod(0o775)
    write = PrometheusTextFile(directory / "app-{pid}.prom")
    path = directory / f"app-{os.getpid()}.prom"
    path.symlink_to(target)
    with pytest.raises(PermissionError, match="symbolic link"):
        write(EVENT)
    path.unlink()
    write(EVENT)
    assert "imds_identity_fetches_total" in path.read_text()
    assert target.read_bytes() == b"root's file"


@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_unix_socket_has_its_mode_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    """A later chmod by path could change the target of a link that was put in place meanwhile."""
    monkeypatch.setattr(os, "chmod", pytest.fail)
    umask = os.umask(0o077)
    os.umask(umask)
    with listen_unix(str(tmp_path / "socket"), mode):
        assert stat.S_IMODE((tmp_path / "socket").stat().st_mode) == mode
    assert os.umask(umask) == umask


def test_unix_socket_in_a_directory_that_others_can_change_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(PermissionError, match="other users can replace"):
        listen_unix(str(tmp_path / "socket"), 0o600)
    assert os.listdir(tmp_path) == []
