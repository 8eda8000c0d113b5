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

from imds_identity._core.challenge import Challenge
from imds_identity._core.failure import Refused, Unavailable
from imds_identity._core.freshness import set_back
from imds_identity._machine.entries import Entry
from imds_identity._machine.place import Place
from support import KEY, LIFE, PLACE, FakeClock, machine_in, token_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_identity._machine.store import MachineCache


@pytest.fixture
def machine(tmp_path: Path, clock: FakeClock) -> MachineCache:
    return machine_in(tmp_path / "cache", clock)


def entry_file(machine: MachineCache) -> Path:
    return Path(machine.directory.path) / f"{machine.name_of(KEY)}.json"


def change(machine: MachineCache, **changes: Any) -> None:
    """Plant what no process of ours would have written."""
    document = {**json.loads(entry_file(machine).read_text()), **changes}
    entry_file(machine).write_text(json.dumps(document))


def test_what_is_written_is_read_by_another_process(
    machine: MachineCache, clock: FakeClock
) -> None:
    entry = Entry(KEY, token_now(clock), challenge=Challenge("claims", clock.now() + 5))
    machine.write(entry)
    other = machine_in(machine.directory.path, clock)
    assert other.read(KEY) == entry
    assert other.entries() == [entry]


@pytest.mark.skipif(sys.platform == "win32", reason="modes and owners are POSIX's")
def test_nobody_else_can_read_it_from_its_first_byte(
    machine: MachineCache, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    write = os.write

    def watched(descriptor: int, content: bytes) -> int:
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return write(descriptor, content)

    monkeypatch.setattr(os, "write", watched)
    umask = os.umask(0)
    try:
        machine.write(Entry(KEY, token_now(clock)))
    finally:
        os.umask(umask)
    assert modes == [0o600]
    assert stat.S_IMODE(os.stat(machine.directory.path).st_mode) == 0o700


def test_names_show_nothing(machine: MachineCache, clock: FakeClock) -> None:
    machine.write(Entry(KEY, token_now(clock)))
    with machine.leased(machine.name_of(KEY)) as lease:
        assert lease
    shown = " ".join(os.listdir(machine.directory.path))
    assert not any(part in shown for part in KEY if part)


@pytest.mark.parametrize("place", [Place("next", PLACE.network), Place(PLACE.boot, "other")])
def test_an_entry_of_another_boot_or_network_is_none(
    machine: MachineCache, clock: FakeClock, place: Place
) -> None:
    machine.write(Entry(KEY, token_now(clock)))
    other = machine_in(machine.directory.path, clock, place)
    assert other.read(KEY) is None
    os.rename(entry_file(machine), entry_file(other))
    assert other.usable()
    assert other.read(KEY) is None
    assert other.entries() == []


def test_processes_of_two_places_are_not_in_one_another_s_way(
    machine: MachineCache, clock: FakeClock
) -> None:
    other = machine_in(machine.directory.path, clock, PLACE._replace(network="another"))
    entries = {cache: Entry(KEY, token_now(clock, name)) for cache, name in
               ((machine, "mine"), (other, "theirs"))}  # fmt: skip
    for cache, entry in entries.items():
        cache.write(entry)
    for cache, entry in entries.items():
        assert cache.read(KEY) == entry
    assert machine.name_of(KEY) != other.name_of(
        KEY
    )  # and they have leases and pauses of their own


def test_an_entry_of_another_endpoint_is_none_even_under_the_right_name(
    machine: MachineCache, clock: FakeClock
) -> None:
    other = KEY._replace(endpoint="http://127.0.0.1:1234/token")
    machine.write(Entry(other, token_now(clock)))
    os.rename(Path(machine.directory.path) / f"{machine.name_of(other)}.json", entry_file(machine))
    assert machine.read(KEY) is None


def test_a_token_from_the_future_is_none(machine: MachineCache, clock: FakeClock) -> None:
    machine.write(Entry(KEY, token_now(clock)))
    clock.seconds -= 10
    assert machine.read(KEY) is None


@pytest.mark.parametrize("days", [0.1, 13])
def test_where_nothing_tells_boots_apart_a_token_of_the_last_one_is_none(
    tmp_path: Path, clock: FakeClock, days: float
) -> None:
    clock.seconds = 600.0
    machine = machine_in(tmp_path / "cache", clock, Place())
    machine.write(Entry(KEY, token_now(clock)))
    clock.seconds = 700.0  # ten minutes after the next start
    clock.skew = days * 86400
    assert machine.read(KEY) is None


def test_a_token_that_has_expired_by_the_wall_clock_is_none(
    machine: MachineCache, clock: FakeClock
) -> None:
    machine.write(Entry(KEY, token_now(clock, life=30)))
    clock.skew = 31
    assert machine.read(KEY) is None


def test_a_wall_clock_that_is_set_right_slowly_spoils_nothing(
    machine: MachineCache, clock: FakeClock
) -> None:
    machine.write(Entry(KEY, token_now(clock)))
    clock.seconds += LIFE / 2
    clock.skew = 40
    assert machine.read(KEY) is not None


def test_every_truncation_is_none(machine: MachineCache, clock: FakeClock) -> None:
    machine.write(Entry(KEY, token_now(clock)))
    whole = entry_file(machine).read_bytes()
    for length in range(len(whole)):
        entry_file(machine).write_bytes(whole[:length])
        assert machine.read(KEY) is None


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
HYPOTHESIS = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@HYPOTHESIS
@given(content=st.binary() | ANYTHING.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_none(machine: MachineCache, clock: FakeClock, content: bytes) -> None:
    assert machine.usable()
    entry_file(machine).write_bytes(content)
    entry_file(machine).chmod(0o600)
    assert machine.read(KEY) is None


def whole_document(clock: FakeClock, machine: MachineCache) -> dict[str, Any]:
    failure = Refused("no", "Do this.", status=500, retry_after=3.0)
    challenge = Challenge("claims", clock.now() + 5, failure)
    entry = Entry(KEY, token_now(clock), failure, clock.now() + 2, challenge)
    entry_file(machine).unlink(missing_ok=True)
    machine.write(entry)
    document: dict[str, Any] = json.loads(entry_file(machine).read_text())
    return document


ODD = ANYTHING | st.sampled_from(
    [float("nan"), float("inf"), -1, 10**400, -(10**30), True, "\x1b]0;x\x07", "\ud800", [], {}]
)


@HYPOTHESIS
@given(data=st.data())
def test_any_field_may_hold_anything(
    machine: MachineCache, clock: FakeClock, data: st.DataObject
) -> None:
    document = whole_document(clock, machine)
    where: dict[str, Any] = data.draw(
        st.sampled_from([document, document["token"], document["failure"]])
    )
    where[data.draw(st.sampled_from(sorted(where)))] = data.draw(ODD)
    entry_file(machine).write_text(json.dumps(document))
    found = machine.read(KEY)
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
        {"setbacks": -1},
        {"more": 1},
    ],
)
def test_a_token_that_cannot_be_is_none(
    machine: MachineCache, clock: FakeClock, changes: dict[str, Any]
) -> None:
    machine.write(Entry(KEY, token_now(clock)))
    change(machine, token={**token_now(clock).facts(), **changes})
    assert machine.read(KEY) is None


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
    machine: MachineCache, clock: FakeClock, changes: dict[str, Any]
) -> None:
    machine.write(Entry(KEY, token_now(clock)))
    change(machine, **changes)
    assert machine.read(KEY) is None


def test_deep_json_is_none(machine: MachineCache) -> None:
    assert machine.usable()
    entry_file(machine).write_text("[" * 100_000)
    entry_file(machine).chmod(0o600)
    assert machine.read(KEY) is None


@pytest.mark.skipif(sys.platform == "win32", reason="modes and owners are POSIX's")
def test_what_is_planted_is_none_and_is_overwritten(
    machine: MachineCache, clock: FakeClock, tmp_path: Path
) -> None:
    machine.write(Entry(KEY, token_now(clock)))
    path, elsewhere = entry_file(machine), tmp_path / "elsewhere"
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
        assert machine.read(KEY) is None, plant
        machine.write(Entry(KEY, token_now(clock, "mine")))
        found = machine.read(KEY)
        assert found is not None, plant
        assert found.token is not None
        assert found.token.value == "mine"
        path.unlink()


@pytest.mark.parametrize("wrong", ["an error", "a short write"])
def test_a_write_that_fails_leaves_what_was_there(
    machine: MachineCache,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    wrong: str,
) -> None:
    machine.write(Entry(KEY, token_now(clock, "old")))
    write = os.write
    room = [7] if wrong == "a short write" else []

    def full(descriptor: int, content: bytes) -> int:
        if room:
            return write(descriptor, content[: room.pop()])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for _ in range(3):
        machine.write(Entry(KEY, token_now(clock, "new")))
    found = machine.read(KEY)
    assert found is not None
    assert found.token is not None
    assert found.token.value == "old"
    assert len(caplog.records) == 1
    assert "No space left" in caplog.text
    assert "new" not in " ".join(os.listdir(machine.directory.path))


def test_a_write_that_is_done_in_parts_is_whole(
    machine: MachineCache, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:50]))
    entry = Entry(KEY, token_now(clock))
    machine.write(entry)
    assert machine.read(KEY) == entry


def test_what_a_killed_writer_left_is_in_nobody_s_way_and_is_removed(
    machine: MachineCache, clock: FakeClock
) -> None:
    assert machine.usable()
    left = Path(machine.directory.path) / f"{machine.name_of(KEY)}.0a0a0a0a.new"
    left.write_bytes(b"half of a tok")
    os.utime(left, (0, 0))
    machine.write(Entry(KEY, token_now(clock)))
    assert machine.read(KEY) == Entry(KEY, token_now(clock))
    assert not left.exists()


def test_whoever_was_stopped_until_his_draft_was_swept_away_does_not_complain(
    machine: MachineCache,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    replace = machine.directory.replace

    def swept(source: str, target: str) -> None:
        machine.directory.remove(source)
        replace(source, target)

    monkeypatch.setattr(machine.directory, "replace", swept)
    machine.write(Entry(KEY, token_now(clock)))
    assert machine.read(KEY) is None
    assert not caplog.records


def test_who_writes_while_another_is_about_to_is_noticed(
    machine: MachineCache, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = token_now(clock, "early")
    clock.seconds += 60
    later = Entry(KEY, token_now(clock, "later"))
    other, stamp = machine_in(machine.directory.path, clock), machine.stamp
    looked: list[object] = []

    def overtaken(key: Any) -> object:
        if len(looked) == 1:
            other.write(later)
        looked.append(key)
        return stamp(key)

    monkeypatch.setattr(machine, "stamp", overtaken)
    machine.write(Entry(KEY, early))
    assert len(looked) > 1
    assert other.read(KEY) == later
    assert not any(name.endswith(".new") for name in machine.directory.names())


def test_a_token_is_never_replaced_by_an_earlier_one(
    machine: MachineCache, clock: FakeClock
) -> None:
    """A process that was stopped comes late with what it got, or with why it got nothing."""
    early = token_now(clock, "early")
    clock.seconds += 60
    later = token_now(clock, "later")
    machine.write(Entry(KEY, later))
    for late in (Entry(KEY, early), Entry(KEY, failure=Refused("no"), failure_until=clock.now())):
        machine.write(late)
        assert machine.read(KEY) == Entry(KEY, later)


def test_a_token_that_is_set_back_replaces_itself(machine: MachineCache, clock: FakeClock) -> None:
    token = token_now(clock)
    machine.write(Entry(KEY, token))
    machine.write(Entry(KEY, set_back(token, clock.now(), 0.5, None)))
    found = machine.read(KEY)
    assert found is not None
    assert found.token is not None
    assert found.token.setbacks == 1


def test_a_stamp_changes_whenever_somebody_writes(machine: MachineCache, clock: FakeClock) -> None:
    other = machine_in(machine.directory.path, clock)
    stamps = [machine.stamp(KEY)]
    for number in range(3):
        other.write(Entry(KEY, token_now(clock, f"token-{number}")))
        stamps.append(machine.stamp(KEY))
        assert machine.stamp(KEY) == stamps[-1]
    assert stamps[0] is None
    assert len(set(stamps)) == 4


def test_clear_removes_what_is_ours_by_name_and_no_lock(
    machine: MachineCache, clock: FakeClock
) -> None:
    machine.write(Entry(KEY, token_now(clock)))
    directory = Path(machine.directory.path)
    foreign = ["azureProfile.json", "x.new", "msal_token_cache.json", "0" * 39 + ".json"]
    foreign += ["g" * 40 + ".json", "0" * 40, "0" * 41 + ".json", "0" * 40 + ".txt"]
    for name in foreign:
        (directory / name).touch()
    for name in (f"{'0' * 40}.12345678.new", f"{'0' * 40}.pause"):
        (directory / name).touch()
    with machine.leased(machine.name_of(KEY)):
        assert machine.clear() == 1
    lock = f"{machine.name_of(KEY)}.lock"
    assert sorted(os.listdir(directory)) == sorted([*foreign, lock])
    assert machine.clear() == 0


def test_a_failure_travels(machine: MachineCache) -> None:
    failure = Unavailable("no such identity", "Assign it.", status=400)
    failure.asked, failure.attempts, failure.seconds = "IMDS", 2, 1.5
    machine.write(Entry(KEY, failure=failure, failure_until=5.0))
    found = machine.read(KEY)
    assert found is not None
    assert str(found.failure) == str(failure)
    assert isinstance(found.failure, Unavailable)
