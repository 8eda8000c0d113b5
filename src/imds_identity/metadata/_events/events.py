"""Documents of scheduled events, and the changes between two documents.

A response that is not such a document has already caused an error, so it never counts as a
document without events.
https://learn.microsoft.com/azure/virtual-machines/linux/scheduled-events
"""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from ..._core.failure import Malformed
from ..._http.dates import http_date
from ..._platform.clock import SYSTEM_CLOCK
from .._models.json_object import (
    JsonObject,
    converted_field,
    list_items,
    text_field,
    to_int,
    to_text,
    wrong_type,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from .._models.compute import Compute

Kind: TypeAlias = Literal["scheduled", "changed", "started", "gone"]

# Without an offset it is UTC, like every time of the service.
_ISO_DATE = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]+)?"
    r" ?([Zz]|[+-][0-9]{2}:[0-9]{2})?"
)


def lower_names(names: Iterable[str]) -> frozenset[str]:
    """Return resource names for comparison, which ignores case."""
    return frozenset(name.lower() for name in names)


def own_names(compute: Compute) -> frozenset[str]:
    """Return the names that a machine has in events, in lower case.

    Args:
        compute: the properties of the machine.

    Returns:
        Its name, and ``scaleset_3`` for instance 3 of a scale set. Empty if the service did not
        return them: then no event is known to be the machine's own.
    """
    names = [compute.name] if compute.name else []
    if (scale_set := compute.scale_set) and scale_set.instance_id:
        names.append(f"{scale_set.name}_{scale_set.instance_id}")
    return lower_names(names)


def _to_datetime(value: object, path: str = "") -> dt.datetime | None:
    """Convert a date as in HTTP, or in ISO 8601 as Microsoft's mock server writes it."""
    text = (to_text(value, path) or "").strip()
    if match := _ISO_DATE.fullmatch(text):
        return _iso_date(match)
    seconds = http_date(text)
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.timezone.utc)


def _iso_date(match: re.Match[str]) -> dt.datetime | None:
    offset = "+00:00" if match[2] in (None, "Z", "z") else match[2]
    try:
        moment = dt.datetime.fromisoformat(f"{match[1].upper()}{offset}")
        return moment.astimezone(dt.timezone.utc)
    except (ValueError, OverflowError):  # not a day of the calendar, or before the first one
        return None


def _to_names(value: object, path: str) -> tuple[str, ...]:
    if isinstance(value, dict):  # even if empty: without resources the event would count as gone
        raise wrong_type(value, path, "a list")
    return tuple(name for _, item in list_items(value, path) if (name := to_text(item, path)))


def _to_duration(value: object, path: str = "") -> int | None:
    seconds = to_int(value, path)
    return None if seconds is None or seconds < 0 else seconds


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScheduledEvent(JsonObject):
    """A scheduled event.

    Attributes:
        event_id: its ID.
        event_type: ``Freeze``, ``Reboot``, ``Redeploy``, ``Preempt`` or ``Terminate``.
        status: ``Scheduled`` or ``Started``.
        not_before: the earliest time of its start; None after it has started.
        resources: names of the affected machines.
        resource_type: ``VirtualMachine``.
        description: a description; since API version 2019-04-01.
        source: ``Platform`` or ``User``; since 2019-08-01.
        duration: the expected duration in seconds, None if unknown; since 2020-07-01.
    """

    event_id: str | None = text_field("EventId")
    event_type: str | None = text_field("EventType")
    status: str | None = text_field("EventStatus")
    not_before: dt.datetime | None = converted_field("NotBefore", _to_datetime, None)
    resources: tuple[str, ...] = converted_field("Resources", _to_names, ())
    resource_type: str | None = text_field("ResourceType")
    description: str | None = text_field("Description")
    source: str | None = text_field("EventSource")
    duration: int | None = converted_field("DurationInSeconds", _to_duration, None)

    @property
    def has_started(self) -> bool:
        """Whether the event has started."""
        return (self.status or "").lower() == "started"

    @property
    def key(self) -> str:
        """The ID for comparison, which ignores case."""
        return (self.event_id or "").lower()

    def concerns(self, *names: str) -> bool:
        """Return whether the event affects a machine with one of these names.

        Args:
            names: resource names, in any case.
        """
        return not lower_names(self.resources).isdisjoint(lower_names(names))

    def concerns_only(self, *names: str) -> bool:
        """Return whether the event affects machines with these names and no others.

        Args:
            names: resource names, in any case.
        """
        return bool(self.resources) and lower_names(self.resources) <= lower_names(names)

    def same_as(self, other: ScheduledEvent) -> bool:
        """Return whether all known fields are equal.

        Args:
            other: an event with the same ID.
        """
        same_resources = lower_names(self.resources) == lower_names(other.resources)
        return same_resources and _compared_fields(self) == _compared_fields(other)


_compared_fields = attrgetter(
    "event_type", "status", "not_before", "description", "source", "duration"
)


class Change(NamedTuple):
    """A change of an event.

    Attributes:
        kind: ``scheduled``, ``changed``, ``started`` or ``gone``. If the notice is short, the first
            change of an event may be ``started``.
        event: the current event; its last state if it is gone.
    """

    kind: Kind
    event: ScheduledEvent


class EventsDocument(NamedTuple):
    """All events of a machine and of its scale set or availability set.

    Attributes:
        incarnation: increases when an event changes; a restarted service may start at 1 again.
        events: the events in the order of the service.
        raw: the document as the service wrote it.
    """

    incarnation: int | None
    events: tuple[ScheduledEvent, ...]
    raw: Mapping[str, Any]


def events_from_json(document: object) -> EventsDocument:
    """Return the typed form of a document of scheduled events."""
    if not isinstance(document, dict):
        raise wrong_type(document, "", "an object")
    if not isinstance(document.get("Events"), list):
        raise Malformed("the document of scheduled events has no list of Events")
    found: dict[str, ScheduledEvent] = {}
    for index, item in list_items(document["Events"], "Events"):
        event = ScheduledEvent.parse(item, f"Events/{index}")
        if event.event_id is None:
            raise Malformed(f"Events/{index} has no EventId")
        found.setdefault(event.key, event)
    incarnation = to_int(document.get("DocumentIncarnation"))
    return EventsDocument(incarnation, tuple(found.values()), document)


class Differ:
    """Finds the changes between successive documents, since the events handled before a restart.

    It compares whole documents, not their incarnations, which a restarted service may reset.
    """

    def __init__(
        self, names: Collection[str] | None = None, handled: Iterable[ScheduledEvent] = ()
    ) -> None:
        self._names = names
        self._last = self._included(handled)

    def changes(self, document: EventsDocument) -> list[Change]:
        """Return the changes since the last document: first ``gone``, then in document order."""
        current = self._included(document.events)
        gone = [Change("gone", old) for key, old in self._last.items() if key not in current]
        found = [
            Change(kind, event)
            for key, event in current.items()
            if (kind := _kind(self._last.get(key), event)) is not None
        ]
        self._last = current
        return gone + found

    def _included(self, events: Iterable[ScheduledEvent]) -> dict[str, ScheduledEvent]:
        names = self._names
        return {each.key: each for each in events if names is None or each.concerns(*names)}

    def get(self, event_id: str | None) -> ScheduledEvent | None:
        """Return an event of the last document, or None."""
        return self._last.get((event_id or "").lower())


def _kind(old: ScheduledEvent | None, new: ScheduledEvent) -> Kind | None:
    if old is None:
        return "started" if new.has_started else "scheduled"
    if new.has_started and not old.has_started:
        return "started"
    return None if new.same_as(old) else "changed"


def start_request(event_ids: Iterable[str]) -> bytes:
    """Return the body of the request that approves events."""
    ids = [event_ids] if isinstance(event_ids, str) else list(event_ids)
    if not ids or not all(isinstance(each, str) and each for each in ids):
        raise ValueError("event_ids must contain the ID of at least one event")
    return json.dumps({"StartRequests": [{"EventId": each} for each in ids]}).encode()


class ApprovalPolicy(NamedTuple):
    """Which events may be approved.

    Attributes:
        margin: the minimum number of seconds between an approval and the announced start.
        shared: whether to approve events of several machines, which then start on all of them.
    """

    margin: float = 5.0
    shared: bool = False


def why_not_approve(
    event: ScheduledEvent | None,
    *,
    names: Collection[str],
    at: dt.datetime | None = None,
    policy: ApprovalPolicy = ApprovalPolicy(),  # noqa: B008 - it is immutable,
) -> str | None:
    """Return why an event must not be approved, or None if it may be.

    Args:
        event: the current state of the event; None if it is gone.
        names: the names of this machine, as from `own_names`.
        at: the time of the approval; now by default.
        policy: which events may be approved.
    """
    if event is None:
        return "it is gone"
    if event.has_started:
        return "it has started already"
    if event.not_before is None:
        return "its start time is unknown"
    moment = at or dt.datetime.fromtimestamp(SYSTEM_CLOCK.wall(), dt.timezone.utc)
    if (event.not_before - moment).total_seconds() <= policy.margin:
        return f"it starts in less than {policy.margin:g} s"
    if policy.shared or event.concerns_only(*names):
        return None
    if not names:
        return "the names of this machine are unknown, so it may affect others"
    return "it also affects other machines, where it would start immediately"
