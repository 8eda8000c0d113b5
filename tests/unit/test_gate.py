"""The limits of a service, kept by all processes of a machine together."""

from __future__ import annotations

import errno
import functools
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imds_identity._core.failure import Refused
from imds_identity._machine.gate import IDENTITY_LIMITS, METADATA_LIMITS, Gate, Limits
from support import WINE, Answers, FakeClock, machine_in, middle

if TYPE_CHECKING:
    from imds_identity._machine.store import MachineCache
    from imds_identity._wire.exchange import Response


@pytest.fixture
def machine(tmp_path: Path, clock: FakeClock) -> MachineCache:
    return machine_in(tmp_path / "cache", clock)


@pytest.fixture
def gates(machine: MachineCache) -> list[Gate]:
    return [Gate(machine, "service", middle) for _ in range(40)]


def nobody(seconds: float) -> None:
    """Nobody waits."""


def send(gate: Gate, answer: Response | None = None) -> None:
    with gate.admitted(15, nobody):
        pass
    gate.heed(answer or Answers(FakeClock()).raw(200))


def test_no_more_than_four_are_under_way(gates: list[Gate], clock: FakeClock) -> None:
    with (
        gates[0].admitted(15, nobody),
        gates[1].admitted(15, nobody),
        gates[2].admitted(15, nobody),
    ):
        assert clock.slept == []
        with gates[3].admitted(15, nobody):
            assert clock.slept == []
            # A fifth waits, until those before it are overdue.
            with gates[4].admitted(15, nobody):
                assert clock.now() >= 1000 + 15


def test_a_stopped_process_does_not_keep_its_lane(gates: list[Gate], clock: FakeClock) -> None:
    with gates[0].admitted(15, nobody):
        clock.seconds += 20
        started = clock.now()
        with (
            gates[1].admitted(15, nobody),
            gates[2].admitted(15, nobody),
            gates[3].admitted(15, nobody),
            gates[4].admitted(15, nobody),
        ):
            assert clock.now() - started < 1


def test_where_everybody_is_overdue_nobody_waits(gates: list[Gate], clock: FakeClock) -> None:
    with ExitStack() as stopped:
        for gate in gates[:16]:
            stopped.enter_context(gate.admitted(15, nobody))
            clock.seconds += 1
        clock.seconds += 30
        started = clock.now()
        with gates[16].admitted(15, nobody):
            assert clock.now() - started < 1


@pytest.mark.parametrize(("limits", "most"), [(IDENTITY_LIMITS, 20), (METADATA_LIMITS, 5)])
@pytest.mark.skipif(WINE, reason="wine keeps no time of access")
def test_so_many_a_second_are_not_exceeded(
    machine: MachineCache, clock: FakeClock, limits: Limits, most: int
) -> None:
    starts: list[float] = []
    for _ in range(3 * most):
        with Gate(machine, "service", middle, limits).admitted(15, nobody):
            starts.append(clock.now())
    for start in starts:
        assert sum(start <= other < start + 1 for other in starts) <= most
    assert starts[-1] - starts[0] < 6


def test_where_at_once_is_not_limited_slow_requests_keep_nobody_waiting(
    machine: MachineCache, clock: FakeClock
) -> None:
    gate = Gate(machine, "service", middle, METADATA_LIMITS)
    with gate.admitted(15, nobody), gate.admitted(15, nobody), gate.admitted(15, nobody):
        assert clock.now() - 1000 < 0.6


def test_a_pause_asked_of_one_is_kept_by_all_and_ends_spread(
    machine: MachineCache, clock: FakeClock
) -> None:
    send(Gate(machine, "service", middle), Answers(clock).error(429, retry_after="20"))
    waits = []
    for dice in (0.1, 0.5, 0.9):
        clock.seconds = 1000.3
        clock.slept.clear()
        send(Gate(machine, "service", functools.partial(float, dice)))
        waits.append(clock.slept[0])
    assert min(waits) >= 19.7
    assert len(set(waits)) == 3


@pytest.mark.parametrize("status", [410, 429])
def test_a_pause_without_a_length_is_about_two_seconds(
    gates: list[Gate], clock: FakeClock, status: int
) -> None:
    send(gates[0], Answers(clock).error(status))
    send(gates[1])
    assert clock.slept[0] == pytest.approx(2 + 1)


def test_nobody_else_s_wish_makes_a_machine_pause(gates: list[Gate], clock: FakeClock) -> None:
    for body in ("slow down", "<html>", '{"message": "busy"}', '{"error": {"code": 429}}', "[]"):
        send(gates[0], Answers(clock).raw(429, body, retry_after="60"))
    send(gates[1])
    assert sum(clock.slept) < 2


def test_other_answers_ask_for_no_pause(gates: list[Gate], clock: FakeClock) -> None:
    for status in (200, 400, 404, 500):
        send(gates[0], Answers(clock).error(status))
    assert sum(clock.slept) < 1


def test_a_pause_only_grows_while_it_lasts(gates: list[Gate], clock: FakeClock) -> None:
    gates[0].heed(Answers(clock).error(429, retry_after="30"))
    gates[1].heed(Answers(clock).error(429))
    gates[2].heed(Answers(clock).error(429, retry_after="5"))
    send(gates[3])
    assert clock.slept[0] == pytest.approx(31)
    gates[0].heed(Answers(clock).error(429, retry_after="5"))
    gates[1].heed(Answers(clock).error(429, retry_after="30"))
    send(gates[3])
    assert clock.slept[-1] == pytest.approx(31)


@pytest.mark.parametrize("asked", ["121", "600", "999999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_no_pause_is_longer_than_two_minutes(
    gates: list[Gate], clock: FakeClock, asked: str
) -> None:
    gates[0].heed(Answers(clock).error(429, retry_after=asked))
    with pytest.raises(
        Refused, match="the service asked this machine to rest, for 120 s more"
    ) as caught:
        send(gates[1])
    assert "Tried" not in str(caught.value)
    assert caught.value.retry_after == pytest.approx(120)
    clock.seconds += 120
    send(gates[1])


@pytest.mark.skipif(WINE, reason="wine keeps no time of access")
def test_a_pause_that_begins_while_one_waits_for_a_lane_is_kept(
    gates: list[Gate], clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for gate in gates[:4]:
        send(gate)
    sleep = clock.sleep

    def and_then(seconds: float) -> None:
        sleep(seconds)
        if len(clock.slept) == 1:
            gates[5].heed(Answers(clock).error(429, retry_after="20"))

    monkeypatch.setattr(clock, "sleep", and_then)
    send(gates[6])
    assert clock.now() >= 1020


def test_clear_ends_a_pause(machine: MachineCache, clock: FakeClock) -> None:
    name = "0" * 40
    gate = Gate(machine, name, middle)
    gate.heed(Answers(clock).error(429, retry_after="20"))
    machine.clear()
    send(gate)
    assert clock.slept == []


def test_another_endpoint_has_a_gate_of_its_own(
    machine: MachineCache, gates: list[Gate], clock: FakeClock
) -> None:
    send(gates[0], Answers(clock).error(429, retry_after="20"))
    send(Gate(machine, "another", middle))
    assert clock.slept == []


def test_where_nothing_can_be_written_requests_leave_all_the_same(
    gates: list[Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "open", full)
    for gate in gates:
        send(gate, Answers(FakeClock()).error(429))


def test_a_moment_from_nowhere_is_ignored(
    machine: MachineCache, gates: list[Gate], clock: FakeClock
) -> None:
    assert machine.usable()
    (Path(machine.directory.path) / "service.pause").touch(mode=0o600)  # the wall clock's time
    send(gates[0])
    assert clock.slept == []


def test_whoever_waits_in_the_gate_keeps_telling(gates: list[Gate], clock: FakeClock) -> None:
    """Or the others would take it for stopped, and fetch as well."""
    heard_until = clock.now()

    def expect(seconds: float) -> None:
        nonlocal heard_until
        assert clock.now() <= heard_until
        heard_until = clock.now() + seconds

    with (
        gates[0].admitted(15, nobody),
        gates[1].admitted(15, nobody),
        gates[2].admitted(15, nobody),
        gates[3].admitted(15, nobody),
        gates[4].admitted(15, expect),
    ):
        assert clock.now() <= heard_until
    gates[0].heed(Answers(clock).error(429, retry_after="20"))
    heard_until = clock.now()
    with gates[5].admitted(15, expect):
        assert clock.now() <= heard_until
