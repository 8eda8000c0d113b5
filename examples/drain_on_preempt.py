"""Drains a Dask worker on a Spot VM in the thirty seconds before its eviction.

    python examples/drain_on_preempt.py tcp://scheduler:8786 tcp://10.0.0.4:40331

runs next to the worker, whose address is the second argument. Retiring a worker moves its results
to other workers and assigns no more tasks to it. Then the script approves the eviction, so that a
new VM starts sooner, unless the same event would also start on other machines.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from imds_identity.metadata import MetadataClient, MetadataError, own_names, why_not_approve

if TYPE_CHECKING:
    from collections.abc import Callable

EVICTIONS = ("Preempt", "Terminate")


def drain_before_eviction(client: MetadataClient, drain: Callable[[], object]) -> str | None:
    """Wait until this machine will be evicted, and drain it first.

    Args:
        client: the metadata client.
        drain: is called before the eviction; a Spot VM has thirty seconds.

    Returns:
        The ID of the event.
    """
    watcher = client.watch()
    for change in watcher:
        event_id = change.event.event_id
        if change.event.event_type in EVICTIONS and change.kind in ("scheduled", "started"):
            drain()
            # The current state: the event may have changed or started in the meantime.
            event = watcher.known(event_id)
            reason = why_not_approve(event, names=own_names(client.compute()))
            if reason is None:
                approve(client, event_id or "")
            else:
                print(f"Did not approve {event_id}: {reason}", file=sys.stderr)
            return event_id
    return None


def approve(client: MetadataClient, event_id: str) -> None:
    """Approve the event; it may be gone in the meantime."""
    try:
        client.start(event_id)
    except MetadataError as error:
        print(f"Did not approve {event_id}: {error}", file=sys.stderr)


def retire(scheduler: str, worker: str) -> None:
    """Move the work of the worker to other workers."""
    from distributed import Client

    with Client(scheduler) as dask:
        dask.retire_workers([worker], close_workers=True)


if __name__ == "__main__":
    drain_before_eviction(MetadataClient(), lambda: retire(sys.argv[1], sys.argv[2]))
