"""A WSGI application: each request gets tokens; the response has digests and the process id.

With the environment variable FETCH_AT_IMPORT, it also requests tokens when it is imported.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any

from token_jobs import aio_job, sync_job

import imds_identity
import imds_identity.aio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

CREDENTIAL = imds_identity.ManagedIdentityCredential()
AIO_CREDENTIAL = imds_identity.aio.ManagedIdentityCredential()
JOBS: dict[str, Callable[[], list[str]]] = {
    "/sync": lambda: sync_job(CREDENTIAL),
    "/new": sync_job,
    "/aio": lambda: asyncio.run(aio_job(AIO_CREDENTIAL)),
}

if os.environ.get("FETCH_AT_IMPORT"):
    sync_job(CREDENTIAL)


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Run the job of the requested path."""
    body = json.dumps({"process": os.getpid(), "digests": JOBS[environ["PATH_INFO"]]()}).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
