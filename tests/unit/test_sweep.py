"""Files that no process needs any more are removed from the shared directory after writes."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imds_identity._core.claims import Challenge
from imds_identity._core.failure import Failure, Refused
from imds_identity._core.identity import parse_identity
from imds_identity._shared_cache import flock, sweep
from imds_identity._shared_cache.directory import Directory
from imds_identity._shared_cache.lease import LONGEST_LEASE_SECONDS, remove_lock_file
from imds_identity._shared_cache.namespace import Namespace
from imds_identity._shared_cache.rate_limit import RateLimiter
from imds_identity._shared_cache.record import LONGEST_LIFE, Record, expiry_of
from imds_identity._shared_cache.store import SharedCache
from imds_identity._shared_cache.sweep import kind_of
from imds_identity._sources.azure_vm import ImdsSource
from imds_identity._token_cache.cache import TokenCache
from imds_identity._token_cache.client import TokenClient
from support import KEY, LIFETIME, BackgroundQueue, new_token, no_jitter, shared_cache_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imds_identity._core.key import Key
    from imds_identity._http.messages import Request, Response
    from imds_identity._http.runner import Sender
    from imds_identity._platform.clock import Clock
    from support import FakeClock, ResponseFactory


@pytest.fixture
def shared_cache(tmp_path: Path, clock: FakeClock) -> SharedCache:
    shared_cache = shared_cache_in(tmp_path / "cache", clock)
    assert shared_cache.usable()
    return shared_cache


def key(number: object) -> Key:
    return KEY._replace(resource=f"https://{number}.example")


def names(shared_cache: SharedCache) -> list[str]:
    return sorted(os.listdir(shared_cache.directory.path))


def sweep_completely(shared_cache: SharedCache) -> None:
    """Sweep like further writers do."""
    for _ in range(100):
        before = names(shared_cache)
        shared_cache_in(shared_cache.directory.path, shared_cache.clock).sweep()  # type: ignore[arg-type]
        if names(shared_cache) == before:
            return


class TestRecords:
    def test_expired_token_is_removed_and_a_valid_one_is_kept(
        self, shared_cache: SharedCache, clock: FakeClock
    ) -> None:
        shared_cache.write(Record(key("short"), new_token(clock, life=60)))
        shared_cache.write(Record(key("long"), new_token(clock)))
        clock.seconds += 59
        shared_cache.sweep()
        assert len(names(shared_cache)) == 2
        clock.seconds += 1
        sweep_completely(shared_cache)
        assert names(shared_cache) == [f"{shared_cache.name_of(key('long'))}.json"]

    def test_failure_is_removed_two_seconds_later(
        self, shared_cache: SharedCache, clock: FakeClock
    ) -> None:
        failure = Refused("no")
        shared_cache.write(Record(KEY, failure=failure, failure_until=clock.now() + 2))
        shared_cache.sweep()
        assert len(names(shared_cache)) == 1
        clock.seconds += 2
        sweep_completely(shared_cache)
        assert names(shared_cache) == []

    def test_record_expires_with_the_last_of_its_parts(self, clock: FakeClock) -> None:
        token, challenge = new_token(clock, life=60), Challenge("c", clock.now() + 90)
        assert expiry_of(Record(KEY)) == 0
        assert expiry_of(Record(KEY, token)) == clock.now() + 60
        assert expiry_of(Record(KEY, token, challenge=challenge)) == clock.now() + 90
        assert expiry_of(Record(KEY, failure=Refused("no"), failure_until=7.0)) == 7.0

    def test_record_of_another_network_is_removed_after_its_expiry(
        self, shared_cache: SharedCache, clock: FakeClock
    ) -> None:
        other = Namespace("this-boot", "a-network-that-is-gone")
        shared_cache_in(shared_cache.directory.path, clock, other).write(
            Record(KEY, new_token(clock))
        )
        sweep_completely(shared_cache)
        assert len(names(shared_cache)) == 1  # its containers may be running
        clock.seconds += LIFETIME
        sweep_completely(shared_cache)
        assert names(shared_cache) == []

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no time of the last change")
    def test_files_from_before_the_boot_are_removed(
        self, shared_cache: SharedCache, clock: FakeClock
    ) -> None:
        shared_cache.write(Record(KEY, new_token(clock)))
        with shared_cache.leased(shared_cache.name_of(KEY)):
            pass
        clock.skew = 1e9  # the system started after the files were written
        sweep_completely(shared_cache)
        assert names(shared_cache) == []

    def test_record_of_a_version_that_sets_no_time_is_removed_after_a_day(
        self, shared_cache: SharedCache, clock: FakeClock
    ) -> None:
        path = Path(shared_cache.directory.path) / f"{'0' * 40}.json"
        path.touch(mode=0o600)
        for age, is_kept in ((3600, True), (90000, False)):
            os.utime(path, (0, clock.wall() - age))
            sweep_completely(shared_cache)
            assert path.exists() is is_kept

    def test_record_that_is_too_large_to_be_read_is_not_written(
        self, shared_cache: SharedCache, clock: FakeClock
    ) -> None:
        shared_cache.write(Record(KEY, new_token(clock, "x" * 200_000)))
        assert names(shared_cache) == []

    def test_number_of_records_is_limited_and_those_that_expire_first_go(
        self, shared_cache: SharedCache, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sweep, "MOST_RECORDS", 5)
        for number in range(12):
            shared_cache.write(Record(key(number), new_token(clock, life=1000 + number)))
        sweep_completely(shared_cache)
        assert {record.key for record in shared_cache.records()} == set(map(key, range(7, 12)))


class TestLockFiles:
    def test_lock_file_is_kept_while_it_is_held_and_a_while_longer(
        self, shared_cache: SharedCache, clock: FakeClock
    ) -> None:
        with shared_cache.leased(shared_cache.name_of(KEY)) as lease:
            assert lease
            lease.extend(60)
            clock.seconds += 1000  # the process may have been stopped
            sweep_completely(shared_cache)
            assert len(names(shared_cache)) == 1
            lease.extend(60)
        sweep_completely(shared_cache)
        assert len(names(shared_cache)) == 1
        clock.seconds += 71
        sweep_completely(shared_cache)
        assert names(shared_cache) == []

    def test_successor_is_removed(self, shared_cache: SharedCache, clock: FakeClock) -> None:
        stopped = shared_cache.lease_attempt(shared_cache.name_of(KEY))
        assert stopped.try_acquire()
        clock.seconds += 10
        with shared_cache.leased(shared_cache.name_of(KEY)):
            assert len(names(shared_cache)) == 2
        clock.seconds += 60
        sweep_completely(shared_cache)
        assert names(shared_cache) == [f"{shared_cache.name_of(KEY)}.lock"]
        stopped.close()
        sweep_completely(shared_cache)
        assert names(shared_cache) == []

    @pytest.mark.skipif(sys.platform == "win32", reason="open files cannot be removed on Windows")
    def test_process_that_had_opened_a_removed_file_takes_the_lease_of_the_next_file(
        self, shared_cache: SharedCache, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = shared_cache.name_of(KEY)
        with shared_cache.leased(name):
            pass
        try_lock, removed = flock.try_lock, []

        def locked_too_late(file: Any) -> bool:
            monkeypatch.setattr(flock, "try_lock", try_lock)
            removed.append(remove_lock_file(shared_cache.directory, f"{name}.lock"))
            return try_lock(file)

        monkeypatch.setattr(flock, "try_lock", locked_too_late)
        with shared_cache.leased(name) as lease:
            assert lease
            assert removed == [True]
            other = shared_cache.lease_attempt(name)
            assert other.try_acquire() is None
            other.close()

    @pytest.mark.skipif(sys.platform == "win32", reason="open files cannot be removed on Windows")
    def test_file_that_has_replaced_the_locked_one_is_kept(
        self, shared_cache: SharedCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = f"{shared_cache.name_of(KEY)}.lock"
        path, try_lock = Path(shared_cache.directory.path) / name, flock.try_lock
        path.touch(mode=0o600)

        def replaced(file: Any) -> bool:
            path.unlink()
            path.with_suffix(".other").touch(mode=0o600)
            path.with_suffix(".other").rename(path)
            return try_lock(file)

        monkeypatch.setattr(flock, "try_lock", replaced)
        assert not remove_lock_file(shared_cache.directory, name)
        assert path.exists()

    def test_lock_file_whose_times_are_not_set_yet_is_kept(
        self, shared_cache: SharedCache, clock: FakeClock
    ) -> None:
        path = Path(shared_cache.directory.path) / f"{'0' * 40}.lock"
        path.touch(mode=0o600)
        os.utime(path, (0, clock.wall()))
        sweep_completely(shared_cache)
        assert path.exists()
        clock.seconds += 61
        sweep_completely(shared_cache)
        assert not path.exists()

    def test_pause_and_permits_are_removed_after_their_end(
        self, shared_cache: SharedCache, clock: FakeClock, responses: ResponseFactory
    ) -> None:
        rate_limiter = RateLimiter(shared_cache, "0" * 40, no_jitter)
        rate_limiter.observe(responses.error(429, retry_after="30"))
        sweep_completely(shared_cache)
        assert rate_limiter.remaining_pause() == 30
        with rate_limiter.acquire(15, lambda _: None):
            sweep_completely(shared_cache)
        assert any("-permit-" in name for name in names(shared_cache))
        clock.seconds += LONGEST_LEASE_SECONDS
        sweep_completely(shared_cache)
        assert names(shared_cache) == []


class TestOtherFiles:
    def test_draft_of_a_killed_process_is_removed(
        self, shared_cache: SharedCache, clock: FakeClock
    ) -> None:
        path = Path(shared_cache.directory.path) / f"{'0' * 40}.json.0a0a0a0a.new"
        path.write_bytes(b"half of a tok")
        os.utime(path, (0, clock.wall() - 50))
        sweep_completely(shared_cache)
        assert path.exists()
        clock.seconds += 20
        sweep_completely(shared_cache)
        assert not path.exists()

    @given(st.lists(st.text(min_size=1, max_size=60), max_size=8))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
    def test_files_of_other_programs_are_kept(
        self, shared_cache: SharedCache, found: list[str]
    ) -> None:
        other = [*found, "azureProfile.json", "0" * 39 + ".json", "g" * 40 + ".lock", "0" * 40]
        created = []
        for name in other:
            try:
                (Path(shared_cache.directory.path) / name).touch()
            except (OSError, ValueError):
                continue
            created.append(name)
        sweep_completely(shared_cache)
        for name in created:
            assert (Path(shared_cache.directory.path) / name).exists() or kind_of(name)

    @pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX files")
    def test_planted_files_are_neither_followed_nor_opened(
        self, shared_cache: SharedCache, tmp_path: Path
    ) -> None:
        directory, elsewhere = Path(shared_cache.directory.path), tmp_path / "elsewhere"
        elsewhere.touch(mode=0o600)
        os.utime(elsewhere, (0, 0))
        for number, kind in enumerate((".json", ".lock", ".pause", ".new")):
            (directory / (str(number) * 40 + kind)).symlink_to(elsewhere)
            os.mkfifo(directory / (str(number + 4) * 40 + kind), 0o600)
            (directory / ("abcd"[number] * 40 + kind)).mkdir()
        os.link(elsewhere, directory / ("e" * 40 + ".lock"))
        sweep_completely(shared_cache)
        assert elsewhere.exists()
        assert (directory / ("e" * 40 + ".lock")).exists()
        assert all((directory / (letter * 40 + ".json")).is_dir() for letter in "a")

    def test_missing_directory_is_not_created(self, tmp_path: Path, clock: FakeClock) -> None:
        path = tmp_path / "missing" / "cache"
        SharedCache(Directory.at(str(path)), clock).sweep()
        assert not path.exists()


class TestAmountOfWork:
    def test_one_sweep_examines_a_limited_number_of_files(
        self, shared_cache: SharedCache, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(600):
            path = Path(shared_cache.directory.path) / f"{number:040}.json"
            path.touch()
            os.utime(path, (0, 0))
        examined, stat = [], Directory.stat

        def counted(self: Directory, name: str) -> Any:
            examined.append(name)
            return stat(self, name)

        monkeypatch.setattr(Directory, "stat", counted)
        shared_cache.sweep()
        assert len(examined) == 256
        assert len(names(shared_cache)) == 600 - 256
        shared_cache.sweep()  # there is more to remove, so the next write sweeps again
        shared_cache.sweep()
        assert names(shared_cache) == []

    def test_clean_directory_is_listed_after_few_writes_only(
        self, shared_cache: SharedCache, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        listings, list_names = [], Directory.names

        def counted(self: Directory) -> list[str]:
            listings.append(1)
            return list_names(self)

        monkeypatch.setattr(Directory, "names", counted)
        for _ in range(35):
            shared_cache.sweep()
        assert len(listings) == 3
        clock.seconds += 10
        shared_cache.sweep()
        assert len(listings) == 4

    @pytest.mark.parametrize("claims", [None, '{"access_token": {"xms_event": {}}}'])
    @pytest.mark.parametrize("is_refused", [True, False])
    def test_many_scopes_leave_few_files(
        self,
        tmp_path: Path,
        clock: FakeClock,
        responses: ResponseFactory,
        claims: str | None,
        is_refused: bool,
    ) -> None:
        """A scope may come from outside."""

        @contextmanager
        def open_sender(_: Clock) -> Iterator[Sender]:
            def send(request: Request) -> Response:
                return responses.error(400) if is_refused else responses.token(lifetime=60)

            yield send

        shared_cache = shared_cache_in(tmp_path / "cache", clock)
        token_cache = TokenCache(clock, no_jitter, BackgroundQueue())
        source = ImdsSource("http://127.0.0.1:9/token", "AZURE_POD_IDENTITY_AUTHORITY_HOST")
        client = TokenClient(source, parse_identity(), token_cache, shared_cache)
        for number in range(200):
            try:
                client.token(client.entry(f"https://{number}.example"), claims, open_sender)
            except Failure:
                assert is_refused
            clock.seconds += 1
        assert len(names(shared_cache)) < 160
        clock.seconds += 100
        sweep_completely(shared_cache)
        assert names(shared_cache) == []


@pytest.mark.parametrize(
    ("name", "base", "kept", "removed"),
    [
        (".json", "now", 0.5, 0.0),
        (".json", "now", LONGEST_LIFE, LONGEST_LIFE + 1),
        (".json", "wall", -86400.0, -86401.0),
        (".new", "now", LONGEST_LIFE, LONGEST_LIFE + 1),
        (".new", "now", -9.5, -10.0),
        (".new", "wall", 60.0, 61.0),
        (".lock", "now", -9.5, -10.0),
        (".lock", "now", 180.0, 181.0),
        (".lock", "wall", -60.0, -61.0),
        (".lock.1", "now", -9.5, -10.0),
        (".pause", "now", 180.0, 181.0),
        (".pause", "wall", 60.0, 61.0),
    ],
)
def test_file_expires_by_its_modification_time(
    shared_cache: SharedCache,
    clock: FakeClock,
    name: str,
    base: str,
    kept: float,
    removed: float,
) -> None:
    """It is the expiry, or the time of the wall clock until the expiry is set."""
    start = clock.now() if base == "now" else clock.wall()
    for moment, has_expired in ((kept, False), (removed, True)):
        status: Any = SimpleNamespace(st_mtime=start + moment, st_ctime=clock.wall())
        assert shared_cache._sweeper._has_expired("0" * 40 + name, status) is has_expired


@pytest.mark.parametrize(("seconds", "has_expired"), [(60.0, False), (61.0, True)])
def test_file_from_before_the_boot_has_expired(
    shared_cache: SharedCache, clock: FakeClock, seconds: float, has_expired: bool
) -> None:
    boot = clock.wall() - clock.now()
    status: Any = SimpleNamespace(st_mtime=clock.now() + 5, st_ctime=boot - seconds)
    # On Windows, it is the creation time, possibly that of a file that this one has replaced.
    expected = has_expired and sys.platform != "win32"
    assert shared_cache._sweeper._has_expired("0" * 40 + ".json", status) is expected


@pytest.mark.parametrize(
    ("rest", "kind"),
    [
        (".json", ".json"),
        (".lock", ".lock"),
        (".lock.1", ".lock"),
        (".pause", ".pause"),
        (".json.0a0a0a0a.new", ".new"),
        ("-permit-2.lock", ".lock"),
        ("-permit-2.lock.3", ".lock"),
        (".lock.a", ""),
        (".json11", ""),
        (".lock.", ""),
        (".txt", ""),
        ("json", ""),
        ("0.json", ""),
        ("", ""),
    ],
)
def test_kind_of_a_file_is_recognized_by_its_name(rest: str, kind: str) -> None:
    assert kind_of("0123456789abcdef" + "0" * 24 + rest) == kind
    assert kind_of("0" * 39 + "g" + rest) == ""
    assert kind_of("0" * 38 + rest) == ""
