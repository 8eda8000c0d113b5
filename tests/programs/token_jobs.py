"""Token requests as programs make them. Each job returns digests, so that no token is printed."""

from __future__ import annotations

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor

import imds_identity
import imds_identity.aio

SCOPES = tuple(f"https://resource-{number}.example/.default" for number in range(3))


def digest(token: str) -> str:
    """Return a digest of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def sync_job(credential: imds_identity.ManagedIdentityCredential | None = None) -> list[str]:
    """Request a token for each scope from a sync credential, by default a new one."""
    credential = credential or imds_identity.ManagedIdentityCredential()
    return [digest(credential.get_token(scope).token) for scope in SCOPES]


def threads_job(
    credential: imds_identity.ManagedIdentityCredential | None = None, threads: int = 8
) -> list[list[str]]:
    """Run `sync_job` in concurrent threads."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(sync_job, [credential] * threads))


async def aio_job(
    credential: imds_identity.aio.ManagedIdentityCredential | None = None,
) -> list[str]:
    """Request a token for each scope from an async credential, by default a new one."""
    _allow_slow_steps()
    credential = credential or imds_identity.aio.ManagedIdentityCredential()
    return [digest((await credential.get_token(scope)).token) for scope in SCOPES]


async def tasks_job(
    credential: imds_identity.aio.ManagedIdentityCredential | None = None, tasks: int = 8
) -> list[list[str]]:
    """Run `aio_job` in concurrent tasks."""
    _allow_slow_steps()
    return await asyncio.gather(*(aio_job(credential) for _ in range(tasks)))


def _allow_slow_steps() -> None:
    """Prevent asyncio's warning in development mode: on a busy machine any step may be slow."""
    asyncio.get_running_loop().slow_callback_duration = 60
