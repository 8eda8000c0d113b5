"""Processes that ask for tokens all at once, or until they are killed."""

from __future__ import annotations

import random
import subprocess
import sys
import time

CROWD = """
import sys, threading
from importlib import import_module
module, threads, resources = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
make = import_module(module).ManagedIdentityCredential
failed = []

def work():
    try:
        for number in range(resources):
            make().get_token(f"https://resource-{number}.example/.default")
    except Exception as error:
        failed.append(error)

crowd = [threading.Thread(target=work) for _ in range(threads)]
print("ready", flush=True)
sys.stdin.readline()
for thread in crowd: thread.start()
for thread in crowd: thread.join()
if failed: raise failed[0]
"""
# Fetches, refreshes and writes all the time.
RESTLESS = """
import imds_identity, itertools
credential = imds_identity.ManagedIdentityCredential()
print("ready", flush=True)
for number in itertools.count():
    token = credential.get_token("https://vault.azure.net", claims="c" if number % 3 else None)
    assert token.token.count(".") == 2
    if number % 2: imds_identity.clear_cache()
"""


def started(environment: dict[str, str], script: str, *arguments: object) -> subprocess.Popen[str]:
    """A process that runs ``script`` and has said that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    return process


def run_processes(
    environment: dict[str, str],
    processes: int,
    threads: int,
    resources: int,
    *,
    module: str = "imds_identity",
    patience: float = 60,
) -> list[str]:
    """What processes that start at once complain of, each an empty text if nothing was wrong.

    Args:
        environment: theirs.
        processes: how many.
        threads: how many in each.
        resources: how many each thread asks for, one after the other.
        module: whose credential they use.
        patience: seconds after which a process is killed.
    """
    all_of_them = [
        started(environment, CROWD, module, threads, resources) for _ in range(processes)
    ]
    for process in all_of_them:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [_error_of(process, patience) for process in all_of_them]


def _error_of(process: subprocess.Popen[str], patience: float) -> str:
    try:
        return process.communicate(timeout=patience)[1]
    except subprocess.TimeoutExpired:
        _kill(process)
        return f"not done within {patience} s"


def killed_at_random(
    environment: dict[str, str], kills: int, *, alive: int, longest: float, seed: int
) -> int:
    """Kill restless processes at random moments; how many of them had failed before.

    Args:
        environment: theirs.
        kills: how many.
        alive: how many run at a time.
        longest: seconds from one kill to the next at the most; that the moment is random is the
            point, so no clock is in charge of it.
        seed: of the dice.
    """
    dice = random.Random(seed)
    processes = [started(environment, RESTLESS) for _ in range(alive)]
    failed = 0
    for _ in range(kills):
        victim = processes.pop(0)
        time.sleep(dice.random() * longest)
        failed += victim.poll() is not None
        _kill(victim)
        processes.append(started(environment, RESTLESS))
    for process in processes:
        _kill(process)
    return failed


def _kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
