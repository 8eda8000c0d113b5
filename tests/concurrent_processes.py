"""Processes that request tokens concurrently, or until they are killed."""

from __future__ import annotations

import random
import subprocess
import sys
import time

THREADS_SCRIPT = """
import sys, threading
from importlib import import_module
module, threads, resources = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
credential_type = import_module(module).ManagedIdentityCredential
errors = []

def call():
    try:
        for number in range(resources):
            credential_type().get_token(f"https://resource-{number}.example/.default")
    except Exception as error:
        errors.append(error)

callers = [threading.Thread(target=call) for _ in range(threads)]
print("ready", flush=True)
sys.stdin.readline()
for thread in callers: thread.start()
for thread in callers: thread.join()
if errors: raise errors[0]
"""
# Fetches, refreshes and writes without a pause.
ENDLESS_SCRIPT = """
import imds_identity, itertools
credential = imds_identity.ManagedIdentityCredential()
print("ready", flush=True)
for number in itertools.count():
    token = credential.get_token("https://vault.azure.net", claims="c" if number % 3 else None)
    assert token.token.count(".") == 2
    if number % 2: imds_identity.clear_cache()
"""


def start_script(
    environment: dict[str, str], script: str, *arguments: object
) -> subprocess.Popen[str]:
    """Start a process that runs ``script``, and wait until it prints that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    return process


def run_concurrently(
    environment: dict[str, str],
    processes: int,
    threads: int,
    resources: int,
    *,
    module: str = "imds_identity",
    timeout: float = 60,
) -> list[str]:
    """Run processes that start at the same time; return the stderr of each, empty for success.

    Args:
        environment: of the processes.
        processes: how many.
        threads: how many in each process.
        resources: for how many resources each thread requests a token, one after another.
        module: whose ManagedIdentityCredential they use.
        timeout: seconds after which a process is killed.
    """
    started = [
        start_script(environment, THREADS_SCRIPT, module, threads, resources)
        for _ in range(processes)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [_wait_for_stderr(process, timeout) for process in started]


def _wait_for_stderr(process: subprocess.Popen[str], timeout: float) -> str:
    try:
        return process.communicate(timeout=timeout)[1]
    except subprocess.TimeoutExpired:
        _kill(process)
        return f"timed out after {timeout} s"


def kill_repeatedly(
    environment: dict[str, str], kills: int, *, running: int, max_interval: float, seed: int
) -> int:
    """Kill processes at random moments; return how many of them had failed before.

    Args:
        environment: of the processes.
        kills: how many to kill.
        running: how many run at a time.
        max_interval: the most seconds between two kills. These are real seconds: the moments must
            be random.
        seed: of the random moments.
    """
    rng = random.Random(seed)
    processes = [start_script(environment, ENDLESS_SCRIPT) for _ in range(running)]
    failed = 0
    for _ in range(kills):
        victim = processes.pop(0)
        time.sleep(rng.random() * max_interval)
        failed += victim.poll() is not None
        _kill(victim)
        processes.append(start_script(environment, ENDLESS_SCRIPT))
    for process in processes:
        _kill(process)
    return failed


def _kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
