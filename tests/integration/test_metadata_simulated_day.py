"""Many scheduled events, on a machine whose time advances while the watcher sleeps."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any

from imds_identity._platform.clock import SYSTEM_CLOCK
from imds_identity.emulator import Emulator, ManualClock
from imds_identity.metadata._events import poller, watcher
from metadata_support import FakeService, RandomEvents, client_of, event
from support import FakeClock, ResponseFactory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from imds_identity._http.messages import Request, Response
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


class LinkedClock:
    """A clock whose `sleep` advances the clock of the emulator."""

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


class EventLog:
    """The scheduled events, and the changes that a watcher returns."""

    def __init__(self, emulator: Emulator, clock: ManualClock, state: Path) -> None:
        self.found: list[tuple[str, str]] = []
        self.expected: dict[str, list[str]] = {}
        self._emulator = emulator
        self._clock = clock
        self._state = state
        self._watcher = self._new_watcher()

    def schedule(self, generator: random.Random) -> None:
        """Schedule an event of this machine, or of another."""
        is_own = generator.random() < 0.8
        event_id = self._emulator.schedule_event(
            generator.choice(TYPES),
            notice=generator.choice([0, 10, 30]),
            runs=generator.choice([10, 20]),
            resources=None if is_own else ["another"],
        )
        if is_own:
            self.expected[event_id] = []

    def watch(self, seconds: int) -> None:
        """Watch for ``seconds``."""
        for _ in range(seconds):
            self._clock.advance(max(0.0, self._watcher.seconds_left()))
            self._watcher.ask()
            while (change := self._watcher.next_ready()) is not None:
                self.found.append((change.kind, change.event.event_id or ""))
                self._watcher.done(change)

    def restart(self) -> None:
        """Continue in another watcher, as after a restart."""
        self._watcher = self._new_watcher()

    def _new_watcher(self) -> Watcher:
        client: MetadataClient = client_of(self._emulator)
        client._connection.clock = LinkedClock(self._clock)
        client._connection._rate_limiter = lambda: None  # type: ignore[assignment, method-assign, return-value]
        return client.watch(state_file=self._state)


def test_each_change_of_two_hundred_events_is_returned_once_and_in_order(
    start_emulator: Callable[..., Emulator], tmp_path: Path
) -> None:
    generator, clock = random.Random(3), ManualClock(1_800_000_000.0)
    emulator = start_emulator(clock=clock, log_size=10)
    log = EventLog(emulator, clock, tmp_path / "state")
    for _ in range(200):
        log.schedule(generator)
        if generator.random() < 0.3:
            emulator.fault(
                category="scheduledevents",
                times=generator.randrange(1, 4),
                **generator.choice(FAULTS),
            )
        if generator.random() < 0.1:
            log.restart()
        log.watch(generator.choice([2, 3, 4]))
    log.watch(60)
    for kind, event_id in log.found:
        log.expected[event_id].append(kind)
    complete, short = ["scheduled", "started", "gone"], ["started", "gone"]
    assert len(log.expected) > 150
    assert all(kinds in (complete, short) for kinds in log.expected.values())


class ThreadsClock(FakeClock):
    """A clock for two threads: time advances while both sleep."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()
        self._ends: list[float] = []
        self._is_over = False

    def sleep(self, seconds: float) -> None:
        with self._changed:
            assert self.seconds < 100_000  # both threads would wait forever
            end = self.seconds + seconds
            self._ends.append(end)
            later = [each for each in self._ends if each > self.seconds]
            if len(later) == 2:
                self.seconds = min(later)
                self._changed.notify_all()
            self._changed.wait_for(lambda: self.seconds >= end or self._is_over)
            self._ends.remove(end)

    def finish(self) -> None:
        """Let no thread sleep any more."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()


class BusyService(FakeService):
    """A service with random events and failures, whose requests take time."""

    def __init__(self, clock: FakeClock, events: RandomEvents) -> None:
        super().__init__(clock)
        self.request_seconds = 0.0
        self._random_events = events

    def send(self, request: Request) -> Response:
        if "scheduledevents" not in request.url:
            return super().send(request)
        if self.request_seconds:
            self.clock.sleep(self.request_seconds)
        generator = self._random_events.random
        if generator.random() < 0.2:
            return ResponseFactory(self.clock).error(generator.choice([410, 429, 500]))
        if self._random_events.is_over:
            self.events = [event("last")]
        elif generator.random() < 0.5:
            self.events = self._random_events.next_document()
        return super().send(request)


def test_slow_loop_bodies_miss_no_change_and_stop_is_prompt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (poller, watcher):
        monkeypatch.setattr(module, "TICK_SECONDS", 1.0)
    clock, events = ThreadsClock(), RandomEvents(random.Random(5), 60)
    service, generator = BusyService(clock, events), random.Random(6)
    changes = service.client().watch()
    found: list[tuple[str, str | None]] = []
    stopped_at = 0.0
    for change in changes:
        found.append((change.kind, change.event.event_id))
        clock.sleep(generator.choice([0.1, 1, 3, 10]))
        if change.event.event_id == "last":
            service.request_seconds = 37.0
            clock.sleep(5)  # the poller's next request is in progress then
            changes.stop()
            stopped_at = clock.now()
    assert clock.now() - stopped_at <= 1
    assert found == [*events.expected, ("scheduled", "last")]
    assert len(found) > 60
    assert changes.lost == 0
    clock.finish()
