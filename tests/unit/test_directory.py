"""Which directory processes share, whom it must belong to, and what becomes of it."""

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
from support import KEY, FakeClock, shared_cache_in, token_now

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="shared by default on Linux only")

AS_ROOT = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to give things away"
)


class TestWhatIsRefused:
    def refused(self, path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> str:
        machine = shared_cache_in(path, clock)
        for _ in range(3):
            machine.write(Record(KEY, token_now(clock)))
            assert machine.read(KEY) is None
            assert machine.version(KEY) is None
            assert machine.records() == []
            assert machine.clear() == 0
            with machine.leased("x") as lease:
                assert lease is None
        [record] = caplog.records
        return record.getMessage()

    def test_an_open_one(
        self, tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        for mode in (0o777, 0o1777, 0o750, 0o701):
            caplog.clear()
            path = tmp_path / f"{mode:o}"
            path.mkdir()
            path.chmod(mode)
            assert "is accessible to other users" in self.refused(path, clock, caplog)
            assert list(path.iterdir()) == []

    def test_a_link(
        self, tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "real").mkdir(mode=0o700)
        (tmp_path / "link").symlink_to(tmp_path / "real")
        assert "cannot be used" in self.refused(tmp_path / "link", clock, caplog)
        assert list((tmp_path / "real").iterdir()) == []

    def test_a_file(
        self, tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").touch(mode=0o600)
        assert "Not a directory" in self.refused(tmp_path / "file", clock, caplog)

    @AS_ROOT
    def test_another_user_s(
        self, tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "theirs").mkdir(mode=0o700)
        os.chown(tmp_path / "theirs", 12345, 12345)
        assert "belongs to user 12345" in self.refused(tmp_path / "theirs", clock, caplog)

    def test_one_that_cannot_be_made(
        self, tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        missing = tmp_path / "missing" / "below"
        assert "cannot be used" in self.refused(missing, clock, caplog)


class TestHowItIsHeld:
    def test_removed_it_is_made_anew(self, tmp_path: Path, clock: FakeClock) -> None:
        machine = shared_cache_in(tmp_path / "cache", clock)
        for _ in range(3):
            machine.write(Record(KEY, token_now(clock)))
            assert machine.read(KEY) == Record(KEY, token_now(clock))
            shutil.rmtree(tmp_path / "cache")
            assert machine.read(KEY) is None
            with machine.leased("x") as lease:
                assert lease is not None
            shutil.rmtree(tmp_path / "cache")
            assert machine.version(KEY) is None

    def test_another_in_its_place_is_not_followed(self, tmp_path: Path, clock: FakeClock) -> None:
        machine = shared_cache_in(tmp_path / "cache", clock)
        assert machine.usable()
        os.rename(tmp_path / "cache", tmp_path / "ours")
        (tmp_path / "cache").mkdir(mode=0o700)
        machine.write(Record(KEY, token_now(clock)))
        assert machine.read(KEY) == Record(KEY, token_now(clock))
        with machine.leased("x") as lease:
            assert lease is not None
        assert os.listdir(tmp_path / "cache") == []

    def test_removed_and_made_anew_by_another_it_is_judged_as_at_the_start(
        self, tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        machine = shared_cache_in(tmp_path / "cache", clock)
        assert machine.usable()
        os.rmdir(tmp_path / "cache")
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache").chmod(0o777)
        machine.write(Record(KEY, token_now(clock)))
        assert os.listdir(tmp_path / "cache") == []
        assert "is accessible to other users" in caplog.text

    def test_opened_to_others_later_it_is_used_no_more(
        self, tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        machine = shared_cache_in(tmp_path / "cache", clock)
        machine.write(Record(KEY, token_now(clock)))
        (tmp_path / "cache").chmod(0o755)
        assert machine.read(KEY) is None
        assert "is accessible to other users" in caplog.text

    def test_who_closes_all_descriptors_may_reuse_ours(
        self, tmp_path: Path, clock: FakeClock
    ) -> None:
        """As those do who make a daemon of a process."""
        machine = shared_cache_in(tmp_path / "cache", clock)
        assert machine.usable()
        held = machine.directory._opened
        assert held is not None
        assert held.descriptor is not None
        (tmp_path / "foreign").mkdir(mode=0o700)
        foreign = os.open(tmp_path / "foreign", os.O_RDONLY)
        os.dup2(foreign, held.descriptor)
        number = held.descriptor
        del held
        machine.write(Record(KEY, token_now(clock)))
        assert machine.read(KEY) == Record(KEY, token_now(clock))
        assert os.listdir(tmp_path / "foreign") == []
        os.close(number)  # is still theirs
        os.close(foreign)

    @pytest.mark.parametrize("umask", [0o777, 0o000, 0o277])
    def test_no_umask_makes_a_dead_directory_or_file(
        self, tmp_path: Path, clock: FakeClock, umask: int
    ) -> None:
        machine = shared_cache_in(tmp_path / "cache", clock)
        before = os.umask(umask)
        try:
            machine.write(Record(KEY, token_now(clock)))
            with machine.leased("x"):
                pass
        finally:
            os.umask(before)
        assert stat.S_IMODE(os.stat(tmp_path / "cache").st_mode) == 0o700
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "cache").iterdir()}
        assert modes == {0o600}

    @AS_ROOT
    def test_a_process_that_becomes_another_user_leaves_it(self) -> None:
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
        with tempfile.TemporaryDirectory() as path:  # pytest's own is closed to others
            os.chmod(path, 0o777)
            subprocess.run([sys.executable, "-c", script, path], check=True)
            assert os.listdir(f"{path}/of-0") == []
            assert os.listdir(f"{path}/of-65534") == ["a"]


class TestTheDefault:
    """A list of private places, of which the first that will do is used."""

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

    def test_the_runtime_directory_is_the_first_choice(self) -> None:
        directory = self.default(str(self.runtime))
        assert directory.usable()
        assert directory.path == str(self.runtime / "imds-identity")

    @pytest.mark.parametrize("runtime", [None, "", "relative", "/nonexistent", "/\0"])
    def test_shared_memory_is_the_second(self, runtime: str | None) -> None:
        directory = self.default(runtime)
        assert directory.usable()
        assert directory.path == str(self.shared_memory / f"imds-identity-{os.geteuid()}")

    @AS_ROOT
    def test_another_user_s_runtime_directory_is_left_alone(self) -> None:
        os.chown(self.runtime, 12345, 12345)
        assert self.default(str(self.runtime)).usable()
        assert list(self.runtime.iterdir()) == []

    def test_what_somebody_made_beforehand_costs_one_warning_and_all_share_the_next(
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

    def test_a_disk_is_no_place(self, caplog: pytest.LogCaptureFixture) -> None:
        self.mounts = Mounts(frozenset(), frozenset())
        assert not self.default(str(self.runtime)).usable()
        assert list(self.shared_memory.iterdir()) == []
        assert caplog.records == []

    def test_what_is_mounted_on_the_directory_itself_is_not_even_looked_at(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A FUSE file system may claim that all in it is ours, and answer when it likes."""
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

    def test_what_is_on_another_device_than_its_parent_is_looked_up_as_well(
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

    def test_where_there_is_no_place_mounts_are_looked_through_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looked: list[int] = []
        self.mounts = Mounts(frozenset(), frozenset())

        def counted() -> Mounts:
            looked.append(1)
            return self.mounts

        monkeypatch.setattr(directory_module, "current_mounts", counted)
        directory = self.default(str(self.runtime))
        for _ in range(5):
            assert directory.stat("x") is None
            assert not directory.usable()
        assert len(looked) == 1
        self.mounts = Mounts(frozenset({os.stat(self.runtime).st_dev}), frozenset())
        self.runtime.chmod(0o700)  # something has changed there
        assert directory.usable()

    def test_elsewhere_there_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "win32")
        assert list(default_paths(None)) == []
        assert self.default().path == ""
        assert not self.default().usable()


@AS_ROOT
def test_a_disk_mounted_on_the_directory_is_refused(tmp_path: Path) -> None:
    """The parent alone says nothing: an empty place, and then another with ramfs."""
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


class TestMounts:
    LINE = b"36 35 0:25 / /dev/shm rw,nosuid shared:4 - tmpfs tmpfs rw"

    def test_memory_is_told_from_disk(self) -> None:
        disk = b"37 35 8:1 / /data rw - ext4 /dev/sda1 rw"
        found = parse_mounts(b"\n".join([self.LINE, disk, b""]))
        assert found == Mounts(frozenset({os.makedev(0, 25)}), frozenset({b"/data"}))

    def test_one_device_in_two_kinds_is_not_in_memory(self) -> None:
        other = self.LINE.replace(b"- tmpfs", b"- fuse.tmpfs")
        assert parse_mounts(self.LINE + b"\n" + other).devices == frozenset()

    @pytest.mark.parametrize(
        "strange",
        [
            b"/mnt/\x85\x1c\x0b\x0c",
            b"/mnt/\xff\xfe",
            "/mnt/\u2028\u2029".encode(),
            b"/mnt/\r36\r35",
            b"/mnt/-",
            b"/mnt/\\040-\\040tmpfs",
        ],
    )
    def test_a_strange_name_changes_nothing(self, strange: bytes) -> None:
        line = b"38 35 0:99 / " + strange + b" rw - fuse evil rw"
        found = parse_mounts(line + b"\n" + self.LINE + b"\n" + line)
        assert found.devices == frozenset({os.makedev(0, 25)})
        assert found.others == {strange}

    @given(st.binary())
    def test_any_bytes_will_do(self, table: bytes) -> None:
        found = parse_mounts(table + b"\n" + self.LINE)
        assert os.makedev(0, 25) in found.devices

    @given(st.lists(st.sampled_from([b"1", b"0:25", b"-", b"", b"tmpfs", b":", b"9" * 30 + b":1"])))
    def test_any_fields_will_do(self, fields: list[bytes]) -> None:
        parse_mounts(b" ".join(fields))

    def test_without_proc_nothing_is_in_memory(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(mounts_module, "_MOUNTS", str(tmp_path / "none"))
        assert current_mounts() == Mounts(frozenset(), frozenset())

    @pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="no shared memory")
    def test_this_machine_s_are_understood(self) -> None:
        assert current_mounts().in_memory("/dev/shm")
        assert not current_mounts().in_memory("/proc")
        assert b"/proc" in current_mounts().others


class TestTheSetting:
    @pytest.mark.parametrize("said", ["off", "OFF", "0", "False", "no", "None", " off "])
    def test_off(self, said: str) -> None:
        assert parse_setting(said, "X") == OFF

    @pytest.mark.parametrize("said", ["", "on", "1", "TRUE", "yes", None])
    def test_the_default(self, said: str | None) -> None:
        assert parse_setting(said, "X") is None

    def test_a_path(self, tmp_path: Path) -> None:
        assert parse_setting(tmp_path, "X") == str(tmp_path)
        assert parse_setting(f"{tmp_path}/a/../b/", "X") == str(tmp_path / "b")

    @pytest.mark.parametrize("said", ["cache", "./cache", "~/cache", "oof", "of", "/a\0b"])
    def test_anything_else_is_refused_by_name(self, said: str) -> None:
        with pytest.raises(ValueError, match=r"IMDS_IDENTITY_CACHE is '.*absolute path, or off"):
            parse_setting(said, "IMDS_IDENTITY_CACHE")


def test_a_lock_file_is_opened_only_if_it_is_a_file_of_ours(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    machine = shared_cache_in(tmp_path / "cache", clock)
    assert machine.usable()
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
        with machine.leased("x") as lease:
            assert lease is None
        lock.unlink()
    assert len(caplog.records) == 1
    assert "cannot be locked" in caplog.text
    assert elsewhere.stat().st_mtime_ns == before
    assert not (tmp_path / "dangling").exists()
    with machine.leased("x") as lease:
        assert lease is not None
