"""Prints an inventory as JSON Lines: a line for this machine, or for each saved instance document.

    python examples/inventory.py >> inventory.jsonl
    python examples/inventory.py documents/*.json > inventory.jsonl

The lines contain neither custom data nor user data, which may contain secrets.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imds_identity.metadata import MetadataClient, parse_instance

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from imds_identity.metadata import Instance

FIELDS = (
    *("vm_id", "name", "resource_id", "subscription_id", "resource_group_name", "location"),
    *("zone", "vm_size", "os_type", "publisher", "offer", "sku", "version", "priority"),
    *("license_type", "az_environment", "security_profile"),
)


def record(instance: Instance, public_ips: Iterable[str] | None = None) -> dict[str, Any]:
    """Return the line of a machine as JSON-serializable values.

    A saved instance document does not contain all public addresses: they are None if unknown.
    """
    compute = instance.compute
    values = dataclasses.asdict(compute)
    interfaces = instance.network.interfaces
    addresses = [each for nic in interfaces for each in nic.ipv4.ip_addresses]
    return {
        **{name: values[name] for name in FIELDS},
        "scale_set": compute.scale_set._asdict() if compute.scale_set else None,
        "tags": compute.tags,
        "mac_addresses": [nic.mac_address for nic in interfaces],
        "private_ips": [each.private_ip_address for each in addresses],
        "public_ips": None if public_ips is None else list(public_ips),
        "data_disks": len(compute.storage_profile.data_disks),
    }


def records(paths: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield the line of each document; that of this machine if there are none."""
    documents = [parse_instance(Path(path).read_bytes()) for path in paths]
    yield from map(record, documents)
    if not documents:
        client = MetadataClient()
        yield record(client.instance(), client.public_ips())


if __name__ == "__main__":
    for line in records(sys.argv[1:]):
        print(json.dumps(line))
