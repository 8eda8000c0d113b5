"""Scheduled events: maintenance that is announced, starts and ends."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .._field_types import validate_fields

if TYPE_CHECKING:
    from .._clock import Clock

# Seconds of notice that the real service gives, by type.
NOTICE = {"Freeze": 900, "Reboot": 900, "Redeploy": 600, "Preempt": 30, "Terminate": 300}
SOURCES = ("Platform", "User")
_MAX_EVENTS = 200
_MAX_SECONDS = 10 * 365 * 86400


class NoSuchEventError(LookupError):
    """There is no event with this id."""


@dataclass(frozen=True, slots=True)
class EventSpec:
    """A description of an event to schedule; ValueError if an attribute is not valid."""

    event_type: str = "Reboot"
    notice: float | None = None  # seconds until it starts; by default as in the real service
    runs: float = 60.0  # seconds in the status Started before it is gone
    resources: Iterable[str] | None = None  # the affected machines; by default this one
    description: str = ""
    source: str = "Platform"
    duration: int = -1  # the announced duration in seconds; -1 if unknown

    def __post_init__(self) -> None:
        validate_fields(self, "An event's ")
        if self.event_type not in NOTICE:
            known = ", ".join(NOTICE)
            raise ValueError(f"An event's type must be one of {known}, not {self.event_type!r}.")
        if self.source not in SOURCES:
            raise ValueError(f"An event's source must be Platform or User, not {self.source!r}.")
        if not all(isinstance(name, str) for name in self.resources or ()):
            raise ValueError("An event's resources must be a list of names.")
        for name, seconds in (("notice", self.notice or 0), ("runs", self.runs)):
            if not 0 <= seconds <= _MAX_SECONDS:
                raise ValueError(f"An event's {name} must be between 0 and ten years, in seconds.")


@dataclass(frozen=True, slots=True)
class ScheduledEvent:
    """A scheduled event in its current state.

    Attributes:
        event_id: its id.
        event_type: ``Freeze``, ``Reboot``, ``Redeploy``, ``Preempt`` or ``Terminate``.
        status: ``Scheduled`` or ``Started``.
        not_before: the earliest start, in Unix seconds.
        resources: names of the affected machines.
        description: free text.
        source: ``Platform`` or ``User``.
        duration: the announced duration in seconds; -1 if unknown.
    """

    event_id: str
    event_type: str
    status: str
    not_before: float
    resources: tuple[str, ...]
    description: str
    source: str
    duration: int


class _TrackedEvent:
    """An event with the time of its next change."""

    def __init__(self, event: ScheduledEvent, runs: float) -> None:
        self.event = event
        self.runs = runs
        self.next_change = event.not_before

    def start(self, at: float) -> None:
        self.event = replace(self.event, status="Started")
        self.next_change = at + self.runs


class Events:
    """The events of the machine; each is first Scheduled, then Started, then gone."""

    def __init__(self, clock: Clock, machine_name: str) -> None:
        self._clock = clock
        self._machine_name = machine_name
        self._events: list[_TrackedEvent] = []
        self.incarnation = 1  # grows with every change, up to date after a call of current()

    def schedule(self, spec: EventSpec) -> str:
        """Schedule an event and return its id; ValueError if there are too many."""
        self._catch_up()
        if len(self._events) >= _MAX_EVENTS:
            raise ValueError(f"There are already {_MAX_EVENTS} events; cancel some.")
        notice = NOTICE[spec.event_type] if spec.notice is None else spec.notice
        resources = (self._machine_name,) if spec.resources is None else tuple(spec.resources)
        event = ScheduledEvent(
            event_id=str(uuid.uuid4()).upper(),
            event_type=spec.event_type,
            status="Scheduled",
            not_before=self._clock.time() + notice,
            resources=resources,
            description=spec.description,
            source=spec.source,
            duration=spec.duration,
        )
        self._events.append(_TrackedEvent(event, spec.runs))
        self.incarnation += 1
        return event.event_id

    def approve(self, event_ids: Iterable[str]) -> None:
        """Start events early; if one of the ids is unknown, NoSuchEventError and none starts."""
        self._catch_up()
        approved = [self._find(event_id) for event_id in event_ids]
        for tracked in approved:
            if tracked.event.status == "Scheduled":
                tracked.start(self._clock.time())
                self.incarnation += 1

    def cancel(self, event_id: str) -> None:
        """Cancel an event; NoSuchEventError if there is none with this id."""
        self._catch_up()
        self._events.remove(self._find(event_id))
        self.incarnation += 1

    def clear(self) -> None:
        if self._events:
            self._events.clear()
            self.incarnation += 1

    def current(self) -> list[ScheduledEvent]:
        """Return the events that are scheduled or started."""
        self._catch_up()
        return [tracked.event for tracked in self._events]

    def _find(self, event_id: str) -> _TrackedEvent:
        for tracked in self._events:
            if tracked.event.event_id.lower() == event_id.lower():
                return tracked
        raise NoSuchEventError(f"There is no event with the id {event_id!r}.")

    def _catch_up(self) -> None:
        # Events have no timers: changes that are due are made when the events are next accessed.
        now = self._clock.time()
        for tracked in list(self._events):
            while tracked in self._events and tracked.next_change <= now:
                if tracked.event.status == "Scheduled":
                    tracked.start(tracked.next_change)
                else:
                    self._events.remove(tracked)
                self.incarnation += 1
