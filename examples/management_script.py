"""Call the management plane with requests, without an SDK.

python examples/management_script.py
"""

from __future__ import annotations

from typing import Any

import requests

from imds_identity import ManagedIdentityAuth

ARM = "https://management.azure.com"


def subscriptions(base_url: str = ARM, **options: Any) -> list[str]:
    """Return the names of the identity's subscriptions. ``options`` are passed to requests."""
    response = requests.get(
        f"{base_url}/subscriptions?api-version=2022-12-01",
        auth=ManagedIdentityAuth(f"{ARM}/.default"),
        timeout=30,
        **options,
    )
    response.raise_for_status()
    return [subscription["displayName"] for subscription in response.json()["value"]]


if __name__ == "__main__":
    print("\n".join(subscriptions()))
