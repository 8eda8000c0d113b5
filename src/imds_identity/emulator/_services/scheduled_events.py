"""``/metadata/scheduledevents``: what is announced, and the machine's agreement to it."""

from __future__ import annotations

import json
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from .._messages import Response, json_response
from .._state.events import NoSuchEventError
from .rules import Complaint, json_only_complaint, metadata_error, request_complaint

if TYPE_CHECKING:
    from .._messages import Request
    from .._state.events import ScheduledEvent
    from .._state.fault import Fault
    from .._state.state import World

PATH = "/metadata/scheduledevents"
INTRODUCED = "2017-03-01"
# This category has versions that the others never had.
_OWN_VERSIONS = ("2017-11-01", "2019-01-01", "2019-04-01", "2020-07-01")
# Before that, the name of a machine had an underscore before it.
_PLAIN_NAMES_SINCE = "2017-08-01"
_TYPES_SINCE = {"Preempt": "2017-11-01", "Terminate": "2019-01-01"}
_FIELDS_SINCE = {
    "Description": "2019-04-01",
    "EventSource": "2019-08-01",
    "DurationInSeconds": "2020-07-01",
}


def event_document(event: ScheduledEvent, version: str) -> dict[str, Any]:
    """An event as an api-version shows it."""
    started = event.status == "Started"
    mark = "_" if version < _PLAIN_NAMES_SINCE else ""
    document = {
        "Description": event.description,
        "DurationInSeconds": event.duration,
        "EventId": event.event_id,
        "EventSource": event.source,
        "EventStatus": event.status,
        "EventType": event.event_type,
        "NotBefore": "" if started else formatdate(event.not_before, usegmt=True),
        "Resources": [mark + name for name in event.resources],
        "ResourceType": "VirtualMachine",
    }
    return {name: document[name] for name in document if _FIELDS_SINCE.get(name, "") <= version}


class EventsEndpoint:
    """Answers for the events, and takes approvals.

    Args:
        world: the shared state.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        newest = world.versions[-1]
        own = {version for version in _OWN_VERSIONS if version <= newest}
        self._versions = sorted({*world.versions, *own})

    def __call__(self, request: Request, fault: Fault | None) -> Response:
        """Answer a request."""
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
        return json_response(200, self._document(request.parameter("api-version") or ""))

    def _document(self, version: str) -> dict[str, Any]:
        shown = [
            event_document(event, version)
            for event in self._world.events.current()
            if _TYPES_SINCE.get(event.event_type, "") <= version
        ]
        return {"DocumentIncarnation": self._world.events.incarnation, "Events": shown}

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
