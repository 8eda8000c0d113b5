"""``/metadata/scheduledevents``: the scheduled events, and their approval by the machine."""

from __future__ import annotations

import json
from email.utils import formatdate
from typing import TYPE_CHECKING

from .._messages import Response, json_response
from .._state.events import NoSuchEventError
from .request_checks import ApiError, check_request

if TYPE_CHECKING:
    from .._messages import Request
    from .._state.events import ScheduledEvent
    from .._state.fault import Fault
    from .._state.state import EmulatorState

PATH = "/metadata/scheduledevents"
INTRODUCED = "2017-03-01"
# The api-versions of this category only.
_ADDITIONAL_VERSIONS = ("2017-11-01", "2019-01-01", "2019-04-01", "2020-07-01")
# Before this version, the name of a machine started with an underscore.
_PLAIN_NAMES_SINCE = "2017-08-01"
_TYPES_SINCE = {"Preempt": "2017-11-01", "Terminate": "2019-01-01"}
_FIELDS_SINCE = {
    "Description": "2019-04-01",
    "EventSource": "2019-08-01",
    "DurationInSeconds": "2020-07-01",
}


def event_document(event: ScheduledEvent, version: str) -> dict[str, object]:
    """Return an event in the form of an api-version."""
    started = event.status == "Started"
    prefix = "_" if version < _PLAIN_NAMES_SINCE else ""
    document = {
        "Description": event.description,
        "DurationInSeconds": event.duration,
        "EventId": event.event_id,
        "EventSource": event.source,
        "EventStatus": event.status,
        "EventType": event.event_type,
        "NotBefore": "" if started else formatdate(event.not_before, usegmt=True),
        "Resources": [prefix + name for name in event.resources],
        "ResourceType": "VirtualMachine",
    }
    return {name: document[name] for name in document if _FIELDS_SINCE.get(name, "") <= version}


class EventsEndpoint:
    """Returns the events, and accepts approvals."""

    def __init__(self, state: EmulatorState) -> None:
        self._state = state
        newest = state.versions[-1]
        additional = {version for version in _ADDITIONAL_VERSIONS if version <= newest}
        self._versions = sorted({*state.versions, *additional})

    def __call__(self, request: Request, _fault: Fault | None) -> Response:
        check_request(
            request, methods=("GET", "POST"), introduced=INTRODUCED, supported=self._versions
        )
        if request.method == "POST":
            return self._approve(request.body)
        return json_response(200, self._document(request.parameter("api-version") or ""))

    def _document(self, version: str) -> dict[str, object]:
        events = [
            event_document(event, version)
            for event in self._state.events.current()
            if _TYPES_SINCE.get(event.event_type, "") <= version
        ]
        return {"DocumentIncarnation": self._state.events.incarnation, "Events": events}

    def _approve(self, body: bytes) -> Response:
        try:
            self._state.events.approve(_approved_ids(body))
        except ValueError as error:
            raise ApiError(400, f"Bad request. {error}") from None
        except NoSuchEventError:
            raise ApiError(400, "Bad request. No event of that EventId exists") from None
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
