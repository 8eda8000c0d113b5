"""Many processes, and a server that keeps the service's limits: 20 a second, 5 at once, 50 ms."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from report import compare

from imds_identity.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKER = """
import sys, threading
from {module} import ManagedIdentityCredential
failed = []
def work():
    try:
        for number in range({resources}):
            ManagedIdentityCredential().get_token(f"https://resource-{{number}}.example/.default")
    except Exception as error:
        failed.append(error)
crowd = [threading.Thread(target=work) for _ in range({threads})]
print("ready", flush=True)
sys.stdin.readline()
for thread in crowd: thread.start()
for thread in crowd: thread.join()
sys.exit(bool(failed))
"""
RESTLESS = """
import imds_identity, itertools
credential = imds_identity.ManagedIdentityCredential()
print("ready", flush=True)
for number in itertools.count():
    token = credential.get_token("https://vault.azure.net", claims="c" if number % 3 else None)
    assert token.token.count(".") == 2
    if number % 2: imds_identity.clear_cache()
"""
SECRET = "https://vault.azure.net"
KILLS = 1000
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


def crowd(module: str, processes: int, threads: int, resources: int) -> tuple[int, int, int]:
    """Requests, how many of them were refused, and how many processes failed."""
    code = WORKER.format(module=module, threads=threads, resources=resources)
    with service(limits=True, latency=0.05) as (emulator, environment):
        started = [
            subprocess.Popen(
                [sys.executable, "-c", code], env=environment, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )
            for _ in range(processes)
        ]  # fmt: skip
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        failed = sum(_status(process) != 0 for process in started)
        requests = emulator.token_requests
        return len(requests), sum(r.status == 429 for r in requests), failed


def _status(process: subprocess.Popen[str]) -> int:
    try:
        process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    return process.returncode


def crowds() -> None:
    """Compare three crowds."""
    for processes, threads, resources in ((16, 8, 1), (60, 1, 1), (60, 1, 12)):
        ours = crowd("imds_identity", processes, threads, resources)
        theirs = crowd("azure.identity", processes, threads, resources)
        what = f"{processes} processes x {threads} threads x {resources} resources"
        for side, figures in (("ours", ours), ("azure-identity", theirs)):
            print(
                f"{what}: {side} made {figures[0]} requests, {figures[1]} of them refused, "
                f"{figures[2]} processes failed"
            )
        compare(what, ours[0], theirs[0], "requests", resources / theirs[0], "azure-identity")


def kills() -> None:
    """Kill processes at random moments, four alive at a time; then nothing is in the way."""
    dice = random.Random(1)
    with service() as (_, environment):

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                [sys.executable, "-c", RESTLESS], env=environment,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip

        alive = [start() for _ in range(4)]
        for process in alive:
            assert process.stdout is not None
            process.stdout.readline()
        failed = 0
        for _ in range(KILLS):
            victim = alive.pop(0)
            time.sleep(dice.random() * 0.12)
            failed += victim.poll() is not None
            victim.send_signal(signal.SIGKILL)
            victim.communicate()
            alive.append(start())
        for process in alive:
            process.kill()
            process.communicate()
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

        def milliseconds(*command: str) -> float:
            times = []
            for _ in range(21):
                started = time.perf_counter()
                subprocess.run(
                    [sys.executable, *command], env=environment, check=True, capture_output=True
                )
                times.append(time.perf_counter() - started)
            return min(times) * 1e3

        ours = milliseconds("-c", script.format("imds_identity", SECRET))
        theirs = milliseconds("-c", script.format("azure.identity", SECRET))
        before = len(emulator.token_requests)
        command = milliseconds("-m", "imds_identity", "token", SECRET)
        nothing = milliseconds("-c", "pass")
        assert len(emulator.token_requests) == before
        compare("start to token, warm cache", ours, theirs, "ms", 0.5, "azure-identity")
        compare("imds-identity token, warm cache", command, nothing, "ms", 4.0, "python -c pass")
