"""An ASGI application: each request gets tokens; the response has digests and the process id."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any

from token_jobs import aio_job, sync_job

import imds_identity
import imds_identity.aio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CREDENTIAL = imds_identity.ManagedIdentityCredential()
AIO_CREDENTIAL = imds_identity.aio.ManagedIdentityCredential()
JOBS: dict[str, Callable[[], Awaitable[list[str]]]] = {
    "/sync": lambda: asyncio.to_thread(sync_job, CREDENTIAL),
    "/new": aio_job,
    "/aio": lambda: aio_job(AIO_CREDENTIAL),
}


async def app(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """Run the job of the requested path."""
    if scope["type"] == "lifespan":
        for _ in range(2):
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
        return
    digests = await JOBS[scope["path"]]()
    body = json.dumps({"process": os.getpid(), "digests": digests}).encode()
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})
