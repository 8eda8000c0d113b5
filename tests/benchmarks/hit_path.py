"""A token that is in memory: sync and aio, the same loop around either credential."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import azure.identity
import azure.identity.aio
from report import compare

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
    """A call in the quickest of short rounds: the others were disturbed."""
    return min(rounds) / CALLS * 1e6


class Empty:
    """The least that any credential can cost: azure-core's signature, and nothing done."""

    def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,
        enable_cae: bool = False,
        **kwargs: Any,
    ) -> None:
        """Do nothing."""


class AsyncEmpty:
    """The same, to be awaited."""

    async def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,
        enable_cae: bool = False,
        **kwargs: Any,
    ) -> None:
        """Do nothing."""


def sync_face() -> None:
    """Compare the sync credentials, which take turns."""
    ours: Any = imds_identity.ManagedIdentityCredential()
    theirs: Any = azure.identity.ManagedIdentityCredential()
    ours.get_token(SCOPE)
    theirs.get_token(SCOPE)
    sides = (ours, theirs, Empty())
    report(
        "cached get_token, sync", [[sync_seconds(side) for side in sides] for _ in range(ROUNDS)]
    )


async def async_face() -> None:
    """Compare the async credentials, which take turns."""
    ours: Any = imds_identity.aio.ManagedIdentityCredential()
    theirs: Any = azure.identity.aio.ManagedIdentityCredential()
    sides = (ours, theirs, AsyncEmpty())
    async with ours, theirs:
        await ours.get_token(SCOPE)
        await theirs.get_token(SCOPE)
        rounds = [[await async_seconds(side) for side in sides] for _ in range(ROUNDS)]
    report("cached get_token, aio", rounds)


def report(what: str, rounds: list[list[float]]) -> None:
    """Two lines."""
    ours, theirs, empty = (microseconds(list(side)) for side in zip(*rounds, strict=True))
    compare(what, ours, theirs, "µs", 1 / 40, "azure-identity")
    compare(what, ours, empty, "µs", 2.0, "an empty method")


def run() -> None:
    """Compare both faces."""
    with Emulator() as emulator:
        os.environ.update(emulator.environment())
        sync_face()
        asyncio.run(async_face())
