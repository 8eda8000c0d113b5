"""Many processes, and a server that keeps the service's limits: 20 a second, 5 at once, 50 ms."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from commands import least
from report import compare, keep
from table import FAILED, REFUSED

from imds_identity.emulator import Emulator
from process_groups import killed_at_random, run_processes

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "https://vault.azure.net"
KILLS = 1000
STARTS = 21
PATIENCE = 90


@contextmanager
def service(**settings: object) -> Iterator[tuple[Emulator, dict[str, str]]]:
    """An emulator, and the environment of clients that share a directory in memory."""
    with (
        Emulator(key_vault=False, resources=["*"], **settings) as emulator,  # type: ignore[arg-type]
        tempfile.TemporaryDirectory(dir="/dev/shm") as folder,
    ):
        cache = {"IMDS_IDENTITY_CACHE": f"{folder}/cache"}
        yield emulator, {**os.environ, **emulator.environment(), **cache}


def figures_of(module: str, processes: int, threads: int, resources: int) -> tuple[int, int, int]:
    """Requests, how many of them were refused, and how many processes failed."""
    with service(limits=True, latency=0.05) as (emulator, environment):
        said = run_processes(
            environment, processes, threads, resources, module=module, patience=PATIENCE
        )
        requests = emulator.token_requests
        return len(requests), sum(r.status == 429 for r in requests), sum(map(bool, said))


def process_groups() -> None:
    """Compare three groups of processes."""
    for processes, threads, resources in ((16, 8, 1), (60, 1, 1), (60, 1, 12)):
        ours = figures_of("imds_identity", processes, threads, resources)
        theirs = figures_of("azure.identity", processes, threads, resources)
        what = f"{processes} processes x {threads} threads x {resources} resources"
        for side, figures in (("ours", ours), ("azure-identity", theirs)):
            print(
                f"{what}: {side} made {figures[0]} requests, {figures[1]} of them refused, "
                f"{figures[2]} processes failed"
            )
        for position, kind in enumerate((REFUSED, FAILED), 1):
            keep(f"{what}, {kind}, beside azure-identity", ours[position], theirs[position])
        compare(what, ours[0], theirs[0], "requests", resources / theirs[0], "azure-identity")


def kills() -> None:
    """Kill processes at random moments, four alive at a time; then nothing is in the way."""
    with service() as (_, environment):
        failed = killed_at_random(environment, KILLS, alive=4, longest=0.12, seed=1)
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "imds_identity", "token", SECRET],
            env=environment, capture_output=True, check=False,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        print(
            f"{KILLS} kill -9, 4 alive at a time: {failed} had failed before, and after them "
            f"`imds-identity token` ended with {done.returncode} in {seconds:.2f} s"
        )


def warm() -> None:
    """A new process that finds a token: from its start to having it."""
    script = "from {0} import ManagedIdentityCredential as M; M().get_token('{1}/.default')"
    with service() as (emulator, environment):
        python = sys.executable
        commands = (
            [python, "-c", script.format("imds_identity", SECRET)],
            [python, "-c", script.format("azure.identity", SECRET)],
            [f"{Path(python).parent}/imds-identity", "token", SECRET],
            [python, "-c", "pass"],
        )
        ours, theirs, command, nothing = (
            seconds * 1e3 for seconds in least(STARTS, *((each, environment) for each in commands))
        )
        assert len(emulator.token_requests) == 1 + (STARTS + 1)  # azure-identity's own
        compare("start to token, warm cache", ours, theirs, "ms", 0.35, "azure-identity")
        compare("imds-identity token, warm cache", command, nothing, "ms", 3.0, "python -c pass")
