"""What processes share: which directory, what is believed, who fetches, who waits."""

from __future__ import annotations

import errno
import functools
import json
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imds_identity._core.failure import Malformed, Refused, Unavailable
from imds_identity._core.key import Key
from imds_identity._core.token import Token
from imds_identity._engine.broker import Broker
from imds_identity._engine.sharing import Sharing
from imds_identity._machine import directory as directory_module
from imds_identity._machine import flock
from imds_identity._machine.directory import default_directory, in_memory
from imds_identity._machine.gate import Gate
from imds_identity._machine.store import Entry, MachineCache
from imds_identity._wire.exchange import Request, Response
from support import Answers, Background, FakeClock, middle

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_identity._engine.slot import Slot

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="shared by default on Linux only")

KEY = Key("imds", "http://service/token", "client_id", "1234-secret-identity", "https://vault")
LIFE = 86400.0


@pytest.fixture
def machine(tmp_path: Path, clock: FakeClock) -> MachineCache:
    return MachineCache(str(tmp_path / "cache"), clock, boot="this-boot")


def token(clock: FakeClock, value: str = "s3cret", life: float = LIFE) -> Token:
    now, wall = clock.now(), int(clock.wall())
    return Token(
        value, "Bearer", int(wall + life), int(wall + life / 2), now, now + life / 2, now + life
    )


def entry_file(machine: MachineCache) -> Path:
    return Path(machine.directory) / f"{machine.name_of(KEY)}.json"


class TestEntries:
    def test_what_is_written_is_read_by_another_process(
        self, machine: MachineCache, clock: FakeClock
    ) -> None:
        entry = Entry(KEY, token(clock))
        machine.write(entry)
        other = MachineCache(machine.directory, clock, boot="this-boot")
        assert other.read(KEY) == entry
        assert other.entries() == [entry]

    def test_nobody_else_can_read_it_from_its_first_byte(
        self, machine: MachineCache, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        modes: list[int] = []
        write = os.write

        def watched(descriptor: int, content: bytes) -> int:
            modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
            return write(descriptor, content)

        monkeypatch.setattr(os, "write", watched)
        umask = os.umask(0)
        try:
            machine.write(Entry(KEY, token(clock)))
        finally:
            os.umask(umask)
        assert modes == [0o600]
        assert stat.S_IMODE(os.stat(machine.directory).st_mode) == 0o700

    def test_names_show_nothing(self, machine: MachineCache, clock: FakeClock) -> None:
        machine.write(Entry(KEY, token(clock)))
        with machine.locked(machine.name_of(KEY), 0) as held:
            assert held
        shown = " ".join(os.listdir(machine.directory))
        assert not any(part in shown for part in KEY if part)

    def test_an_entry_of_another_boot_is_none(
        self, machine: MachineCache, clock: FakeClock
    ) -> None:
        machine.write(Entry(KEY, token(clock)))
        copied = MachineCache(machine.directory, clock, boot="another-boot")
        os.rename(entry_file(machine), entry_file(copied))
        assert copied.read(KEY) is None
        assert copied.entries() == []

    def test_an_entry_of_another_endpoint_is_none_even_under_the_right_name(
        self, machine: MachineCache, clock: FakeClock
    ) -> None:
        other = KEY._replace(endpoint="http://127.0.0.1:1234/token")
        machine.write(Entry(other, token(clock)))
        os.rename(Path(machine.directory) / f"{machine.name_of(other)}.json", entry_file(machine))
        assert machine.read(KEY) is None

    def test_a_token_of_another_clock_is_none(
        self, machine: MachineCache, clock: FakeClock
    ) -> None:
        machine.write(Entry(KEY, token(clock)))
        clock.seconds -= 10
        assert machine.read(KEY) is None

    def test_every_truncation_is_none(self, machine: MachineCache, clock: FakeClock) -> None:
        machine.write(Entry(KEY, token(clock)))
        whole = entry_file(machine).read_bytes()
        for length in range(len(whole)):
            entry_file(machine).write_bytes(whole[:length])
            assert machine.read(KEY) is None

    @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        content=st.binary()
        | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(
            lambda value: json.dumps(value).encode()
        )
    )
    def test_any_bytes_are_none(
        self, machine: MachineCache, clock: FakeClock, content: bytes
    ) -> None:
        machine.write(Entry(KEY, token(clock)))
        entry_file(machine).write_bytes(content)
        assert machine.read(KEY) is None

    @pytest.mark.parametrize(
        "change",
        [
            {"format": 2},
            {"key": ["imds"]},
            {"key": None},
            {"token": []},
            {"token": "s3cret"},
            {"token": [7, "Bearer", 0, 0, 0.0, 1.0, 2.0, 0]},
            {"token": ["", "Bearer", 0, 0, 0.0, 1.0, 2.0, 0]},
            {"token": ["a\r\nb", "Bearer", 0, 0, 0.0, 1.0, 2.0, 0]},
            {"token": ["t", "Bearer", 0, 0, 0.0, 1.0, 1e300, 0]},
            {"token": ["t", "Bearer", 0, 0, 0.0, "x", 2.0, 0]},
            {"token": ["t", "Bearer", 0, 0, 5.0, 1.0, 2.0, 0]},
            {"failure": {"kind": "OSError"}, "token": None},
        ],
    )
    def test_a_hostile_document_is_none(
        self, machine: MachineCache, clock: FakeClock, change: dict[str, object]
    ) -> None:
        machine.write(Entry(KEY, token(clock)))
        document = {**json.loads(entry_file(machine).read_text()), **change}
        entry_file(machine).write_text(json.dumps(document))
        assert machine.read(KEY) is None

    def test_what_another_could_have_written_is_none_and_is_overwritten(
        self, machine: MachineCache, clock: FakeClock, tmp_path: Path
    ) -> None:
        machine.write(Entry(KEY, token(clock)))
        path, elsewhere = entry_file(machine), tmp_path / "elsewhere"
        os.rename(path, elsewhere)

        def as_link() -> None:
            path.symlink_to(elsewhere)

        def as_fifo() -> None:
            os.mkfifo(path)

        def as_open_file() -> None:
            path.write_bytes(elsewhere.read_bytes())
            path.chmod(0o644)

        def as_anothers() -> None:
            path.write_bytes(elsewhere.read_bytes())
            path.chmod(0o600)
            os.chown(path, 12345, 12345)

        hostile: list[Callable[[], None]] = [as_link, as_fifo, as_open_file]
        for plant in [*hostile, *([as_anothers] if os.geteuid() == 0 else [])]:
            plant()
            assert machine.read(KEY) is None, plant
            machine.write(Entry(KEY, token(clock, "mine")))
            found = machine.read(KEY)
            assert found is not None, plant
            assert found.token is not None
            assert found.token.value == "mine"
            path.unlink()

    def test_a_write_that_fails_leaves_what_was_there(
        self,
        machine: MachineCache,
        clock: FakeClock,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        machine.write(Entry(KEY, token(clock, "old")))

        def full(descriptor: int, content: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        for _ in range(3):
            machine.write(Entry(KEY, token(clock, "new")))
        found = machine.read(KEY)
        assert found is not None
        assert found.token is not None
        assert found.token.value == "old"
        assert len(caplog.records) == 1
        assert "No space left" in caplog.text
        assert "new" not in " ".join(os.listdir(machine.directory))

    def test_a_writer_that_was_killed_leaves_nothing_in_the_way(
        self, machine: MachineCache, clock: FakeClock
    ) -> None:
        assert machine.usable()
        Path(f"{entry_file(machine)}.new").write_bytes(b"half of a tok")
        machine.write(Entry(KEY, token(clock)))
        assert machine.read(KEY) == Entry(KEY, token(clock))

    def test_clear_removes_tokens_and_not_locks(
        self, machine: MachineCache, clock: FakeClock
    ) -> None:
        machine.write(Entry(KEY, token(clock)))
        with machine.locked(machine.name_of(KEY), 0):
            assert machine.clear() == 1
        assert [name.endswith(".lock") for name in os.listdir(machine.directory)] == [True]
        assert machine.clear() == 0

    def test_a_failure_travels(self, machine: MachineCache) -> None:
        failure = Unavailable("no such identity", "Assign it.", status=400)
        failure.asked, failure.attempts, failure.seconds = "IMDS", 2, 1.5
        machine.write(Entry(KEY, failure=failure, failure_until=5.0))
        found = machine.read(KEY)
        assert found is not None
        assert str(found.failure) == str(failure)
        assert isinstance(found.failure, Unavailable)


class TestDirectories:
    def refused(self, path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> str:
        machine = MachineCache(str(path), clock)
        for _ in range(3):
            machine.write(Entry(KEY, token(clock)))
            assert machine.read(KEY) is None
            with machine.locked("x", 0) as held:
                assert not held
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
            assert "is open to others" in self.refused(path, clock, caplog)
            assert list(path.iterdir()) == []

    def test_a_link(
        self, tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "real").mkdir(mode=0o700)
        (tmp_path / "link").symlink_to(tmp_path / "real")
        assert "a link is none" in self.refused(tmp_path / "link", clock, caplog)

    def test_a_file(
        self, tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").touch(mode=0o600)
        assert "is no directory" in self.refused(tmp_path / "file", clock, caplog)

    @pytest.mark.skipif(
        not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to give it away"
    )
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


class TestTheDefaultDirectory:
    @pytest.fixture(autouse=True)
    def _memory(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.shared_memory = tmp_path / "shm"
        self.shared_memory.mkdir()
        self.in_memory = {str(self.shared_memory), str(tmp_path / "run")}
        monkeypatch.setattr(directory_module, "_SHARED_MEMORY", str(self.shared_memory))
        monkeypatch.setattr(directory_module, "in_memory", self.in_memory.__contains__)
        monkeypatch.setattr(sys, "platform", "linux")
        return

    def test_the_runtime_directory_is_the_first_choice(self, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        assert default_directory(str(tmp_path / "run")) == str(tmp_path / "run/imds-identity")

    @pytest.mark.parametrize("runtime", [None, "", "relative", "/nonexistent"])
    def test_shared_memory_is_the_second(self, runtime: str | None) -> None:
        expected = self.shared_memory / f"imds-identity-{os.geteuid()}"
        assert default_directory(runtime) == str(expected)

    @pytest.mark.skipif(
        not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to give it away"
    )
    def test_another_user_s_runtime_directory_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        os.chown(tmp_path / "run", 12345, 12345)
        expected = self.shared_memory / f"imds-identity-{os.geteuid()}"
        assert default_directory(str(tmp_path / "run")) == str(expected)

    def test_a_durable_disk_is_none(self, tmp_path: Path) -> None:
        self.in_memory.clear()
        assert default_directory(str(tmp_path)) is None

    def test_elsewhere_there_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "win32")
        assert default_directory(None) is None


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="no shared memory")
def test_memory_is_told_from_disk() -> None:
    assert in_memory("/dev/shm")
    assert not in_memory("/proc")


class Service:
    """Counts fetches."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.fetches = 0
        self.error: Exception | None = None

    def __call__(self) -> Token:
        self.fetches += 1
        if self.error:
            raise self.error
        return token(self.clock, f"token-{self.fetches}")


class Process:
    """A process of the machine: a broker of its own, and the shared cache."""

    def __init__(self, machine: MachineCache, service: Service, background: Background) -> None:
        self.machine = machine
        self.service = service
        self.broker = Broker(machine.clock, middle, background)
        self.slot: Slot = self.broker.slot(KEY)

    def get(self, claims: str | None = None) -> str:
        sharing = Sharing(self.machine, self.slot, middle)
        fetch = lambda: sharing.get(lambda expect: self.service(), claims)  # noqa: E731
        return self.broker.get(self.slot, fetch, claims).value


@pytest.fixture
def service(clock: FakeClock) -> Service:
    return Service(clock)


@pytest.fixture
def processes(machine: MachineCache, service: Service, background: Background) -> list[Process]:
    return [Process(machine, service, background) for _ in range(60)]


class TestSharing:
    def test_one_process_fetches_for_all(self, processes: list[Process], service: Service) -> None:
        assert {process.get() for process in processes} == {"token-1"}
        assert service.fetches == 1

    def test_a_due_token_is_refreshed_by_one_and_picked_up_by_the_others(
        self, processes: list[Process], service: Service, clock: FakeClock, background: Background
    ) -> None:
        for process in processes:
            process.get()
        clock.seconds += LIFE / 2
        assert {process.get() for process in processes} == {"token-1"}
        background.run()
        assert {process.get() for process in processes} == {"token-2"}
        assert service.fetches == 2

    def test_in_an_outage_one_process_tries_for_all(
        self, processes: list[Process], service: Service, clock: FakeClock, background: Background
    ) -> None:
        for process in processes:
            process.get()
        service.error = Refused("down")
        clock.seconds += LIFE / 2
        assert {process.get() for process in processes} == {"token-1"}
        background.run()
        assert {process.get() for process in processes} == {"token-1"}
        assert service.fetches == 2
        service.error = None
        clock.seconds += 31
        assert {process.get() for process in processes} == {"token-1"}
        background.run()
        assert {process.get() for process in processes} == {"token-3"}
        assert service.fetches == 3

    def test_a_failure_is_everybody_s_for_two_seconds(
        self, processes: list[Process], service: Service, clock: FakeClock
    ) -> None:
        service.error = Malformed("nonsense", status=200)
        for process in processes:
            with pytest.raises(Malformed, match="nonsense"):
                process.get()
        assert service.fetches == 1
        service.error = None
        clock.seconds += 2
        assert {process.get() for process in processes} == {"token-2"}

    def test_claims_bypass_what_is_shared_and_replace_it(
        self, processes: list[Process], service: Service
    ) -> None:
        first, second, third = processes[:3]
        assert (first.get(), second.get()) == ("token-1", "token-1")
        assert second.get(claims="c") == "token-2"
        assert third.get() == "token-2"
        assert service.fetches == 2

    def test_what_was_cleared_during_a_fetch_is_not_shared(
        self, processes: list[Process], machine: MachineCache
    ) -> None:
        process = processes[0]
        fetch = process.service

        def cleared() -> Token:
            process.broker.clear()
            return fetch()

        process.service = cleared  # type: ignore[assignment]
        process.get()
        assert machine.read(KEY) is None

    def test_who_cannot_lock_goes_without_and_leaves_nothing(
        self,
        processes: list[Process],
        machine: MachineCache,
        service: Service,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("imds_identity._machine.store._LONGEST_WAIT", 0.0)
        other = MachineCache(machine.directory, machine.clock, boot="this-boot")
        with other.locked(machine.name_of(KEY), 0) as held:
            assert held
            assert processes[0].get() == "token-1"
        assert machine.read(KEY) is None
        assert service.fetches == 1

    def test_who_must_wait_does_so_by_filelock(
        self, processes: list[Process], machine: MachineCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with machine.locked("x", 0) as held:
            assert held
            with machine.locked("x", 0) as second:
                assert not second
        with machine.locked("x", 0) as again:
            assert again
        monkeypatch.setattr(flock, "AVAILABLE", False)  # as on Windows
        with machine.locked("x", 0) as held, machine.locked("x", 0) as second:
            assert (held, second) == (True, False)
        assert processes[0].get() == "token-1"

    def test_a_file_system_without_locks_is_gone_without(
        self,
        processes: list[Process],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        import fcntl

        def unsupported(descriptor: int, operation: int) -> None:
            raise OSError(errno.ENOSYS, "Function not implemented")

        monkeypatch.setattr(fcntl, "flock", unsupported)
        assert processes[0].get() == "token-1"
        assert len(caplog.records) == 1
        assert "cannot be locked" in caplog.text


class TestTheGate:
    @pytest.fixture
    def gates(self, machine: MachineCache, clock: FakeClock) -> list[Gate]:
        assert machine.usable()
        return [Gate(machine, "service", clock, middle) for _ in range(40)]

    @staticmethod
    def send(gate: Gate, answer: Response | None = None) -> Response:
        reply = answer or Answers(FakeClock()).raw(200)
        return gate.around(lambda request: reply)(Request("http://service/", {}))

    def test_no_more_than_four_are_under_way(self, gates: list[Gate], clock: FakeClock) -> None:
        under_way = most = 0

        def nested(gate: int) -> Response:
            nonlocal under_way, most

            def send(request: Request) -> Response:
                nonlocal under_way, most
                under_way += 1
                most = max(most, under_way)
                if gate < 3:
                    nested(gate + 1)
                else:
                    # A fifth finds no lane; it waits until its patience is over.
                    started = clock.now()
                    assert not any(lane_is_free(gates[0], f"lane-{n}") for n in range(4))
                    assert clock.now() == started
                under_way -= 1
                return Answers(clock).raw(200)

            return gates[gate].around(send)(Request("http://service/", {}))

        nested(0)
        assert most == 4

    def test_twenty_a_second_are_not_exceeded(self, gates: list[Gate], clock: FakeClock) -> None:
        starts: list[float] = []
        for gate in gates:
            self.send(gate)
            starts.append(clock.now())
        for start in starts:
            assert sum(start <= other < start + 1 for other in starts) <= 20

    def test_a_pause_asked_of_one_is_kept_by_all_and_ends_spread(
        self, machine: MachineCache, clock: FakeClock
    ) -> None:
        assert machine.usable()
        first = Gate(machine, "service", clock, middle)
        self.send(first, Answers(clock).raw(429, retry_after="20"))
        waits = []
        for dice in (0.1, 0.5, 0.9):
            clock.seconds = 1000.0
            clock.slept.clear()
            self.send(Gate(machine, "service", clock, functools.partial(float, dice)))
            waits.append(clock.slept[0])
        assert min(waits) > 20
        assert len(set(waits)) == 3

    @pytest.mark.parametrize("status", [410, 429])
    def test_a_pause_without_a_length_is_about_two_seconds(
        self, gates: list[Gate], clock: FakeClock, status: int
    ) -> None:
        self.send(gates[0], Answers(clock).raw(status))
        self.send(gates[1])
        assert clock.slept[0] == pytest.approx(2 + 1)

    def test_other_answers_ask_for_no_pause(self, gates: list[Gate], clock: FakeClock) -> None:
        for status in (200, 400, 404, 500):
            self.send(gates[0], Answers(clock).raw(status))
        assert clock.slept == []

    def test_a_rest_of_minutes_is_not_waited_for(self, gates: list[Gate], clock: FakeClock) -> None:
        self.send(gates[0], Answers(clock).raw(429, retry_after="600"))
        with pytest.raises(Refused, match="asked this machine to rest, for 600 s more"):
            self.send(gates[1])

    def test_another_endpoint_has_a_gate_of_its_own(
        self, machine: MachineCache, gates: list[Gate], clock: FakeClock
    ) -> None:
        self.send(gates[0], Answers(clock).raw(429, retry_after="20"))
        self.send(Gate(machine, "another", clock, middle))
        assert clock.slept == []

    def test_where_nothing_can_be_written_requests_leave_all_the_same(
        self, gates: list[Gate], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*args: object, **kwargs: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "open", full)
        for gate in gates:
            assert self.send(gate).status == 200

    def test_a_moment_from_nowhere_is_ignored(
        self, machine: MachineCache, gates: list[Gate], clock: FakeClock
    ) -> None:
        (Path(machine.directory) / "service-pause.lock").touch()  # the wall clock's time
        self.send(gates[0])
        assert clock.slept == []


def lane_is_free(gate: Gate, lane: str) -> bool:
    descriptor = flock.take(gate._path(lane))
    if descriptor is not None:
        flock.give_back(descriptor)
    return descriptor is not None
