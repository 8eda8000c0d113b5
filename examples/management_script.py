"""A script that calls the management plane with requests, and no SDK at all.

python examples/management_script.py
"""

from __future__ import annotations

from typing import Any

import requests

from imds_identity import ManagedIdentityAuth

ARM = "https://management.azure.com"


def subscriptions(base_url: str = ARM, **options: Any) -> list[str]:
    """The names of the subscriptions that the identity can see; ``options`` go to requests."""
    answer = requests.get(
        f"{base_url}/subscriptions?api-version=2022-12-01",
        auth=ManagedIdentityAuth(f"{ARM}/.default"),
        timeout=30,
        **options,
    )
    answer.raise_for_status()
    return [subscription["displayName"] for subscription in answer.json()["value"]]


if __name__ == "__main__":
    print("\n".join(subscriptions()))
