"""A day of scheduled events on an emulated machine, whose time goes by as the watcher sleeps."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from imds_identity._platform.clock import SYSTEM_CLOCK
from imds_identity.emulator import Emulator, ManualClock
from metadata_support import client_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from imds_identity.metadata import MetadataClient, Watcher

TYPES = ("Freeze", "Reboot", "Redeploy", "Terminate")
FAULTS: tuple[dict[str, Any], ...] = (
    {"status": 410},
    {"status": 429},
    {"status": 500},
    {"reset": True},
    {"truncate": 20},
    {"body": ""},
    {"body": "{}", "content_type": "application/json"},
)


class Linked:
    """A clock whose sleepers move the emulator's."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    def now(self) -> float:
        return self._clock.time()

    def wall(self) -> float:
        return SYSTEM_CLOCK.wall()

    def tick(self) -> float:
        return self.now()

    def sleep(self, seconds: float) -> None:
        self._clock.advance(seconds)


class Diary:
    """What happens to events, and what a watcher tells of it."""

    def __init__(self, emulator: Emulator, clock: ManualClock, state: Path) -> None:
        self.found: list[tuple[str, str]] = []
        self.due: dict[str, list[str]] = {}
        self._emulator = emulator
        self._clock = clock
        self._state = state
        self._watcher = self._new_watcher()

    def announce(self, dice: random.Random) -> None:
        """An event of this machine, or of another one."""
        is_internal_thread = dice.random() < 0.8
        event_id = self._emulator.schedule_event(
            dice.choice(TYPES),
            notice=dice.choice([0, 10, 30]),
            runs=dice.choice([10, 20]),
            resources=None if is_internal_thread else ["another"],
        )
        if is_internal_thread:
            self.due[event_id] = []

    def listen(self, seconds: int) -> None:
        """Watch for so long."""
        for _ in range(seconds):
            self._clock.advance(max(0.0, self._watcher.seconds_left()))
            self._watcher.ask()
            while (change := self._watcher.next_ready()) is not None:
                self.found.append((change.kind, change.event.event_id or ""))
                self._watcher.done(change)

    def restart(self) -> None:
        """Another process takes over."""
        self._watcher = self._new_watcher()

    def _new_watcher(self) -> Watcher:
        client: MetadataClient = client_of(self._emulator)
        client._connection.clock = Linked(self._clock)
        client._connection._rate_limiter = None  # type: ignore[assignment]
        return client.watch(state_file=self._state)


def test_each_change_of_two_hundred_events_is_told_once_and_in_order(
    started: Callable[..., Emulator], tmp_path: Path
) -> None:
    dice, clock = random.Random(3), ManualClock(1_800_000_000.0)
    emulator = started(clock=clock, log_size=10)
    diary = Diary(emulator, clock, tmp_path / "state")
    for _ in range(200):
        diary.announce(dice)
        if dice.random() < 0.3:
            emulator.fault(
                category="scheduledevents", times=dice.randrange(1, 4), **dice.choice(FAULTS)
            )
        if dice.random() < 0.1:
            diary.restart()
        diary.listen(dice.choice([2, 3, 4]))
    diary.listen(60)
    for kind, event_id in diary.found:
        diary.due[event_id].append(kind)
    whole, short = ["scheduled", "started", "gone"], ["started", "gone"]
    assert len(diary.due) > 150
    assert all(kinds in (whole, short) for kinds in diary.due.values())
