"""``/metadata/scheduledevents``: maintenance that is announced, begins and is over."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from .._messages import Response, json_response
from .rules import Complaint, json_only_complaint, metadata_error, request_complaint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._clock import Clock
    from .._messages import Request
    from .._world.faults import Fault
    from .._world.world import World

PATH = "/metadata/scheduledevents"
INTRODUCED = "2017-08-01"
# This category has versions that the others never had.
_OWN_VERSIONS = ("2017-11-01", "2019-01-01", "2019-04-01", "2020-07-01")
_DESCRIBED_SINCE = "2020-07-01"
# Seconds of notice that the real service gives, by type.
NOTICE = {"Freeze": 900, "Reboot": 900, "Redeploy": 600, "Preempt": 30, "Terminate": 300}
_SOURCES = ("Platform", "User")
_MOST_EVENTS = 200
_LONGEST = 10 * 365 * 86400


class NoSuchEventError(LookupError):
    """No event of that id is scheduled."""


@dataclass(frozen=True, slots=True)
class ScheduledEvent:
    """One event as it stands now.

    Attributes:
        event_id: Its id.
        event_type: ``Freeze``, ``Reboot``, ``Redeploy``, ``Preempt`` or ``Terminate``.
        status: ``Scheduled`` or ``Started``.
        not_before: The earliest it may start, in seconds since 1970-01-01T00:00:00Z.
        resources: Names of the machines it hits.
        description: What it is, in words.
        source: ``Platform`` or ``User``.
        duration: Seconds that it is announced to last; -1 when unknown.
    """

    event_id: str
    event_type: str
    status: str
    not_before: float
    resources: tuple[str, ...]
    description: str
    source: str
    duration: int

    def document(self, version: str) -> dict[str, Any]:
        """Returns it as an api-version of the service shows it."""
        started = self.status == "Started"
        shown: dict[str, Any] = {
            "EventId": self.event_id,
            "EventStatus": self.status,
            "EventType": self.event_type,
            "ResourceType": "VirtualMachine",
            "Resources": list(self.resources),
            "NotBefore": "" if started else formatdate(self.not_before, usegmt=True),
        }
        if version >= _DESCRIBED_SINCE:
            shown["Description"] = self.description
            shown["EventSource"] = self.source
            shown["DurationInSeconds"] = self.duration
        return shown


class _Event:
    """An event with the moments at which it changes."""

    def __init__(self, shown: ScheduledEvent, runs: float) -> None:
        self.shown = shown
        self.runs = runs
        self.next_change = shown.not_before

    def start(self, moment: float) -> None:
        old = self.shown
        self.shown = ScheduledEvent(
            old.event_id,
            old.event_type,
            "Started",
            old.not_before,
            old.resources,
            old.description,
            old.source,
            old.duration,
        )
        self.next_change = moment + self.runs


class Events:
    """The events of the machine. Each runs through Scheduled, Started, gone.

    Args:
        clock: Tells the time; it may run faster than everybody else's.
        resource: The name of the machine.
    """

    def __init__(self, clock: Clock, resource: str) -> None:
        self._clock = clock
        self._resource = resource
        self._events: list[_Event] = []
        self._incarnation = 1

    def schedule(
        self,
        event_type: str = "Reboot",
        *,
        notice: float | None = None,
        runs: float = 60.0,
        resources: Iterable[str] | None = None,
        description: str = "",
        source: str = "Platform",
        duration: int = -1,
    ) -> str:
        """Announces an event.

        Args:
            event_type: Its type.
            notice: Seconds until it starts by itself; by default what the real service gives.
            runs: Seconds that it stays Started before it is gone.
            resources: Names of the machines it hits; this one by default.
            description: What it is, in words.
            source: ``Platform`` or ``User``.
            duration: Seconds that it is announced to last; -1 when unknown.

        Returns:
            Its id.

        Raises:
            ValueError: An argument makes no sense.
        """
        if event_type not in NOTICE:
            raise ValueError(f"An event's type is one of {', '.join(NOTICE)}, not {event_type!r}.")
        if source not in _SOURCES:
            raise ValueError(f"An event's source is Platform or User, not {source!r}.")
        names = (self._resource,) if resources is None else tuple(resources)
        if isinstance(resources, str) or not all(isinstance(name, str) for name in names):
            raise ValueError("An event's resources are a list of names.")
        if not isinstance(description, str) or type(duration) is not int:
            raise ValueError("An event's description is text, its duration a whole number.")
        notice = NOTICE[event_type] if notice is None else notice
        if not 0 <= notice <= _LONGEST or not 0 <= runs <= _LONGEST:
            raise ValueError("An event's notice and the time it runs lie within ten years.")
        self._advance()
        if len(self._events) >= _MOST_EVENTS:
            raise ValueError(f"There are {_MOST_EVENTS} events already; cancel some.")
        shown = ScheduledEvent(
            str(uuid.uuid4()).upper(),
            event_type,
            "Scheduled",
            self._clock.time() + notice,
            names,
            description,
            source,
            duration,
        )
        self._events.append(_Event(shown, runs))
        self._incarnation += 1
        return shown.event_id

    def approve(self, event_ids: Iterable[str]) -> None:
        """Starts events before their time, as their machine agreed to.

        Raises:
            NoSuchEventError: One of them is not there; then none is started.
        """
        self._advance()
        events = [self._find(event_id) for event_id in event_ids]
        for event in events:
            if event.shown.status == "Scheduled":
                event.start(self._clock.time())
                self._incarnation += 1

    def cancel(self, event_id: str) -> None:
        """Takes an event back.

        Raises:
            NoSuchEventError: It is not there.
        """
        self._advance()
        self._events.remove(self._find(event_id))
        self._incarnation += 1

    def clear(self) -> None:
        """Takes every event back."""
        if self._events:
            self._events.clear()
            self._incarnation += 1

    def current(self) -> list[ScheduledEvent]:
        """Returns the events that are announced or under way."""
        self._advance()
        return [event.shown for event in self._events]

    def document(self, version: str) -> dict[str, Any]:
        """Returns the category's answer."""
        events = [event.document(version) for event in self.current()]
        return {"DocumentIncarnation": self._incarnation, "Events": events}

    def _find(self, event_id: str) -> _Event:
        for event in self._events:
            if event.shown.event_id.lower() == event_id.lower():
                return event
        raise NoSuchEventError(event_id)

    def _advance(self) -> None:
        # Nobody wakes up for an event: its changes are caught up with when somebody looks.
        now = self._clock.time()
        for event in list(self._events):
            while event in self._events and event.next_change <= now:
                if event.shown.status == "Scheduled":
                    event.start(event.next_change)
                else:
                    self._events.remove(event)
                self._incarnation += 1


class EventsEndpoint:
    """Answers for the events, and takes approvals.

    Args:
        world: The shared state.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._versions = sorted(
            {
                *world.versions,
                *(version for version in _OWN_VERSIONS if version <= world.versions[-1]),
            }
        )

    def __call__(self, request: Request, fault: Fault | None) -> Response:
        """Answers a request."""
        del fault
        complaint = request_complaint(
            request,
            methods=("GET", "POST"),
            introduced=INTRODUCED,
            supported=self._versions,
        ) or json_only_complaint(request)
        if complaint is not None:
            return metadata_error(complaint)
        if request.method == "POST":
            return self._approve(request.body)
        return json_response(
            200, self._world.events.document(request.parameter("api-version") or "")
        )

    def _approve(self, body: bytes) -> Response:
        try:
            self._world.events.approve(_approved_ids(body))
        except ValueError as error:
            return metadata_error(Complaint(400, f"Bad request. {error}"))
        except NoSuchEventError:
            return metadata_error(Complaint(400, "Bad request. No event of that EventId exists"))
        return Response(200)


def _approved_ids(body: bytes) -> list[str]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("The body is not JSON") from None
    requests = document.get("StartRequests") if isinstance(document, dict) else None
    if not isinstance(requests, list) or not requests:
        raise ValueError("The body has no list of StartRequests")
    ids = [entry.get("EventId") if isinstance(entry, dict) else None for entry in requests]
    if not all(isinstance(event_id, str) and event_id for event_id in ids):
        raise ValueError("A start request has no EventId")
    return [str(event_id) for event_id in ids]
