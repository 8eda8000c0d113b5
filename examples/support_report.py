"""Collects the metadata of a machine for a support case, without secrets.

    python examples/support_report.py > report.json

Each part is a document of the service, or the error in its place.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from imds_identity.metadata import MetadataClient, MetadataError

if TYPE_CHECKING:
    from collections.abc import Callable

# Custom data and user data often contain passwords.
HIDDEN = ("customData", "userData", "publicKeys")


def report(client: MetadataClient) -> dict[str, Any]:
    """Return the report as JSON-serializable values."""
    parts: dict[str, Callable[[], Any]] = {
        "versions": lambda: list(client.versions()),
        "instance": lambda: _without_secrets(client.instance().raw),
        "publicAddresses": lambda: list(client.public_ips()),
        "loadBalancer": lambda: client.load_balancer().raw,
        "tenant": client.identity_info,
        "scheduledEvents": lambda: client.scheduled_events().raw,
    }
    return {name: _result(part) for name, part in parts.items()}


def _result(part: Callable[[], Any]) -> Any:
    try:
        return part()
    except MetadataError as error:
        return {"error": str(error), "status": error.status_code}


def _without_secrets(document: Any) -> Any:
    if isinstance(document, dict):
        return {
            name: "(hidden)" if name in HIDDEN and value else _without_secrets(value)
            for name, value in document.items()
        }
    return document


if __name__ == "__main__":
    print(json.dumps(report(MetadataClient()), indent=2))
