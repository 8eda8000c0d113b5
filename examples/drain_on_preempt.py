"""A Dask worker on a Spot VM that hands its work over in the thirty seconds before it is evicted.

    python examples/drain_on_preempt.py tcp://scheduler:8786 tcp://10.0.0.4:40331

runs beside the worker, whose address comes second. Retiring a worker moves its results to others
and gives it no more tasks; then the eviction is approved, so that a new VM comes sooner.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from imds_identity.metadata import MetadataClient

if TYPE_CHECKING:
    from collections.abc import Callable

ENDINGS = ("Preempt", "Terminate")


def drain_at_the_end(client: MetadataClient, drain: Callable[[], object]) -> str | None:
    """Wait until this machine is about to go, and drain it first.

    Args:
        client: tells of scheduled events.
        drain: what to do before; it has thirty seconds if the VM is evicted.

    Returns:
        The id of the event.
    """
    for change in client.watch():
        event = change.event
        if event.event_type in ENDINGS and change.kind in ("scheduled", "started"):
            drain()
            if change.kind == "scheduled" and event.event_id is not None:
                client.start(event.event_id)
            return event.event_id
    return None


def retire(scheduler: str, worker: str) -> None:
    """Have the worker's work go to others."""
    from distributed import Client

    with Client(scheduler) as dask:
        dask.retire_workers([worker], close_workers=True)


if __name__ == "__main__":
    drain_at_the_end(MetadataClient(), lambda: retire(sys.argv[1], sys.argv[2]))
