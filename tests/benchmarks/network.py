"""Requests to the service: how long a first token takes, and how many concurrent callers send."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from typing import Any

from figures import AZURE_IDENTITY, compare

import imds_identity
import imds_identity.aio
from imds_identity.emulator import Emulator

SCOPE = "https://vault.azure.net/.default"
CALLERS = 64
ROUNDS = 120

# Each round fetches a token with a new credential and an empty cache. One process runs all sides in
# turns, so that a disturbance affects all sides.
FIRST_TOKEN = """
import os, statistics, sys, time
import requests
import imds_identity, imds_identity.credential
import imds_identity._http.transport, imds_identity._sources.imds
import azure.identity
import azure.core.credentials
url = os.environ["AZURE_POD_IDENTITY_AUTHORITY_HOST"] + (
    "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net")

def bare():
    with requests.Session() as session:
        session.get(url, headers={"Metadata": "true"}).json()

def ours():
    imds_identity.ManagedIdentityCredential().get_token("https://vault.azure.net/.default")

def theirs():
    with azure.identity.ManagedIdentityCredential() as credential:
        credential.get_token("https://vault.azure.net/.default")

sides = (bare, ours, theirs)
times = {side: [] for side in sides}
for round in range(int(sys.argv[1])):
    # A permit of the rate limit is used again after 0.25 s. A program's first token finds all free.
    time.sleep(0.3)
    turn = round % 3  # the first side after the pause is slower
    for side in sides[turn:] + sides[:turn]:
        imds_identity.clear_cache()
        started = time.perf_counter()
        side()
        if round >= 5:
            times[side].append(time.perf_counter() - started)
print(*(statistics.median(times[side]) for side in sides))
"""


def first_token() -> None:
    """Compare with a bare request and with azure-identity; one process sends all requests."""
    for kind, cache, target in (("cache off", "off", 1.0), ("shared cache", "", 1.15)):
        with Emulator() as emulator:
            environment = {**os.environ, **emulator.environment(), "IMDS_IDENTITY_CACHE": cache}
            done = subprocess.run(
                [sys.executable, "-c", FIRST_TOKEN, str(ROUNDS)],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
        bare, ours, theirs = (float(value) * 1e3 for value in done.stdout.split())
        compare(f"first token, {kind}", ours, bare, "ms", target, "bare request")
        compare(f"first token, {kind}", ours, theirs, "ms", 1.0, AZURE_IDENTITY)


def threads() -> None:
    """Count the requests of 64 threads, each with its own credential."""

    def count_requests(credential_type: Any) -> int:
        with Emulator(latency=0.05) as emulator:
            os.environ.update(emulator.environment())
            barrier = threading.Barrier(CALLERS)

            def call() -> None:
                credential = credential_type()
                barrier.wait()
                credential.get_token(SCOPE)

            workers = [threading.Thread(target=call) for _ in range(CALLERS)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            return len(emulator.token_requests)

    import azure.identity

    imds_identity.clear_cache()
    ours = count_requests(imds_identity.ManagedIdentityCredential)
    theirs = count_requests(azure.identity.ManagedIdentityCredential)
    compare("requests of 64 threads", ours, theirs, "requests", 1 / 64, AZURE_IDENTITY)


def tasks() -> None:
    """Count the requests of 64 tasks, each with its own credential."""

    async def count_requests(credential_type: Any) -> int:
        with Emulator(latency=0.05) as emulator:
            os.environ.update(emulator.environment())
            credentials = [credential_type() for _ in range(CALLERS)]
            await asyncio.gather(*(credential.get_token(SCOPE) for credential in credentials))
            for credential in credentials:
                await credential.close()
            return len(emulator.token_requests)

    import azure.identity.aio

    imds_identity.clear_cache()
    ours = asyncio.run(count_requests(imds_identity.aio.ManagedIdentityCredential))
    theirs = asyncio.run(count_requests(azure.identity.aio.ManagedIdentityCredential))
    compare("requests of 64 tasks", ours, theirs, "requests", 1 / 64, AZURE_IDENTITY)
