"""The choice of the shared directory, its access checks, and its removal."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._shared_cache import directory as directory_module
from imds_identity._shared_cache import location as location_module
from imds_identity._shared_cache import mounts as mounts_module
from imds_identity._shared_cache import open_directory as open_directory_module
from imds_identity._shared_cache.directory import Directory
from imds_identity._shared_cache.location import OFF, default_paths, parse_setting
from imds_identity._shared_cache.mounts import Mounts, current_mounts, parse_mounts
from imds_identity._shared_cache.record import Record
from support import KEY, FakeClock, new_token, shared_cache_in

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the default directory needs Linux")

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
AS_ROOT = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can change owners"
)


class TestRefusedDirectories:
    def refused(self, path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> str:
        shared_cache = shared_cache_in(path, clock)
        for _ in range(3):
            shared_cache.write(Record(KEY, new_token(clock)))
            assert shared_cache.read(KEY) is None
            assert shared_cache.version(KEY) is None
            assert shared_cache.records() == []
            assert shared_cache.clear() == 0
            with shared_cache.leased("x") as lease:
                assert lease is None
        [record] = caplog.records
        return record.getMessage()

    def test_directory_that_other_users_can_access_is_refused(
        self, tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        for mode in (0o777, 0o1777, 0o750, 0o701):
            caplog.clear()
            path = tmp_path / f"{mode:o}"
            path.mkdir()
            path.chmod(mode)
            text = self.refused(path, clock, caplog)
            assert "is accessible to other users" in text
            assert "make it a directory of your own with mode 700" in text
            assert list(path.iterdir()) == []

    def test_symbolic_link_is_refused(
        self, tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "real").mkdir(mode=0o700)
        (tmp_path / "link").symlink_to(tmp_path / "real")
        assert "cannot be used" in self.refused(tmp_path / "link", clock, caplog)
        assert list((tmp_path / "real").iterdir()) == []

    def test_file_is_refused(
        self, tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").touch(mode=0o600)
        assert "Not a directory" in self.refused(tmp_path / "file", clock, caplog)

    @AS_ROOT
    def test_directory_of_another_user_is_refused(
        self, tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "theirs").mkdir(mode=0o700)
        os.chown(tmp_path / "theirs", 12345, 12345)
        assert "belongs to user 12345" in self.refused(tmp_path / "theirs", clock, caplog)

    def test_directory_without_a_parent_is_refused(
        self, tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        missing = tmp_path / "missing" / "below"
        assert "cannot be used" in self.refused(missing, clock, caplog)


class TestOpenDirectory:
    @pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX modes")
    def test_new_file_is_private_with_any_umask(self, tmp_path: Path) -> None:
        opened = open_directory_module.open_or_create_directory(str(tmp_path / "cache"), None)
        umask = os.umask(0)
        try:
            descriptor = opened.opener("a-file", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        finally:
            os.umask(umask)
        assert stat.S_IMODE(os.fstat(descriptor).st_mode) == 0o600
        os.close(descriptor)

    def test_removed_directory_is_created_again(self, tmp_path: Path, clock: FakeClock) -> None:
        shared_cache = shared_cache_in(tmp_path / "cache", clock)
        for _ in range(3):
            shared_cache.write(Record(KEY, new_token(clock)))
            assert shared_cache.read(KEY) == Record(KEY, new_token(clock))
            shutil.rmtree(tmp_path / "cache")
            assert shared_cache.read(KEY) is None
            with shared_cache.leased("x") as lease:
                assert lease is not None
            shutil.rmtree(tmp_path / "cache")
            assert shared_cache.version(KEY) is None

    def test_directory_that_replaces_the_open_one_is_not_used(
        self, tmp_path: Path, clock: FakeClock
    ) -> None:
        shared_cache = shared_cache_in(tmp_path / "cache", clock)
        assert shared_cache.usable()
        os.rename(tmp_path / "cache", tmp_path / "ours")
        (tmp_path / "cache").mkdir(mode=0o700)
        shared_cache.write(Record(KEY, new_token(clock)))
        assert shared_cache.read(KEY) == Record(KEY, new_token(clock))
        assert shared_cache.records() == [Record(KEY, new_token(clock))]
        with shared_cache.leased("x") as lease:
            assert lease is not None
        assert os.listdir(tmp_path / "cache") == []

    def test_removed_directory_that_another_user_creates_is_refused(
        self, tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        shared_cache = shared_cache_in(tmp_path / "cache", clock)
        assert shared_cache.usable()
        os.rmdir(tmp_path / "cache")
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache").chmod(0o777)
        shared_cache.write(Record(KEY, new_token(clock)))
        assert os.listdir(tmp_path / "cache") == []
        assert "is accessible to other users" in caplog.text

    def test_directory_that_becomes_accessible_to_other_users_is_no_longer_used(
        self, tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        shared_cache = shared_cache_in(tmp_path / "cache", clock)
        shared_cache.write(Record(KEY, new_token(clock)))
        (tmp_path / "cache").chmod(0o755)
        assert shared_cache.read(KEY) is None
        assert "is accessible to other users" in caplog.text

    def test_descriptor_that_a_daemon_has_closed_and_reused_stays_open(
        self, tmp_path: Path, clock: FakeClock
    ) -> None:
        shared_cache = shared_cache_in(tmp_path / "cache", clock)
        assert shared_cache.usable()
        opened = shared_cache.directory._opened
        assert opened is not None
        assert opened.descriptor is not None
        (tmp_path / "foreign").mkdir(mode=0o700)
        foreign = os.open(tmp_path / "foreign", os.O_RDONLY)
        os.dup2(foreign, opened.descriptor)
        number = opened.descriptor
        del opened
        shared_cache.write(Record(KEY, new_token(clock)))
        assert shared_cache.read(KEY) == Record(KEY, new_token(clock))
        assert os.listdir(tmp_path / "foreign") == []
        os.close(number)  # it is still open
        os.close(foreign)

    @pytest.mark.parametrize("umask", [0o777, 0o000, 0o277])
    def test_directory_and_files_are_usable_whatever_the_umask_is(
        self, tmp_path: Path, clock: FakeClock, umask: int
    ) -> None:
        shared_cache = shared_cache_in(tmp_path / "cache", clock)
        before = os.umask(umask)
        try:
            shared_cache.write(Record(KEY, new_token(clock)))
            with shared_cache.leased("x"):
                pass
        finally:
            os.umask(before)
        assert stat.S_IMODE(os.stat(tmp_path / "cache").st_mode) == 0o700
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "cache").iterdir()}
        assert modes == {0o600}

    @AS_ROOT
    def test_process_that_becomes_another_user_changes_its_directory(self) -> None:
        script = """
import os, sys
from imds_identity._platform.clock import SYSTEM_CLOCK
from imds_identity._shared_cache.directory import Directory
directory = Directory(lambda: [f"{sys.argv[1]}/of-{os.geteuid()}"])
assert directory.usable()
os.setgid(65534); os.setuid(65534)
assert directory.usable()
directory.open_or_create("a").close()
"""
        with tempfile.TemporaryDirectory() as path:  # other users cannot access pytest's
            os.chmod(path, 0o777)
            subprocess.run([sys.executable, "-c", script, path], check=True)
            assert os.listdir(f"{path}/of-0") == []
            assert os.listdir(f"{path}/of-65534") == ["a"]


class TestDefaultDirectory:
    """The first usable one of several private directories is used."""

    @pytest.fixture(autouse=True)
    def _memory(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.shared_memory = tmp_path / "shm"
        self.runtime = tmp_path / "run"
        self.shared_memory.mkdir()
        self.runtime.mkdir()
        device = os.stat(tmp_path).st_dev
        self.mounts = Mounts(frozenset({device}), frozenset())
        monkeypatch.setattr(location_module, "_SHARED_MEMORY", str(self.shared_memory))
        monkeypatch.setattr(directory_module, "current_mounts", lambda: self.mounts)

    def default(self, runtime: str | None = None) -> Directory:
        return Directory(lambda: default_paths(runtime), in_memory=True)

    def test_runtime_directory_is_preferred(self) -> None:
        directory = self.default(str(self.runtime))
        assert directory.usable()
        assert directory.path == str(self.runtime / "imds-identity")

    @pytest.mark.parametrize("runtime", [None, "", "relative", "/nonexistent", "/\0"])
    def test_shared_memory_is_used_without_a_valid_runtime_directory(
        self, runtime: str | None
    ) -> None:
        directory = self.default(runtime)
        assert directory.usable()
        assert directory.path == str(self.shared_memory / f"imds-identity-{os.geteuid()}")

    @AS_ROOT
    def test_runtime_directory_of_another_user_is_not_used(self) -> None:
        os.chown(self.runtime, 12345, 12345)
        assert self.default(str(self.runtime)).usable()
        assert list(self.runtime.iterdir()) == []

    def test_directory_created_by_another_user_causes_one_warning_and_all_processes_use_the_next(
        self, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        first = self.shared_memory / f"imds-identity-{os.geteuid()}"
        first.mkdir()
        first.chmod(0o755)
        directories = [self.default() for _ in range(3)]
        for directory in directories:
            assert directory.usable()
            assert directory.usable()
        assert {directory.path for directory in directories} == {f"{first}-1"}
        assert len(caplog.records) == 3
        assert "is accessible to other users" in caplog.text
        assert " instead" in caplog.text

    def test_directory_on_a_disk_is_not_used(self, caplog: pytest.LogCaptureFixture) -> None:
        self.mounts = Mounts(frozenset(), frozenset())
        assert not self.default(str(self.runtime)).usable()
        assert list(self.shared_memory.iterdir()) == []
        assert caplog.records == []

    def test_mount_point_is_never_opened(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A FUSE file system may report any owner, and may block its users."""
        first = self.shared_memory / f"imds-identity-{os.geteuid()}"
        first.mkdir(mode=0o700)
        self.mounts = self.mounts._replace(others=frozenset({os.fsencode(first)}))
        opened: list[str] = []
        original = os.open

        def watched(path: Any, *args: Any, **kwargs: Any) -> int:
            opened.append(path)
            return original(path, *args, **kwargs)

        monkeypatch.setattr(os, "open", watched)
        directory = self.default()
        assert directory.usable()
        assert directory.path == f"{first}-1"
        assert str(first) not in opened

    def test_device_of_the_directory_is_checked_and_not_only_of_its_parent(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = self.shared_memory / f"imds-identity-{os.geteuid()}"

        class Mounted(open_directory_module.OpenDirectory):
            def __init__(self, path: str) -> None:
                super().__init__(path)
                self.device = -1 if path == str(first) else self.device

        monkeypatch.setattr(open_directory_module, "OpenDirectory", Mounted)
        assert self.default().usable()
        assert not first.joinpath("x").exists()
        directory = self.default()
        assert directory.usable()
        assert directory.path == f"{first}-1"

    def test_mounts_are_read_once_while_no_directory_is_usable(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reads: list[int] = []
        self.mounts = Mounts(frozenset(), frozenset())

        def counted() -> Mounts:
            reads.append(1)
            return self.mounts

        monkeypatch.setattr(directory_module, "current_mounts", counted)
        directory = self.default(str(self.runtime))
        for _ in range(5):
            assert directory.stat("x") is None
            assert not directory.usable()
        assert len(reads) == 1
        self.mounts = Mounts(frozenset({os.stat(self.runtime).st_dev}), frozenset())
        self.runtime.chmod(0o700)  # its status changes
        assert directory.usable()

    def test_other_systems_have_no_default_directory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "win32")
        assert list(default_paths(None)) == []
        assert self.default().path == ""
        assert not self.default().usable()


@AS_ROOT
def test_disk_mounted_on_the_directory_is_refused(tmp_path: Path) -> None:
    """It is not sufficient that the parent directory is in memory."""
    script = f"""
set -e
mount -t tmpfs none {tmp_path}
mkdir -m 700 {tmp_path}/disk {tmp_path}/memory
mount -t proc none {tmp_path}/disk
mount -t ramfs -o mode=700 none {tmp_path}/memory
exec {sys.executable} - <<'END'
from imds_identity._shared_cache.directory import Directory
for name, usable in (("disk", False), ("memory", True), ("neither", True)):
    directory = Directory(lambda: ["{tmp_path}/" + name], in_memory=True)
    assert directory.usable() is usable, name
END
"""
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr


@AS_ROOT
def test_processes_use_the_next_directory_while_the_first_file_system_is_full(
    tmp_path: Path,
) -> None:
    """Every user can fill /dev/shm."""
    script = f"""
set -e
mkdir {tmp_path}/first {tmp_path}/next
mount -t tmpfs -o size=1m none {tmp_path}/first
mount -t tmpfs -o size=1m none {tmp_path}/next
exec {sys.executable} - <<'END'
import logging, os
from imds_identity._shared_cache.directory import Directory
from imds_identity._shared_cache.record import Record
from imds_identity._shared_cache.store import SharedCache
from support import KEY, NAMESPACE, FakeClock, new_token

logging.basicConfig()
first, spare, other = (f"{tmp_path}/{{name}}" for name in ("first/a", "first/b", "next/a"))
def new():
    directory = Directory(lambda: [first, spare, other], in_memory=True)
    return SharedCache(directory, FakeClock(), NAMESPACE)
def fill(place):
    with open(f"{tmp_path}/{{place}}/filled", "wb") as file:
        file.write(bytes(900_000))
def free(place):
    os.unlink(f"{tmp_path}/{{place}}/filled")
clock = FakeClock()
old = new()
old.write(Record(KEY, new_token(clock, "1")))
assert old.directory.path == first
fill("first")
started = new()
for cache, name in ((old, "2"), (started, "3")):
    cache.write(Record(KEY, new_token(clock, name)))
    assert cache.directory.path == other
    assert [each.read(KEY).token.value for each in (old, started)] == [name] * 2
    with cache.leased("x") as lease:
        assert lease is not None
assert not os.path.exists(spare)
fill("next")
last = new()
assert last.read(KEY).token.value == "1"
for cache in (last, old, started):
    cache.write(Record(KEY, new_token(clock, "4")))
free("first")
for cache in (old, started, last, new()):
    cache.write(Record(KEY, new_token(clock, "5")))
    assert cache.directory.path == first
END
"""
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": TESTS},
    )  # fmt: skip
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    assert f"first/a is full. Tokens are shared in {tmp_path}/next/a instead" in done.stderr


class TestMounts:
    LINE = b"36 35 0:25 / /dev/shm rw,nosuid shared:4 - tmpfs tmpfs rw"

    def test_file_systems_in_memory_are_recognized(self) -> None:
        disk = b"37 35 8:1 / /data rw - ext4 /dev/sda1 rw"
        found = parse_mounts(b"\n".join([self.LINE, disk, b""]))
        in_memory, on_disk = os.makedev(0, 25), os.makedev(8, 1)
        local = frozenset({in_memory, on_disk})
        assert found == Mounts(frozenset({in_memory}), frozenset({b"/data"}), local)

    @pytest.mark.parametrize("fs_type", [b"nfs4", b"cifs", b"fuse.sshfs", b"9p", b"autofs", b"new"])
    def test_file_system_that_may_hang_is_not_local(self, fs_type: bytes) -> None:
        assert parse_mounts(self.LINE.replace(b"- tmpfs", b"- " + fs_type)).local == frozenset()

    def test_device_of_two_file_system_types_is_not_in_memory(self) -> None:
        other = self.LINE.replace(b"- tmpfs", b"- fuse.tmpfs")
        assert parse_mounts(self.LINE + b"\n" + other).devices == frozenset()

    @pytest.mark.parametrize(
        "mount_point",
        [
            b"/mnt/\x85\x1c\x0b\x0c",
            b"/mnt/\xff\xfe",
            "/mnt/\u2028\u2029".encode(),
            b"/mnt/\r36\r35",
            b"/mnt/-",
            b"/mnt/\\040-\\040tmpfs",
        ],
    )
    def test_unusual_mount_point_name_does_not_affect_other_lines(self, mount_point: bytes) -> None:
        line = b"38 35 0:99 / " + mount_point + b" rw - fuse evil rw"
        found = parse_mounts(line + b"\n" + self.LINE + b"\n" + line)
        assert found.devices == frozenset({os.makedev(0, 25)})
        assert found.others == {mount_point}

    @given(st.binary())
    def test_any_bytes_are_skipped(self, table: bytes) -> None:
        found = parse_mounts(table + b"\n" + self.LINE)
        assert os.makedev(0, 25) in found.devices

    @given(st.lists(st.sampled_from([b"1", b"0:25", b"-", b"", b"tmpfs", b":", b"9" * 30 + b":1"])))
    def test_any_fields_are_accepted_without_an_error(self, fields: list[bytes]) -> None:
        parse_mounts(b" ".join(fields))

    def test_without_proc_nothing_is_in_memory(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(mounts_module, "_MOUNTS", str(tmp_path / "none"))
        assert current_mounts() == Mounts(frozenset(), frozenset())

    @pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="no shared memory")
    def test_mounts_of_this_machine_are_parsed(self) -> None:
        assert current_mounts().in_memory("/dev/shm")
        assert not current_mounts().in_memory("/proc")
        assert b"/proc" in current_mounts().others


class TestSetting:
    @pytest.mark.parametrize("value", ["off", "OFF", "0", "False", "no", "None", " off "])
    def test_off_values(self, value: str) -> None:
        assert parse_setting(value, "X") == OFF

    @pytest.mark.parametrize("value", ["", "on", "1", "TRUE", "yes", None])
    def test_default_values(self, value: str | None) -> None:
        assert parse_setting(value, "X") is None

    def test_path_is_normalized(self, tmp_path: Path) -> None:
        assert parse_setting(tmp_path, "X") == str(tmp_path)
        assert parse_setting(f"{tmp_path}/a/../b/", "X") == str(tmp_path / "b")

    @pytest.mark.parametrize("value", ["cache", "./cache", "~/cache", "oof", "of", "/a\0b"])
    def test_other_values_are_refused_with_the_variable_name(self, value: str) -> None:
        with pytest.raises(ValueError, match=r"IMDS_IDENTITY_CACHE is '.*absolute path, or off"):
            parse_setting(value, "IMDS_IDENTITY_CACHE")


def test_lock_file_that_another_user_may_have_created_is_not_opened(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    shared_cache = shared_cache_in(tmp_path / "cache", clock)
    assert shared_cache.usable()
    lock, elsewhere = tmp_path / "cache" / "x.lock", tmp_path / "elsewhere"
    elsewhere.touch(mode=0o600)
    before = elsewhere.stat().st_mtime_ns
    plants: list[Callable[[], object]] = [
        lambda: os.mkfifo(lock, 0o600),
        lambda: lock.symlink_to(elsewhere),
        lambda: lock.symlink_to(tmp_path / "dangling"),
        lambda: os.link(elsewhere, lock),
        lambda: lock.touch(mode=0o644),
    ]
    for plant in plants:
        plant()
        with shared_cache.leased("x") as lease:
            assert lease is None
        lock.unlink()
    assert len(caplog.records) == 1
    assert "cannot be locked" in caplog.text
    assert elsewhere.stat().st_mtime_ns == before
    assert not (tmp_path / "dangling").exists()
    with shared_cache.leased("x") as lease:
        assert lease is not None
