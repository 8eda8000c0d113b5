"""Writes scheduled events as metrics for the textfile collector of Prometheus's node_exporter.

    python examples/scheduled_events_prometheus.py /var/lib/node_exporter/scheduled_events.prom

The file is replaced every ten seconds. An alert can use the seconds until an event may start:

    azure_scheduled_event_not_before_seconds - time() < 300

If the service fails, `azure_scheduled_events_up` is 0, and the events of the last response remain.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from imds_identity.metadata import MetadataClient, MetadataError, own_names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from imds_identity.metadata import ScheduledEvent

SECONDS = 10
_EVENT = "azure_scheduled_event_not_before_seconds"
_UP = "azure_scheduled_events_up"


def metrics(events: Iterable[ScheduledEvent], names: Iterable[str], *, up: bool) -> str:
    """Return the metrics of a machine with these names in Prometheus's text format."""
    own = tuple(names)
    lines = [
        f"# HELP {_EVENT} Earliest start of an event in Unix time; 0 if it has started.",
        f"# TYPE {_EVENT} gauge",
        *(_sample(event, event.concerns(*own)) for event in events),
        f"# HELP {_UP} Whether the last request for events succeeded.",
        f"# TYPE {_UP} gauge",
        f"{_UP} {int(up)}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _sample(event: ScheduledEvent, is_own: bool) -> str:
    labels = {
        "id": event.event_id,
        "type": event.event_type,
        "status": event.status,
        "source": event.source,
        "own": "true" if is_own else "false",
    }
    pairs = ",".join(f'{name}="{_escape(value or "")}"' for name, value in labels.items())
    return f"{_EVENT}{{{pairs}}} {event.not_before.timestamp() if event.not_before else 0}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def replace(path: str, text: str) -> None:
    """Write a file so that its reader never sees a part of it."""
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
    os.replace(temporary, path)


class Exporter:
    """Writes the metrics of this machine's events to a file."""

    def __init__(self, client: MetadataClient, path: str) -> None:
        self._client = client
        self._path = path
        self._names: Iterable[str] = ()
        self._events: tuple[ScheduledEvent, ...] = ()

    def poll(self) -> None:
        """Send one request, and write the metrics."""
        try:
            self._names = self._names or own_names(self._client.compute())
            self._events = self._client.scheduled_events(retry=False).events
            up = True
        except MetadataError as error:
            print(error, file=sys.stderr)
            up = False
        replace(self._path, metrics(self._events, self._names, up=up))


if __name__ == "__main__":
    exporter = Exporter(MetadataClient(), sys.argv[1])
    while True:
        exporter.poll()
        time.sleep(SECONDS)
