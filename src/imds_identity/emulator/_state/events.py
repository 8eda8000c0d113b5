"""Scheduled events: maintenance that is announced, begins and is over."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .._kinds import check_fields

if TYPE_CHECKING:
    from .._clock import Clock

# Seconds of notice that the real service gives, by type.
NOTICE = {"Freeze": 900, "Reboot": 900, "Redeploy": 600, "Preempt": 30, "Terminate": 300}
SOURCES = ("Platform", "User")
_MOST_EVENTS = 200
_LONGEST = 10 * 365 * 86400


class NoSuchEventError(LookupError):
    """No event of that id is scheduled."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """What is to be announced.

    Attributes:
        event_type: ``Freeze``, ``Reboot``, ``Redeploy``, ``Preempt`` or ``Terminate``.
        notice: seconds until it starts by itself; by default what the real service gives.
        runs: seconds that it stays Started before it is gone.
        resources: names of the machines it hits; this one by default.
        description: what it is, in words.
        source: ``Platform`` or ``User``.
        duration: seconds that it is announced to last; -1 when unknown.

    Raises:
        ValueError: if an attribute makes no sense.
    """

    event_type: str = "Reboot"
    notice: float | None = None
    runs: float = 60.0
    resources: Iterable[str] | None = None
    description: str = ""
    source: str = "Platform"
    duration: int = -1

    def __post_init__(self) -> None:
        """Refuse what no service announces."""
        check_fields(self, "An event's ")
        if self.event_type not in NOTICE:
            known = ", ".join(NOTICE)
            raise ValueError(f"An event's type is one of {known}, not {self.event_type!r}.")
        if self.source not in SOURCES:
            raise ValueError(f"An event's source is Platform or User, not {self.source!r}.")
        if not all(isinstance(name, str) for name in self.resources or ()):
            raise ValueError("An event's resources are a list of names.")
        for name, seconds in (("notice", self.notice or 0), ("runs", self.runs)):
            if not 0 <= seconds <= _LONGEST:
                raise ValueError(f"An event's {name} lies between 0 and ten years, in seconds.")


@dataclass(frozen=True, slots=True)
class ScheduledEvent:
    """One event as it stands now.

    Attributes:
        event_id: its id.
        event_type: ``Freeze``, ``Reboot``, ``Redeploy``, ``Preempt`` or ``Terminate``.
        status: ``Scheduled`` or ``Started``.
        not_before: the earliest it may start, in Unix seconds.
        resources: names of the machines it hits.
        description: what it is, in words.
        source: ``Platform`` or ``User``.
        duration: seconds that it is announced to last; -1 when unknown.
    """

    event_id: str
    event_type: str
    status: str
    not_before: float
    resources: tuple[str, ...]
    description: str
    source: str
    duration: int


class _Timed:
    """An event with the moment of its next change."""

    def __init__(self, event: ScheduledEvent, runs: float) -> None:
        self.event = event
        self.runs = runs
        self.next_change = event.not_before

    def start(self, moment: float) -> None:
        self.event = replace(self.event, status="Started")
        self.next_change = moment + self.runs


class Events:
    """The events of the machine. Each runs through Scheduled, Started, gone.

    Args:
        clock: the time; it may run faster than everybody else's.
        resource: the name of the machine.

    Attributes:
        incarnation: the DocumentIncarnation, which grows with every change. Ask for `current`
            first: what changed meanwhile is caught up with then.
    """

    def __init__(self, clock: Clock, resource: str) -> None:
        self._clock = clock
        self._resource = resource
        self._events: list[_Timed] = []
        self.incarnation = 1

    def schedule(self, announcement: Announcement) -> str:
        """Announce an event; its id.

        Raises:
            ValueError: if there are too many already.
        """
        self._catch_up()
        if len(self._events) >= _MOST_EVENTS:
            raise ValueError(f"There are {_MOST_EVENTS} events already; cancel some.")
        notice = announcement.notice
        if notice is None:
            notice = NOTICE[announcement.event_type]
        resources = announcement.resources
        event = ScheduledEvent(
            event_id=str(uuid.uuid4()).upper(),
            event_type=announcement.event_type,
            status="Scheduled",
            not_before=self._clock.time() + notice,
            resources=(self._resource,) if resources is None else tuple(resources),
            description=announcement.description,
            source=announcement.source,
            duration=announcement.duration,
        )
        self._events.append(_Timed(event, announcement.runs))
        self.incarnation += 1
        return event.event_id

    def approve(self, event_ids: Iterable[str]) -> None:
        """Start events before their time, as their machine agreed to.

        Raises:
            NoSuchEventError: if one of them is not there; then none is started.
        """
        self._catch_up()
        approved = [self._find(event_id) for event_id in event_ids]
        for timed in approved:
            if timed.event.status == "Scheduled":
                timed.start(self._clock.time())
                self.incarnation += 1

    def cancel(self, event_id: str) -> None:
        """Take an event back.

        Raises:
            NoSuchEventError: if it is not there.
        """
        self._catch_up()
        self._events.remove(self._find(event_id))
        self.incarnation += 1

    def clear(self) -> None:
        """Take every event back."""
        if self._events:
            self._events.clear()
            self.incarnation += 1

    def current(self) -> list[ScheduledEvent]:
        """The events that are announced or under way."""
        self._catch_up()
        return [timed.event for timed in self._events]

    def _find(self, event_id: str) -> _Timed:
        for timed in self._events:
            if timed.event.event_id.lower() == event_id.lower():
                return timed
        raise NoSuchEventError(f"No event has the id {event_id!r}.")

    def _catch_up(self) -> None:
        # No timer runs for an event, so changes that are due are made when somebody looks.
        now = self._clock.time()
        for timed in list(self._events):
            while timed in self._events and timed.next_change <= now:
                if timed.event.status == "Scheduled":
                    timed.start(timed.next_change)
                else:
                    self._events.remove(timed)
                self.incarnation += 1
