"""A program that fetches tokens through all adapters and transports; prints their number."""

from __future__ import annotations

import asyncio
import itertools

import httpx
import requests
from azure.core.pipeline.transport import (
    AioHttpTransport,
    AsyncioRequestsTransport,
    RequestsTransport,
)

import imds_identity.aio
import imds_identity.httpx
import imds_identity.metadata
import imds_identity.metadata.aio

CLAIMS = '{"access_token":{"acrs":{"essential":true,"value":"c1"}}}'
URL = "https://service.example/"
NUMBERS = itertools.count()


def new_scope() -> str:
    """Return a scope for which there is no token."""
    return f"https://resource-{next(NUMBERS)}.example/.default"


def respond(request: httpx.Request) -> httpx.Response:
    """Respond without a network."""
    return httpx.Response(200 if request.headers["Authorization"].startswith("Bearer ") else 401)


def use_sync_adapters() -> None:
    """Fetch tokens with the sync classes."""
    with imds_identity.ManagedIdentityCredential(transport=RequestsTransport()) as credential:
        credential.get_token(new_scope())
    with imds_identity.ManagedIdentityCredential(
        raw_request_hook=id, on_event=id, retry_total=1, logging_enable=True
    ) as credential:
        scope = new_scope()
        credential.get_token(scope)
        credential.get_token_info(scope)
        credential.get_token(scope, claims=CLAIMS)
        next(NUMBERS)
    requests.Request("GET", URL, auth=imds_identity.ManagedIdentityAuth(new_scope())).prepare()
    with httpx.Client(
        auth=imds_identity.httpx.ManagedIdentityAuth(new_scope()),
        transport=httpx.MockTransport(respond),
    ) as client:
        client.get(URL).raise_for_status()
    imds_identity.metadata.MetadataClient().compute()


async def use_async_adapters() -> None:
    """Fetch tokens with the async classes."""
    asyncio.get_running_loop().slow_callback_duration = 60  # on a busy machine
    for transport in (AioHttpTransport(), AsyncioRequestsTransport(), RequestsTransport()):
        async with imds_identity.aio.ManagedIdentityCredential(transport=transport) as credential:
            await credential.get_token(new_scope())
    async with imds_identity.aio.ManagedIdentityCredential(raw_request_hook=id) as credential:
        await credential.get_token(new_scope())
        canceled = asyncio.create_task(credential.get_token(scope := new_scope()))
        await asyncio.sleep(0)
        canceled.cancel()
        await asyncio.wait([canceled])
        await credential.get_token(scope)
    async with httpx.AsyncClient(
        auth=imds_identity.httpx.ManagedIdentityAuth(new_scope()),
        transport=httpx.MockTransport(respond),
    ) as client:
        (await client.get(URL)).raise_for_status()
    await imds_identity.metadata.aio.MetadataClient().compute()


if __name__ == "__main__":
    use_sync_adapters()
    asyncio.run(use_async_adapters())
    print(next(NUMBERS))
