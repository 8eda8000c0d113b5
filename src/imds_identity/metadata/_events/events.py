"""Scheduled events: what the service says of them, and what has changed since it was last heard.

All here is values and rules. An answer that is no document never gets here, so it is never taken
for one without events.
https://learn.microsoft.com/azure/virtual-machines/linux/scheduled-events
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from ..._core.failure import Malformed
from ..._http.dates import http_date
from .._models.node import Node, as_number, as_text, field_of, list_of, text, wrong_shape

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from .._models.compute import Compute

Kind: TypeAlias = Literal["scheduled", "changed", "started", "gone"]

# /subscriptions/…/resourceGroups/…/providers/Microsoft.Compute/virtualMachineScaleSets/SET/
# virtualMachines/INSTANCE
_SET = 8
_INSTANCE = 10

NOTICE = {"Freeze": 900.0, "Reboot": 900.0, "Redeploy": 600.0, "Preempt": 30.0, "Terminate": 300.0}
"""Seconds between the announcement of an event and its start, by type; what Azure promises."""


def folded_names(names: Iterable[str]) -> frozenset[str]:
    """Resource names as they are compared: their case does not count."""
    return frozenset(name.lower() for name in names)


def own_names(compute: Compute) -> frozenset[str]:
    """The names by which events mean the machine: ``scaleset_3`` for number 3 of a scale set."""
    names = [compute.name] if compute.name else []
    path = (compute.resource_id or "").split("/")
    if len(path) > _INSTANCE and path[_SET - 1].lower() == "virtualmachinescalesets":
        names.append(f"{path[_SET]}_{path[_INSTANCE]}")
    return folded_names(names)


def _moment(value: object, path: str = "") -> dt.datetime | None:
    seconds = http_date(as_text(value, path) or "")
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.timezone.utc)


def _names(value: object, path: str) -> tuple[str, ...]:
    if isinstance(value, dict):  # even an empty one: an event of nobody would count as gone
        raise wrong_shape(value, path, "a list")
    return tuple(name for _, item in list_of(value, path) if (name := as_text(item, path)))


def _duration(value: object, path: str = "") -> int | None:
    seconds = as_number(value, path)
    return None if seconds is None or seconds < 0 else seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledEvent(Node):
    """One event, as a document has it.

    Attributes:
        event_id: its id.
        event_type: ``Freeze``, ``Reboot``, ``Redeploy``, ``Preempt`` or ``Terminate``.
        status: ``Scheduled`` or ``Started``.
        not_before: the earliest that it may start; None once it has.
        resources: names of the machines that it hits.
        resource_type: ``VirtualMachine``.
        description: what it is, in words; since 2019-04-01.
        source: ``Platform`` or ``User``; since 2019-08-01.
        duration: seconds that it is expected to last, None if that is unknown; since 2020-07-01.
    """

    event_id: str | None = text("EventId")
    event_type: str | None = text("EventType")
    status: str | None = text("EventStatus")
    not_before: dt.datetime | None = field_of("NotBefore", _moment)
    resources: tuple[str, ...] = field_of("Resources", _names, ())
    resource_type: str | None = text("ResourceType")
    description: str | None = text("Description")
    source: str | None = text("EventSource")
    duration: int | None = field_of("DurationInSeconds", _duration)

    @property
    def has_started(self) -> bool:
        """Whether it is under way."""
        return (self.status or "").lower() == "started"

    @property
    def key(self) -> str:
        """What tells it from others: its id, whose case does not count."""
        return (self.event_id or "").lower()

    def concerns(self, *names: str) -> bool:
        """Whether it hits a machine of one of these resource names."""
        return not folded_names(self.resources).isdisjoint(folded_names(names))

    def concerns_only(self, *names: str) -> bool:
        """Whether it hits a machine of one of these resource names, and no other."""
        return bool(self.resources) and folded_names(self.resources) <= folded_names(names)

    def same_as(self, other: ScheduledEvent) -> bool:
        """Whether nothing that we know of an event differs."""
        return self._facts() == other._facts()

    def _facts(self) -> tuple[object, ...]:
        return (
            self.event_type,
            self.status,
            self.not_before,
            folded_names(self.resources),
            self.description,
            self.source,
            self.duration,
        )


class Change(NamedTuple):
    """Something that happened to an event.

    Attributes:
        kind: ``scheduled``, ``changed``, ``started`` or ``gone``. An event that is short of notice
            may be heard of first when it has started.
        event: the event as it is now; as it was last, if it is gone.
    """

    kind: Kind
    event: ScheduledEvent


class EventsDocument(NamedTuple):
    """What the service says of all events of a machine and its neighbours.

    Attributes:
        incarnation: grows when an event changes; a service that was restarted may start over.
        events: the events, as the service orders them.
        raw: the document as the service wrote it.
    """

    incarnation: int | None
    events: tuple[ScheduledEvent, ...]
    raw: Mapping[str, Any]


def events_from(document: Any) -> EventsDocument:
    """The events that ``document`` lists.

    Raises:
        Malformed: if it is no document of events, which is not the same as one without events.
    """
    if not isinstance(document, dict):
        raise wrong_shape(document, "", "an object")
    if not isinstance(document.get("Events"), list):
        raise Malformed("the document of scheduled events has no list of Events")
    found: dict[str, ScheduledEvent] = {}
    for index, item in list_of(document["Events"], "Events"):
        event = ScheduledEvent.parse(item, f"Events/{index}")
        if event.event_id is None:
            raise Malformed(f"Events/{index} has no EventId")
        found.setdefault(event.key, event)
    incarnation = as_number(document.get("DocumentIncarnation"))
    return EventsDocument(incarnation, tuple(found.values()), document)


class Differ:
    """Tells what is new in a document, each change once.

    Whole documents are compared, never their incarnations: those start over when the service does.

    Args:
        names: resource names of the machine whose events matter; None for every machine's.
        seen: the events that were told of before a restart.
    """

    def __init__(
        self, names: Collection[str] | None = None, seen: Iterable[ScheduledEvent] = ()
    ) -> None:
        self._names = names
        self._seen = _by_id(filter(self._matters, seen))

    def changes(self, document: EventsDocument) -> list[Change]:
        """What has happened since the last document: what is gone first, then in its order."""
        current = _by_id(filter(self._matters, document.events))
        gone = [Change("gone", old) for key, old in self._seen.items() if key not in current]
        found = [
            Change(kind, event)
            for key, event in current.items()
            if (kind := _kind(self._seen.get(key), event)) is not None
        ]
        self._seen = current
        return gone + found

    def _matters(self, event: ScheduledEvent) -> bool:
        return self._names is None or event.concerns(*self._names)

    def known(self, event_id: str | None) -> ScheduledEvent | None:
        """The event of this id as the last document had it; None if it had none."""
        return self._seen.get((event_id or "").lower())


def _by_id(events: Iterable[ScheduledEvent]) -> dict[str, ScheduledEvent]:
    return {event.key: event for event in events}


def _kind(old: ScheduledEvent | None, new: ScheduledEvent) -> Kind | None:
    if old is None:
        return "started" if new.has_started else "scheduled"
    if new.has_started and not old.has_started:
        return "started"
    return None if new.same_as(old) else "changed"


def approval(event_ids: Iterable[str]) -> bytes:
    """The body of the request that lets events start at once.

    Raises:
        ValueError: if there are no ids.
    """
    ids = [event_ids] if isinstance(event_ids, str) else list(event_ids)
    if not ids or not all(isinstance(each, str) and each for each in ids):
        raise ValueError("event_ids must be the ids of one event or more")
    return json.dumps({"StartRequests": [{"EventId": each} for each in ids]}).encode()


class ApprovalRule(NamedTuple):
    """Which events may be approved.

    Attributes:
        margin: seconds before its start in which approving an event is too late.
        shared: whether those may be that hit other machines, too: they would start there as well.
    """

    margin: float = 5.0
    shared: bool = False


def why_not_approve(
    event: ScheduledEvent | None, at: dt.datetime, rule: ApprovalRule, names: Iterable[str]
) -> str | None:
    """Why ``event`` is not to be approved; None if it may be.

    Args:
        event: the event as it was last heard of; None if it is gone.
        at: now.
        rule: which may be.
        names: the machine's own names.
    """
    if event is None:
        return "it is gone"
    if event.has_started:
        return "it has started already"
    if event.not_before is None:
        return "it does not say when it starts"
    if (event.not_before - at).total_seconds() <= rule.margin:
        return f"less than {rule.margin:g} s are left before it starts"
    if not rule.shared and not event.concerns_only(*names):
        return "it hits other machines, which would be hit at once as well"
    return None
