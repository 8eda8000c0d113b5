"""Cache hits, sync and async: the same loop calls each credential."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import azure.identity
import azure.identity.aio
from figures import AZURE_IDENTITY, compare

import imds_identity
import imds_identity.aio
from imds_identity.emulator import Emulator

SCOPE = "https://vault.azure.net/.default"
CALLS = 2_000
ROUNDS = 60


def sync_seconds(credential: Any) -> float:
    get_token = credential.get_token
    started = time.perf_counter()
    for _ in range(CALLS):
        get_token(SCOPE)
    return time.perf_counter() - started


async def async_seconds(credential: Any) -> float:
    get_token = credential.get_token
    started = time.perf_counter()
    for _ in range(CALLS):
        await get_token(SCOPE)
    return time.perf_counter() - started


def microseconds(rounds: list[float]) -> float:
    """Return the microseconds per call of the fastest round: the others were disturbed."""
    return min(rounds) / CALLS * 1e6


class EmptyCredential:
    """The lower bound of any credential: azure-core's signature and an empty body."""

    def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,
        enable_cae: bool = False,
        **kwargs: Any,
    ) -> None:
        """Do nothing."""


class AsyncEmptyCredential:
    """The async lower bound."""

    async def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,
        enable_cae: bool = False,
        **kwargs: Any,
    ) -> None:
        """Do nothing."""


def compare_sync() -> None:
    """Compare the sync credentials in turns."""
    ours: Any = imds_identity.ManagedIdentityCredential()
    theirs: Any = azure.identity.ManagedIdentityCredential()
    ours.get_token(SCOPE)
    theirs.get_token(SCOPE)
    credentials = (ours, theirs, EmptyCredential())
    report(
        "cached get_token, sync",
        [[sync_seconds(credential) for credential in credentials] for _ in range(ROUNDS)],
    )


async def compare_async() -> None:
    """Compare the async credentials in turns."""
    ours: Any = imds_identity.aio.ManagedIdentityCredential()
    theirs: Any = azure.identity.aio.ManagedIdentityCredential()
    credentials = (ours, theirs, AsyncEmptyCredential())
    async with ours, theirs:
        await ours.get_token(SCOPE)
        await theirs.get_token(SCOPE)
        rounds = [
            [await async_seconds(credential) for credential in credentials] for _ in range(ROUNDS)
        ]
    report("cached get_token, aio", rounds)


def report(measurement: str, rounds: list[list[float]]) -> None:
    """Compare with azure-identity and with an empty method."""
    ours, theirs, empty = (microseconds(list(times)) for times in zip(*rounds, strict=True))
    compare(measurement, ours, theirs, "µs", 1 / 40, AZURE_IDENTITY)
    compare(measurement, ours, empty, "µs", 2.0, "an empty method")


def run() -> None:
    """Compare the sync and async credentials."""
    with Emulator() as emulator:
        os.environ.update(emulator.environment())
        compare_sync()
        asyncio.run(compare_async())
