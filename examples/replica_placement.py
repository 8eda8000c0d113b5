"""Replicas that do not fail together: each server learns its place, and replicas are spread.

    python examples/replica_placement.py

prints this machine's rack, for a setting such as Kafka's ``broker.rack`` or Cassandra's rack file.
Machines of one availability zone share its power and network; within a zone, or where there are no
zones, machines of one fault domain share a rack.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from imds_identity.metadata import MetadataClient

if TYPE_CHECKING:
    from collections.abc import Mapping


def rack(client: MetadataClient) -> str:
    """Where a machine is, as ``region/zone/fault domain``; ``-`` where there is none."""
    compute = client.compute()
    places = (compute.location, compute.zone, compute.platform_fault_domain)
    return "/".join("-" if place is None else str(place) for place in places)


def spread(replicas: int, racks: Mapping[str, str]) -> list[str]:
    """The servers to put replicas on, in as many zones and then fault domains as there are.

    Args:
        replicas: how many there are to be.
        racks: the rack of each server.
    """
    chosen: list[str] = []
    used: Counter[str] = Counter()

    def crowd(server: str) -> tuple[int, int, str]:
        zone = racks[server].rpartition("/")[0]
        return used[zone], used[racks[server]], server

    while len(chosen) < min(replicas, len(racks)):
        server = min(racks.keys() - set(chosen), key=crowd)
        chosen.append(server)
        used.update((racks[server], racks[server].rpartition("/")[0]))
    return chosen


if __name__ == "__main__":
    print(rack(MetadataClient()))
