"""Import and construction, each in a new process."""

from __future__ import annotations

import subprocess
import sys

from figures import AZURE_IDENTITY, compare

ROUNDS = 15
# VmHWM, not ru_maxrss: the latter includes the memory of the parent when it forked.
SCRIPT = """
import time
started = time.perf_counter()
from {module} import ManagedIdentityCredential
ManagedIdentityCredential()
seconds = time.perf_counter() - started
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(seconds, peak.split()[1])
"""


def measure(module: str) -> tuple[float, float]:
    """Return the least milliseconds and MiB of several processes."""
    runs = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT.format(module=module)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for _ in range(ROUNDS)
    ]
    return min(float(r[0]) for r in runs) * 1e3, min(float(r[1]) for r in runs) / 1024


def run() -> None:
    """Compare time and memory."""
    (our_time, our_memory), (their_time, their_memory) = (
        measure("imds_identity"),
        measure("azure.identity"),
    )
    compare("import and construct", our_time, their_time, "ms", 0.16, AZURE_IDENTITY)
    compare(
        "import and construct, peak memory", our_memory, their_memory, "MiB", 0.3, AZURE_IDENTITY
    )
