"""A process that needs tokens for 300 resources at once: its threads, open files and requests."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from figures import AZURE_IDENTITY, record
from many_processes import run_service
from table import FAILED_CALLS, MANY_AT_ONCE, REQUESTS_AT_ONCE, THROTTLED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from imds_identity.emulator import RecordedRequest

RESOURCES = 300
TIMEOUT_SECONDS = 300
LIMITS = {
    "threads": 16,
    "open files": 64,
    "seconds": 25,
    FAILED_CALLS: 0,
    REQUESTS_AT_ONCE: 5,
    THROTTLED: 0,
}

# The threads that call get_token and wait for the barrier do not count.
CALLERS_SCRIPT = """
import json, os, sys, threading, time
from importlib import import_module

def count(kind):
    return len(os.listdir(f"/proc/self/{kind}"))

def call(number):
    barrier.wait()
    try:
        credential.get_token(f"https://resource-{number}.example/.default")
    except Exception:
        failed.append(number)

credential, failed = import_module(sys.argv[1]).ManagedIdentityCredential(), []
barrier = threading.Barrier(int(sys.argv[2]) + 1)
callers = [threading.Thread(target=call, args=(n,)) for n in range(int(sys.argv[2]))]
for caller in callers: caller.start()
base = peak = count("task"), count("fd")
started = time.perf_counter()
barrier.wait()
while any(caller.is_alive() for caller in callers):
    peak = max(peak[0], count("task")), max(peak[1], count("fd"))
    time.sleep(0.005)
seconds = time.perf_counter() - started
print(json.dumps({
    "threads": peak[0] - base[0], "open files": peak[1] - base[1],
    "seconds": seconds, "failed calls": len(failed),
}))
"""


def run() -> None:
    """Compare threads, open files, requests at once and time; the service enforces its limits."""
    ours, theirs = measure("imds_identity"), measure("azure.identity")
    for kind, most in LIMITS.items():
        own, other = ours[kind], theirs[kind]
        verdict = "ok" if own <= most else "MISSED"
        measurement = f"{MANY_AT_ONCE}, {kind}"
        print(
            f"{measurement:44} imds-identity {own:9.3f}   {AZURE_IDENTITY} {other:9.3f}   "
            f"(target {most}) {verdict}"
        )
        record(measurement, own, other, AZURE_IDENTITY)


def measure(module: str) -> dict[str, float]:
    """Run one process whose callers all start at the same time; return what it needed."""
    with run_service(limits=True, latency=0.05) as (emulator, environment):
        done = subprocess.run(
            [sys.executable, "-c", CALLERS_SCRIPT, module, str(RESOURCES)],
            env=environment, capture_output=True, text=True, check=True, timeout=TIMEOUT_SECONDS,
        )  # fmt: skip
        requests = emulator.token_requests
    throttled = sum(request.status == 429 for request in requests)
    return {
        **json.loads(done.stdout),
        REQUESTS_AT_ONCE: most_at_once(requests),
        THROTTLED: throttled,
    }


def most_at_once(requests: Iterable[RecordedRequest]) -> int:
    """Return the largest number of requests that were under way at the same time."""
    changes: list[tuple[float, int]] = []
    for request in requests:
        changes += [(request.time, 1), (request.time + (request.seconds or 0.0), -1)]
    running = most = 0
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    return most
