"""Many processes and a service with its limits: 20 requests per second, 5 at once, 50 ms each."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from figures import AZURE_IDENTITY, compare, record
from table import FAILED, THROTTLED
from timing import fastest_runs

from concurrent_processes import kill_repeatedly, run_concurrently
from imds_identity.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Iterator

VAULT = "https://vault.azure.net"
KILLS = 1000
STARTS = 21
TIMEOUT_SECONDS = 90


@contextmanager
def run_service(**settings: object) -> Iterator[tuple[Emulator, dict[str, str]]]:
    """Run an emulator; yield it and an environment for clients that share a cache in memory."""
    with (
        Emulator(key_vault=False, resources=["*"], **settings) as emulator,  # type: ignore[arg-type]
        tempfile.TemporaryDirectory(dir="/dev/shm") as folder,
    ):
        cache = {"IMDS_IDENTITY_CACHE": f"{folder}/cache"}
        yield emulator, {**os.environ, **emulator.environment(), **cache}


def count_requests(
    module: str, processes: int, threads: int, resources: int
) -> tuple[int, int, int]:
    """Return the numbers of requests, of throttled requests and of failed processes."""
    with run_service(limits=True, latency=0.05) as (emulator, environment):
        errors = run_concurrently(
            environment, processes, threads, resources, module=module, timeout=TIMEOUT_SECONDS
        )
        requests = emulator.token_requests
        return len(requests), sum(r.status == 429 for r in requests), sum(map(bool, errors))


def concurrent_processes() -> None:
    """Compare three combinations of processes, threads and resources."""
    for processes, threads, resources in ((16, 8, 1), (60, 1, 1), (60, 1, 12)):
        ours = count_requests("imds_identity", processes, threads, resources)
        theirs = count_requests("azure.identity", processes, threads, resources)
        measurement = f"{processes} processes x {threads} threads x {resources} resources"
        for package, counts in (("imds-identity", ours), (AZURE_IDENTITY, theirs)):
            print(
                f"{measurement}: {package} sent {counts[0]} requests, {counts[1]} of them "
                f"throttled, {counts[2]} processes failed"
            )
        for position, kind in enumerate((THROTTLED, FAILED), 1):
            record(f"{measurement}, {kind}", ours[position], theirs[position], AZURE_IDENTITY)
        target = resources / theirs[0]
        compare(measurement, ours[0], theirs[0], "requests", target, AZURE_IDENTITY)


def kills() -> None:
    """Kill processes at random moments, four running at a time; the next process must succeed."""
    with run_service() as (_, environment):
        failed = kill_repeatedly(environment, KILLS, running=4, max_interval=0.12, seed=1)
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "imds_identity", "token", VAULT],
            env=environment, capture_output=True, check=False,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        print(
            f"{KILLS} kill -9, 4 processes at a time: {failed} failed before they were killed; "
            f"afterwards `imds-identity token` exited with {done.returncode} in {seconds:.2f} s"
        )


def warm() -> None:
    """Compare new processes, from start to token, where the shared cache has a token."""
    script = "from {0} import ManagedIdentityCredential as M; M().get_token('{1}/.default')"
    with run_service() as (emulator, environment):
        python = sys.executable
        commands = (
            [python, "-c", script.format("imds_identity", VAULT)],
            [python, "-c", script.format("azure.identity", VAULT)],
            [f"{Path(python).parent}/imds-identity", "token", VAULT],
            [python, "-c", "pass"],
        )
        ours, theirs, command, nothing = (
            seconds * 1e3
            for seconds in fastest_runs(STARTS, *((each, environment) for each in commands))
        )
        # One request by this package, and one by each process with azure-identity.
        assert len(emulator.token_requests) == 1 + (STARTS + 1)
        compare("start to token, warm cache", ours, theirs, "ms", 0.35, AZURE_IDENTITY)
        compare("imds-identity token, warm cache", command, nothing, "ms", 5.0, "python -c pass")
