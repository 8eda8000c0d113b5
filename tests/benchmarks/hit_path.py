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


def sync_face() -> None:
    """Compare the sync credentials, which take turns."""
    ours: Any = imds_identity.ManagedIdentityCredential()
    theirs: Any = azure.identity.ManagedIdentityCredential()
    ours.get_token(SCOPE)
    theirs.get_token(SCOPE)
    rounds = [(sync_seconds(ours), sync_seconds(theirs)) for _ in range(ROUNDS)]
    report("cached get_token, sync", rounds)


async def async_face() -> None:
    """Compare the async credentials, which take turns."""
    ours: Any = imds_identity.aio.ManagedIdentityCredential()
    theirs: Any = azure.identity.aio.ManagedIdentityCredential()
    async with ours, theirs:
        await ours.get_token(SCOPE)
        await theirs.get_token(SCOPE)
        rounds = [(await async_seconds(ours), await async_seconds(theirs)) for _ in range(ROUNDS)]
    report("cached get_token, aio", rounds)


def report(what: str, rounds: list[tuple[float, float]]) -> None:
    """One line."""
    ours, theirs = (microseconds(list(side)) for side in zip(*rounds, strict=True))
    compare(what, ours, theirs, "µs", 1 / 40, "azure-identity")


def run() -> None:
    """Compare both faces."""
    with Emulator() as emulator:
        os.environ.update(emulator.environment())
        sync_face()
        asyncio.run(async_face())
