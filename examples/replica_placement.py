"""Spreads replicas over availability zones and fault domains, so that they do not fail together.

    python examples/replica_placement.py

prints the rack of this machine, for a setting such as Kafka's ``broker.rack`` or Cassandra's rack
file. Machines in one availability zone share power and network. Within a zone, or in a region
without zones, machines in one fault domain share a rack.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from imds_identity.metadata import MetadataClient

if TYPE_CHECKING:
    from collections.abc import Mapping


def rack(client: MetadataClient) -> str:
    """Return the location of a machine: ``region/zone/fault domain``, ``-`` for a missing part."""
    compute = client.compute()
    parts = (compute.location, compute.zone, compute.platform_fault_domain)
    return "/".join("-" if part is None else str(part) for part in parts)


def spread(replicas: int, racks: Mapping[str, str]) -> list[str]:
    """Return servers for replicas, in as many zones and then fault domains as possible.

    Args:
        replicas: the number of replicas.
        racks: the rack of each server.
    """
    chosen: list[str] = []
    used: Counter[str] = Counter()

    def load(server: str) -> tuple[int, int, str]:
        zone = racks[server].rpartition("/")[0]
        return used[zone], used[racks[server]], server

    while len(chosen) < min(replicas, len(racks)):
        server = min(racks.keys() - set(chosen), key=load)
        chosen.append(server)
        used.update((racks[server], racks[server].rpartition("/")[0]))
    return chosen


if __name__ == "__main__":
    print(rack(MetadataClient()))
