"""What a support case asks of a machine first, in one file, and without what is secret.

    python examples/support_report.py > report.json

Each part is what the service says, or why it does not say it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from imds_identity.metadata import MetadataClient, MetadataError

if TYPE_CHECKING:
    from collections.abc import Callable

# Scripts and settings that were given to the machine, which often hold passwords; and keys.
HIDDEN = ("customData", "userData", "publicKeys")


def report(client: MetadataClient) -> dict[str, Any]:
    """The report, as JSON can carry it."""
    parts: dict[str, Callable[[], Any]] = {
        "versions": lambda: list(client.versions()),
        "instance": lambda: _without_secrets(client.instance().raw),
        "publicAddresses": lambda: list(client.public_ips()),
        "loadBalancer": lambda: client.load_balancer().raw,
        "tenant": client.identity_info,
        "scheduledEvents": lambda: client.scheduled_events().raw,
    }
    return {name: _said(part) for name, part in parts.items()}


def _said(part: Callable[[], Any]) -> Any:
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
