"""Records that processes share, and their validation."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imds_identity._core.claims import Challenge
from imds_identity._core.failure import Reason, Refused, Unavailable
from imds_identity._core.freshness import back_off
from imds_identity._shared_cache.namespace import Namespace
from imds_identity._shared_cache.record import Record, dumps
from support import KEY, LIFETIME, NAMESPACE, FakeClock, new_token, shared_cache_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_identity._shared_cache.store import SharedCache


@pytest.fixture
def shared_cache(tmp_path: Path, clock: FakeClock) -> SharedCache:
    return shared_cache_in(tmp_path / "cache", clock)


def record_file(shared_cache: SharedCache) -> Path:
    return Path(shared_cache.directory.path) / f"{shared_cache.name_of(KEY)}.json"


def change_document(shared_cache: SharedCache, **changes: Any) -> None:
    """Change the fields of a stored record."""
    document = {**json.loads(record_file(shared_cache).read_text()), **changes}
    record_file(shared_cache).write_text(json.dumps(document))


def test_record_is_read_by_another_process(shared_cache: SharedCache, clock: FakeClock) -> None:
    record = Record(KEY, new_token(clock), challenge=Challenge("claims", clock.now() + 5))
    shared_cache.write(record)
    other = shared_cache_in(shared_cache.directory.path, clock)
    assert other.read(KEY) == record
    assert other.records() == [record]


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX modes and owners")
def test_record_is_private_from_its_first_byte(
    shared_cache: SharedCache, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    write = os.write

    def watched(descriptor: int, content: bytes) -> int:
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return write(descriptor, content)

    monkeypatch.setattr(os, "write", watched)
    umask = os.umask(0)
    try:
        shared_cache.write(Record(KEY, new_token(clock)))
    finally:
        os.umask(umask)
    assert modes == [0o600]
    assert stat.S_IMODE(os.stat(shared_cache.directory.path).st_mode) == 0o700


def test_file_names_reveal_no_part_of_the_key(shared_cache: SharedCache, clock: FakeClock) -> None:
    shared_cache.write(Record(KEY, new_token(clock)))
    with shared_cache.leased(shared_cache.name_of(KEY)) as lease:
        assert lease
    names = " ".join(os.listdir(shared_cache.directory.path))
    assert not any(part in names for part in KEY if part)


@pytest.mark.parametrize(
    "namespace", [Namespace("next", NAMESPACE.network), Namespace(NAMESPACE.boot, "other")]
)
def test_record_of_another_boot_or_network_is_ignored(
    shared_cache: SharedCache, clock: FakeClock, namespace: Namespace
) -> None:
    shared_cache.write(Record(KEY, new_token(clock)))
    other = shared_cache_in(shared_cache.directory.path, clock, namespace)
    assert other.read(KEY) is None
    os.rename(record_file(shared_cache), record_file(other))
    assert other.usable()
    assert other.read(KEY) is None
    assert other.records() == []


def test_processes_of_two_networks_do_not_affect_each_other(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    other = shared_cache_in(
        shared_cache.directory.path, clock, NAMESPACE._replace(network="another")
    )
    records = {cache: Record(KEY, new_token(clock, name)) for cache, name in
               ((shared_cache, "mine"), (other, "theirs"))}  # fmt: skip
    for cache, record in records.items():
        cache.write(record)
    for cache, record in records.items():
        assert cache.read(KEY) == record
    assert shared_cache.name_of(KEY) != other.name_of(KEY)  # so leases and pauses are separate


def test_record_of_another_endpoint_is_ignored_even_under_the_right_name(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    other = KEY._replace(endpoint="http://127.0.0.1:1234/token")
    shared_cache.write(Record(other, new_token(clock)))
    os.rename(
        Path(shared_cache.directory.path) / f"{shared_cache.name_of(other)}.json",
        record_file(shared_cache),
    )
    assert shared_cache.read(KEY) is None


def test_token_from_the_future_is_ignored(shared_cache: SharedCache, clock: FakeClock) -> None:
    shared_cache.write(Record(KEY, new_token(clock)))
    clock.seconds -= 10
    assert shared_cache.read(KEY) is None


@pytest.mark.parametrize("days", [0.1, 13])
def test_token_of_the_last_boot_is_ignored_without_a_boot_id(
    tmp_path: Path, clock: FakeClock, days: float
) -> None:
    clock.seconds = 600.0
    shared_cache = shared_cache_in(tmp_path / "cache", clock, Namespace())
    shared_cache.write(Record(KEY, new_token(clock)))
    clock.seconds = 700.0  # the next boot
    clock.skew = days * 86400
    assert shared_cache.read(KEY) is None


def test_token_that_would_be_valid_for_more_than_ten_years_is_ignored(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    for years, is_valid in ((10, True), (11, False)):
        shared_cache.clear()
        shared_cache.write(Record(KEY, new_token(clock, life=years * 365 * 86400.0)))
        assert (shared_cache.read(KEY) is not None) is is_valid


def test_token_that_has_expired_by_the_wall_clock_is_ignored(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    shared_cache.write(Record(KEY, new_token(clock, life=30)))
    clock.skew = 31
    assert shared_cache.read(KEY) is None


def test_token_survives_a_gradual_correction_of_the_wall_clock(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    shared_cache.write(Record(KEY, new_token(clock)))
    clock.seconds += LIFETIME / 2
    for skew, is_valid in ((40, True), (-60, True), (60, True), (61, False), (-61, False)):
        clock.skew = skew
        assert (shared_cache.read(KEY) is not None) is is_valid


@pytest.mark.parametrize(("size", "is_shared"), [(128 * 1024, True), (128 * 1024 + 1, False)])
def test_record_of_more_than_128_kibibytes_is_not_shared(
    shared_cache: SharedCache, clock: FakeClock, size: int, is_shared: bool
) -> None:
    token = new_token(clock, "x" * 64 * 1024)
    empty = Record(KEY, token, challenge=Challenge("", clock.now() + 5))
    claims = "c" * (size - len(dumps(empty, NAMESPACE)))
    shared_cache.write(empty._replace(challenge=Challenge(claims, clock.now() + 5)))
    assert (shared_cache.read(KEY) is not None) is is_shared
    assert record_file(shared_cache).exists() is is_shared


@pytest.mark.parametrize(("size", "is_shared"), [(64 * 1024, True), (64 * 1024 + 1, False)])
def test_token_of_more_than_64_kibibytes_is_not_shared(
    shared_cache: SharedCache, clock: FakeClock, size: int, is_shared: bool
) -> None:
    shared_cache.write(Record(KEY, new_token(clock, "x" * size)))
    assert (shared_cache.read(KEY) is not None) is is_shared


def test_every_truncation_is_ignored(shared_cache: SharedCache, clock: FakeClock) -> None:
    shared_cache.write(Record(KEY, new_token(clock)))
    complete = record_file(shared_cache).read_bytes()
    for length in range(len(complete)):
        record_file(shared_cache).write_bytes(complete[:length])
        assert shared_cache.read(KEY) is None


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
HYPOTHESIS = settings(max_examples=75, suppress_health_check=[HealthCheck.function_scoped_fixture])


@HYPOTHESIS
@given(content=st.binary() | ANYTHING.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_ignored(shared_cache: SharedCache, clock: FakeClock, content: bytes) -> None:
    assert shared_cache.usable()
    record_file(shared_cache).write_bytes(content)
    record_file(shared_cache).chmod(0o600)
    assert shared_cache.read(KEY) is None


def document_with_all_fields(clock: FakeClock, shared_cache: SharedCache) -> dict[str, Any]:
    failure = Refused("no", "Do this.", status=500, retry_after=3.0)
    challenge = Challenge("claims", clock.now() + 5, failure)
    record = Record(KEY, new_token(clock), failure, clock.now() + 2, challenge)
    record_file(shared_cache).unlink(missing_ok=True)
    shared_cache.write(record)
    document: dict[str, Any] = json.loads(record_file(shared_cache).read_text())
    return document


UNUSUAL_VALUES = ANYTHING | st.sampled_from(
    [float("nan"), float("inf"), -1, 10**400, -(10**30), True, "\x1b]0;x\x07", "\ud800", [], {}]
)


@HYPOTHESIS
@given(data=st.data())
def test_record_with_any_value_in_a_field_is_ignored_or_harmless(
    shared_cache: SharedCache, clock: FakeClock, data: st.DataObject
) -> None:
    document = document_with_all_fields(clock, shared_cache)
    where: dict[str, Any] = data.draw(
        st.sampled_from([document, document["token"], document["failure"]])
    )
    where[data.draw(st.sampled_from(sorted(where)))] = data.draw(UNUSUAL_VALUES)
    record_file(shared_cache).write_text(json.dumps(document))
    found = shared_cache.read(KEY)
    if found is not None:
        assert str(found.failure).isprintable()
        assert found.token is None or (
            found.token.value.isprintable() and 0 < found.token.expires_at - clock.now() < 1e9
        )
        assert 0 <= found.failure_until < float("inf")


@pytest.mark.parametrize(
    "changes",
    [
        {"value": ""},
        {"value": "a\r\nb"},
        {"value": "a b"},
        {"value": "é"},
        {"value": 7},
        {"value": "x" * 70_000},
        {"token_type": "Bearer\r\nX: y"},
        {"token_type": "Bearer x"},
        {"token_type": ""},
        {"token_type": None},
        {"expires_at": 1e300},
        {"expires_at": "x"},
        {"received_at": float("nan")},
        {"received_at": True},
        {"refresh_at": 0},
        {"expires_on": 10**400},
        {"expires_on": 1.5},
        {"failed_refreshes": -1},
        {"more": 1},
    ],
)
def test_impossible_token_is_ignored(
    shared_cache: SharedCache, clock: FakeClock, changes: dict[str, Any]
) -> None:
    shared_cache.write(Record(KEY, new_token(clock)))
    change_document(shared_cache, token={**new_token(clock).facts(), **changes})
    assert shared_cache.read(KEY) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 1},
        {"key": ["imds"]},
        {"key": None},
        {"token": []},
        {"token": "s3cret"},
        {"failure": {"kind": "OSError"}, "token": None},
        {"failure_until": float("nan")},
        {"challenge": ["c"]},
        {"challenge": ["c", "soon", None]},
    ],
)
def test_document_of_another_format_is_ignored(
    shared_cache: SharedCache, clock: FakeClock, changes: dict[str, Any]
) -> None:
    shared_cache.write(Record(KEY, new_token(clock)))
    change_document(shared_cache, **changes)
    assert shared_cache.read(KEY) is None


def test_deeply_nested_json_is_ignored(shared_cache: SharedCache) -> None:
    assert shared_cache.usable()
    record_file(shared_cache).write_text("[" * 100_000)
    record_file(shared_cache).chmod(0o600)
    assert shared_cache.read(KEY) is None


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX modes and owners")
def test_planted_file_is_ignored_and_overwritten(
    shared_cache: SharedCache, clock: FakeClock, tmp_path: Path
) -> None:
    shared_cache.write(Record(KEY, new_token(clock)))
    path, elsewhere = record_file(shared_cache), tmp_path / "elsewhere"
    os.rename(path, elsewhere)

    def as_link() -> None:
        path.symlink_to(elsewhere)

    def as_hard_link() -> None:
        os.link(elsewhere, path)

    def as_fifo() -> None:
        os.mkfifo(path, 0o600)

    def as_accessible_file() -> None:
        path.write_bytes(elsewhere.read_bytes())
        path.chmod(0o644)

    def as_file_of_another_user() -> None:
        path.write_bytes(elsewhere.read_bytes())
        path.chmod(0o600)
        os.chown(path, 12345, 12345)

    hostile: list[Callable[[], None]] = [as_link, as_hard_link, as_fifo, as_accessible_file]
    for plant in [*hostile, *([as_file_of_another_user] if os.geteuid() == 0 else [])]:
        plant()
        assert shared_cache.read(KEY) is None, plant
        shared_cache.write(Record(KEY, new_token(clock, "mine")))
        found = shared_cache.read(KEY)
        assert found is not None, plant
        assert found.token is not None
        assert found.token.value == "mine"
        path.unlink()


@pytest.mark.parametrize("problem", ["an error", "a partial write"])
def test_failed_write_keeps_the_old_record(
    shared_cache: SharedCache,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    problem: str,
) -> None:
    shared_cache.write(Record(KEY, new_token(clock, "old")))
    write = os.write
    free = [7] if problem == "a partial write" else []

    def full(descriptor: int, content: bytes) -> int:
        if free:
            return write(descriptor, content[: free.pop()])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for _ in range(3):
        shared_cache.write(Record(KEY, new_token(clock, "new")))
    found = shared_cache.read(KEY)
    assert found is not None
    assert found.token is not None
    assert found.token.value == "old"
    assert len(caplog.records) == 1
    assert "No space left" in caplog.text
    assert "new" not in " ".join(os.listdir(shared_cache.directory.path))


def test_partial_writes_are_completed(
    shared_cache: SharedCache, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:50]))
    record = Record(KEY, new_token(clock))
    shared_cache.write(record)
    assert shared_cache.read(KEY) == record


def test_process_whose_draft_was_removed_logs_no_warning(
    shared_cache: SharedCache,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    replace = os.replace

    def swept(source: str, target: str, **keywords: Any) -> None:
        assert shared_cache.directory.remove(os.path.basename(source))
        replace(source, target, **keywords)

    monkeypatch.setattr(os, "replace", swept)
    shared_cache.write(Record(KEY, new_token(clock)))
    assert shared_cache.read(KEY) is None
    assert not caplog.records


def test_record_published_during_a_write_is_not_overwritten_by_an_earlier_one(
    shared_cache: SharedCache, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared_cache.write(Record(KEY, new_token(clock, "first")))
    clock.seconds += 60
    early = new_token(clock, "early")
    clock.seconds += 60
    later = Record(KEY, new_token(clock, "later"))
    other, version = shared_cache_in(shared_cache.directory.path, clock), shared_cache.version
    calls: list[object] = []

    def overtaken(key: Any) -> object:
        if len(calls) == 1:
            other.write(later)
        calls.append(key)
        return version(key)

    monkeypatch.setattr(shared_cache, "version", overtaken)
    shared_cache.write(Record(KEY, early))
    assert len(calls) > 1
    assert other.read(KEY) == later
    assert not any(name.endswith(".new") for name in shared_cache.directory.names())


def test_token_is_never_replaced_by_an_earlier_one(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    """A process that was stopped publishes its old result late."""
    early = new_token(clock, "early")
    clock.seconds += 60
    later = new_token(clock, "later")
    shared_cache.write(Record(KEY, later))
    for late in (Record(KEY, early), Record(KEY, failure=Refused("no"), failure_until=clock.now())):
        shared_cache.write(late)
        assert shared_cache.read(KEY) == Record(KEY, later)


def test_token_with_a_postponed_refresh_replaces_itself(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    token = new_token(clock)
    shared_cache.write(Record(KEY, token))
    shared_cache.write(Record(KEY, back_off(token, clock.now(), 0.5, None)))
    found = shared_cache.read(KEY)
    assert found is not None
    assert found.token is not None
    assert found.token.failed_refreshes == 1


def test_version_changes_with_each_write(shared_cache: SharedCache, clock: FakeClock) -> None:
    other = shared_cache_in(shared_cache.directory.path, clock)
    versions = [shared_cache.version(KEY)]
    for number in range(3):
        other.write(Record(KEY, new_token(clock, f"token-{number}")))
        versions.append(shared_cache.version(KEY))
        assert shared_cache.version(KEY) == versions[-1]
    assert versions[0] is None
    assert len(set(versions)) == 4


def test_clear_removes_own_files_except_locks(shared_cache: SharedCache, clock: FakeClock) -> None:
    shared_cache.write(Record(KEY, new_token(clock)))
    directory = Path(shared_cache.directory.path)
    foreign = ["azureProfile.json", "x.new", "msal_token_cache.json", "0" * 39 + ".json"]
    foreign += ["g" * 40 + ".json", "0" * 40, "0" * 41 + ".json", "0" * 40 + ".txt"]
    for name in foreign:
        (directory / name).touch()
    for name in (f"{'0' * 40}.12345678.new", f"{'0' * 40}.pause"):
        (directory / name).touch()
    with shared_cache.leased(shared_cache.name_of(KEY)):
        assert shared_cache.clear() == 1
    lock = f"{shared_cache.name_of(KEY)}.lock"
    assert sorted(os.listdir(directory)) == sorted([*foreign, lock])
    assert shared_cache.clear() == 0


def test_failure_is_read_by_another_process(shared_cache: SharedCache) -> None:
    failure = Unavailable("no such identity", "Assign it.", status=400)
    failure.reason = Reason.IDENTITY_NOT_FOUND
    failure.request_summary, failure.attempts, failure.seconds = "IMDS", 2, 1.5
    shared_cache.write(Record(KEY, failure=failure, failure_until=5.0))
    found = shared_cache.read(KEY)
    assert found is not None
    assert str(found.failure) == str(failure)
    assert isinstance(found.failure, Unavailable)
    assert found.failure.reason is Reason.IDENTITY_NOT_FOUND
