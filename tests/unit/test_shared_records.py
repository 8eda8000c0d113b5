"""What one process leaves for another, and what of it is believed."""

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
from imds_identity._shared_cache.record import Record
from support import KEY, LIFE, NAMESPACE, FakeClock, shared_cache_in, token_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_identity._shared_cache.store import SharedCache


@pytest.fixture
def shared_cache(tmp_path: Path, clock: FakeClock) -> SharedCache:
    return shared_cache_in(tmp_path / "cache", clock)


def entry_file(shared_cache: SharedCache) -> Path:
    return Path(shared_cache.directory.path) / f"{shared_cache.name_of(KEY)}.json"


def change(shared_cache: SharedCache, **changes: Any) -> None:
    """Plant what no process of ours would have written."""
    document = {**json.loads(entry_file(shared_cache).read_text()), **changes}
    entry_file(shared_cache).write_text(json.dumps(document))


def test_what_is_written_is_read_by_another_process(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    record = Record(KEY, token_now(clock), challenge=Challenge("claims", clock.now() + 5))
    shared_cache.write(record)
    other = shared_cache_in(shared_cache.directory.path, clock)
    assert other.read(KEY) == record
    assert other.records() == [record]


@pytest.mark.skipif(sys.platform == "win32", reason="modes and owners are POSIX's")
def test_nobody_else_can_read_it_from_its_first_byte(
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
        shared_cache.write(Record(KEY, token_now(clock)))
    finally:
        os.umask(umask)
    assert modes == [0o600]
    assert stat.S_IMODE(os.stat(shared_cache.directory.path).st_mode) == 0o700


def test_names_show_nothing(shared_cache: SharedCache, clock: FakeClock) -> None:
    shared_cache.write(Record(KEY, token_now(clock)))
    with shared_cache.leased(shared_cache.name_of(KEY)) as lease:
        assert lease
    shown = " ".join(os.listdir(shared_cache.directory.path))
    assert not any(part in shown for part in KEY if part)


@pytest.mark.parametrize(
    "namespace", [Namespace("next", NAMESPACE.network), Namespace(NAMESPACE.boot, "other")]
)
def test_an_entry_of_another_boot_or_network_is_none(
    shared_cache: SharedCache, clock: FakeClock, namespace: Namespace
) -> None:
    shared_cache.write(Record(KEY, token_now(clock)))
    other = shared_cache_in(shared_cache.directory.path, clock, namespace)
    assert other.read(KEY) is None
    os.rename(entry_file(shared_cache), entry_file(other))
    assert other.usable()
    assert other.read(KEY) is None
    assert other.records() == []


def test_processes_of_two_places_are_not_in_one_another_s_way(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    other = shared_cache_in(
        shared_cache.directory.path, clock, NAMESPACE._replace(network="another")
    )
    records = {cache: Record(KEY, token_now(clock, name)) for cache, name in
               ((shared_cache, "mine"), (other, "theirs"))}  # fmt: skip
    for cache, record in records.items():
        cache.write(record)
    for cache, record in records.items():
        assert cache.read(KEY) == record
    assert shared_cache.name_of(KEY) != other.name_of(
        KEY
    )  # and they have leases and pauses of their own


def test_an_entry_of_another_endpoint_is_none_even_under_the_right_name(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    other = KEY._replace(endpoint="http://127.0.0.1:1234/token")
    shared_cache.write(Record(other, token_now(clock)))
    os.rename(
        Path(shared_cache.directory.path) / f"{shared_cache.name_of(other)}.json",
        entry_file(shared_cache),
    )
    assert shared_cache.read(KEY) is None


def test_a_token_from_the_future_is_none(shared_cache: SharedCache, clock: FakeClock) -> None:
    shared_cache.write(Record(KEY, token_now(clock)))
    clock.seconds -= 10
    assert shared_cache.read(KEY) is None


@pytest.mark.parametrize("days", [0.1, 13])
def test_where_nothing_tells_boots_apart_a_token_of_the_last_one_is_none(
    tmp_path: Path, clock: FakeClock, days: float
) -> None:
    clock.seconds = 600.0
    shared_cache = shared_cache_in(tmp_path / "cache", clock, Namespace())
    shared_cache.write(Record(KEY, token_now(clock)))
    clock.seconds = 700.0  # ten minutes after the next start
    clock.skew = days * 86400
    assert shared_cache.read(KEY) is None


def test_a_token_that_has_expired_by_the_wall_clock_is_none(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    shared_cache.write(Record(KEY, token_now(clock, life=30)))
    clock.skew = 31
    assert shared_cache.read(KEY) is None


def test_a_wall_clock_that_is_set_right_slowly_spoils_nothing(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    shared_cache.write(Record(KEY, token_now(clock)))
    clock.seconds += LIFE / 2
    clock.skew = 40
    assert shared_cache.read(KEY) is not None


def test_every_truncation_is_none(shared_cache: SharedCache, clock: FakeClock) -> None:
    shared_cache.write(Record(KEY, token_now(clock)))
    whole = entry_file(shared_cache).read_bytes()
    for length in range(len(whole)):
        entry_file(shared_cache).write_bytes(whole[:length])
        assert shared_cache.read(KEY) is None


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
HYPOTHESIS = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@HYPOTHESIS
@given(content=st.binary() | ANYTHING.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_none(shared_cache: SharedCache, clock: FakeClock, content: bytes) -> None:
    assert shared_cache.usable()
    entry_file(shared_cache).write_bytes(content)
    entry_file(shared_cache).chmod(0o600)
    assert shared_cache.read(KEY) is None


def whole_document(clock: FakeClock, shared_cache: SharedCache) -> dict[str, Any]:
    failure = Refused("no", "Do this.", status=500, retry_after=3.0)
    challenge = Challenge("claims", clock.now() + 5, failure)
    record = Record(KEY, token_now(clock), failure, clock.now() + 2, challenge)
    entry_file(shared_cache).unlink(missing_ok=True)
    shared_cache.write(record)
    document: dict[str, Any] = json.loads(entry_file(shared_cache).read_text())
    return document


ODD = ANYTHING | st.sampled_from(
    [float("nan"), float("inf"), -1, 10**400, -(10**30), True, "\x1b]0;x\x07", "\ud800", [], {}]
)


@HYPOTHESIS
@given(data=st.data())
def test_any_field_may_hold_anything(
    shared_cache: SharedCache, clock: FakeClock, data: st.DataObject
) -> None:
    document = whole_document(clock, shared_cache)
    where: dict[str, Any] = data.draw(
        st.sampled_from([document, document["token"], document["failure"]])
    )
    where[data.draw(st.sampled_from(sorted(where)))] = data.draw(ODD)
    entry_file(shared_cache).write_text(json.dumps(document))
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
def test_a_token_that_cannot_be_is_none(
    shared_cache: SharedCache, clock: FakeClock, changes: dict[str, Any]
) -> None:
    shared_cache.write(Record(KEY, token_now(clock)))
    change(shared_cache, token={**token_now(clock).facts(), **changes})
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
def test_a_document_of_another_kind_is_none(
    shared_cache: SharedCache, clock: FakeClock, changes: dict[str, Any]
) -> None:
    shared_cache.write(Record(KEY, token_now(clock)))
    change(shared_cache, **changes)
    assert shared_cache.read(KEY) is None


def test_deep_json_is_none(shared_cache: SharedCache) -> None:
    assert shared_cache.usable()
    entry_file(shared_cache).write_text("[" * 100_000)
    entry_file(shared_cache).chmod(0o600)
    assert shared_cache.read(KEY) is None


@pytest.mark.skipif(sys.platform == "win32", reason="modes and owners are POSIX's")
def test_what_is_planted_is_none_and_is_overwritten(
    shared_cache: SharedCache, clock: FakeClock, tmp_path: Path
) -> None:
    shared_cache.write(Record(KEY, token_now(clock)))
    path, elsewhere = entry_file(shared_cache), tmp_path / "elsewhere"
    os.rename(path, elsewhere)

    def as_link() -> None:
        path.symlink_to(elsewhere)

    def as_second_name() -> None:
        os.link(elsewhere, path)

    def as_fifo() -> None:
        os.mkfifo(path, 0o600)

    def as_open_file() -> None:
        path.write_bytes(elsewhere.read_bytes())
        path.chmod(0o644)

    def as_anothers() -> None:
        path.write_bytes(elsewhere.read_bytes())
        path.chmod(0o600)
        os.chown(path, 12345, 12345)

    hostile: list[Callable[[], None]] = [as_link, as_second_name, as_fifo, as_open_file]
    for plant in [*hostile, *([as_anothers] if os.geteuid() == 0 else [])]:
        plant()
        assert shared_cache.read(KEY) is None, plant
        shared_cache.write(Record(KEY, token_now(clock, "mine")))
        found = shared_cache.read(KEY)
        assert found is not None, plant
        assert found.token is not None
        assert found.token.value == "mine"
        path.unlink()


@pytest.mark.parametrize("wrong", ["an error", "a short write"])
def test_a_write_that_fails_leaves_what_was_there(
    shared_cache: SharedCache,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    wrong: str,
) -> None:
    shared_cache.write(Record(KEY, token_now(clock, "old")))
    write = os.write
    room = [7] if wrong == "a short write" else []

    def full(descriptor: int, content: bytes) -> int:
        if room:
            return write(descriptor, content[: room.pop()])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for _ in range(3):
        shared_cache.write(Record(KEY, token_now(clock, "new")))
    found = shared_cache.read(KEY)
    assert found is not None
    assert found.token is not None
    assert found.token.value == "old"
    assert len(caplog.records) == 1
    assert "No space left" in caplog.text
    assert "new" not in " ".join(os.listdir(shared_cache.directory.path))


def test_a_write_that_is_done_in_parts_is_whole(
    shared_cache: SharedCache, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:50]))
    record = Record(KEY, token_now(clock))
    shared_cache.write(record)
    assert shared_cache.read(KEY) == record


def test_what_a_killed_writer_left_is_in_nobody_s_way_and_is_removed(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    assert shared_cache.usable()
    left = Path(shared_cache.directory.path) / f"{shared_cache.name_of(KEY)}.0a0a0a0a.new"
    left.write_bytes(b"half of a tok")
    os.utime(left, (0, 0))
    shared_cache.write(Record(KEY, token_now(clock)))
    assert shared_cache.read(KEY) == Record(KEY, token_now(clock))
    assert not left.exists()


def test_whoever_was_stopped_until_his_draft_was_swept_away_does_not_complain(
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
    shared_cache.write(Record(KEY, token_now(clock)))
    assert shared_cache.read(KEY) is None
    assert not caplog.records


def test_who_writes_while_another_is_about_to_is_noticed(
    shared_cache: SharedCache, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = token_now(clock, "early")
    clock.seconds += 60
    later = Record(KEY, token_now(clock, "later"))
    other, version = shared_cache_in(shared_cache.directory.path, clock), shared_cache.version
    looked: list[object] = []

    def overtaken(key: Any) -> object:
        if len(looked) == 1:
            other.write(later)
        looked.append(key)
        return version(key)

    monkeypatch.setattr(shared_cache, "version", overtaken)
    shared_cache.write(Record(KEY, early))
    assert len(looked) > 1
    assert other.read(KEY) == later
    assert not any(name.endswith(".new") for name in shared_cache.directory.names())


def test_a_token_is_never_replaced_by_an_earlier_one(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    """A process that was stopped comes late with what it got, or with why it got nothing."""
    early = token_now(clock, "early")
    clock.seconds += 60
    later = token_now(clock, "later")
    shared_cache.write(Record(KEY, later))
    for late in (Record(KEY, early), Record(KEY, failure=Refused("no"), failure_until=clock.now())):
        shared_cache.write(late)
        assert shared_cache.read(KEY) == Record(KEY, later)


def test_a_token_that_is_set_back_replaces_itself(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    token = token_now(clock)
    shared_cache.write(Record(KEY, token))
    shared_cache.write(Record(KEY, back_off(token, clock.now(), 0.5, None)))
    found = shared_cache.read(KEY)
    assert found is not None
    assert found.token is not None
    assert found.token.failed_refreshes == 1


def test_a_stamp_changes_whenever_somebody_writes(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    other = shared_cache_in(shared_cache.directory.path, clock)
    stamps = [shared_cache.version(KEY)]
    for number in range(3):
        other.write(Record(KEY, token_now(clock, f"token-{number}")))
        stamps.append(shared_cache.version(KEY))
        assert shared_cache.version(KEY) == stamps[-1]
    assert stamps[0] is None
    assert len(set(stamps)) == 4


def test_clear_removes_what_is_ours_by_name_and_no_lock(
    shared_cache: SharedCache, clock: FakeClock
) -> None:
    shared_cache.write(Record(KEY, token_now(clock)))
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


def test_a_failure_travels(shared_cache: SharedCache) -> None:
    failure = Unavailable("no such identity", "Assign it.", status=400)
    failure.reason = Reason.IDENTITY_NOT_FOUND
    failure.request_summary, failure.attempts, failure.seconds = "IMDS", 2, 1.5
    shared_cache.write(Record(KEY, failure=failure, failure_until=5.0))
    found = shared_cache.read(KEY)
    assert found is not None
    assert str(found.failure) == str(failure)
    assert isinstance(found.failure, Unavailable)
    assert found.failure.reason is Reason.IDENTITY_NOT_FOUND
