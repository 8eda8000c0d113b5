"""What goes over the network: how long a first token takes, and how many requests a crowd makes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from typing import Any

from report import compare

import imds_identity
import imds_identity.aio
from imds_identity.emulator import Emulator

SCOPE = "https://vault.azure.net/.default"
CROWD = 64
ROUNDS = 120

# Each first token is one of a fresh credential and an empty cache, in one process that takes
# turns, so that what disturbs one side disturbs all.
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
    time.sleep(0.07)  # no more requests a second than the machine as a whole may send
    turn = round % 3  # who is first after a rest pays for it
    for side in sides[turn:] + sides[:turn]:
        imds_identity.clear_cache()
        started = time.perf_counter()
        side()
        if round >= 5:
            times[side].append(time.perf_counter() - started)
print(*(statistics.median(times[side]) for side in sides))
"""


def first_token() -> None:
    """Compare with a bare request and with azure-identity, the service in another process."""
    for what, cache in (("first token, alone", "off"), ("first token, shared", "")):
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
        compare(what, ours, bare, "ms", 1.15, "bare requests ")
        compare(what, ours, theirs, "ms", 1.0, "azure-identity")


def threads() -> None:
    """How many requests 64 threads make, each with a credential of its own."""

    def run_processes(make: Any) -> int:
        with Emulator(latency=0.05) as emulator:
            os.environ.update(emulator.environment())
            barrier = threading.Barrier(CROWD)

            def work() -> None:
                credential = make()
                barrier.wait()
                credential.get_token(SCOPE)

            workers = [threading.Thread(target=work) for _ in range(CROWD)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            return len(emulator.token_requests)

    import azure.identity

    imds_identity.clear_cache()
    ours = run_processes(imds_identity.ManagedIdentityCredential)
    theirs = run_processes(azure.identity.ManagedIdentityCredential)
    compare("requests of 64 threads", ours, theirs, "requests", 1 / 64, "azure-identity")


def tasks() -> None:
    """How many requests 64 tasks make, each with a credential of its own."""

    async def run_processes(make: Any) -> int:
        with Emulator(latency=0.05) as emulator:
            os.environ.update(emulator.environment())
            credentials = [make() for _ in range(CROWD)]
            await asyncio.gather(*(credential.get_token(SCOPE) for credential in credentials))
            for credential in credentials:
                await credential.close()
            return len(emulator.token_requests)

    import azure.identity.aio

    imds_identity.clear_cache()
    ours = asyncio.run(run_processes(imds_identity.aio.ManagedIdentityCredential))
    theirs = asyncio.run(run_processes(azure.identity.aio.ManagedIdentityCredential))
    compare("requests of 64 tasks", ours, theirs, "requests", 1 / 64, "azure-identity")
