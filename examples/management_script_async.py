"""Call the management plane with aiohttp and a bearer token provider.

python examples/management_script_async.py
"""

from __future__ import annotations

import asyncio

import aiohttp

from imds_identity.aio import ManagedIdentityCredential, get_bearer_token_provider

ARM = "https://management.azure.com"


async def subscriptions(base_url: str = ARM) -> list[str]:
    """Return the names of the identity's subscriptions."""
    bearer_token = get_bearer_token_provider(ManagedIdentityCredential(), f"{ARM}/.default")
    headers = {"Authorization": f"Bearer {await bearer_token()}"}
    url = f"{base_url}/subscriptions?api-version=2022-12-01"
    async with (
        aiohttp.ClientSession(raise_for_status=True) as session,
        session.get(url, headers=headers) as response,
    ):
        return [found["displayName"] for found in (await response.json())["value"]]


if __name__ == "__main__":
    print("\n".join(asyncio.run(subscriptions())))
