"""Real processes that are stopped (SIGSTOP, `docker pause`), and those that go on beside them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._platform.clock import SYSTEM_CLOCK
from imds_identity._shared_cache.directory import Directory
from imds_identity._shared_cache.record import Record
from imds_identity._shared_cache.store import SharedCache
from support import KEY, token_now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs POSIX signals")

# The same as in earnest, but for how long another process is waited for.
ASK = """
import sys, imds_identity
from imds_identity._token_cache import flight
from imds_identity._shared_cache import lease
lease.LONGEST_LEASE_SECONDS = 0.7
print(imds_identity.ManagedIdentityCredential().get_token(sys.argv[1] + "/.default").token)
"""


@pytest.fixture
def environment(emulator_factory: Any, tmp_path: Path) -> tuple[Emulator, dict[str, str]]:
    emulator = emulator_factory("vm", key_vault=False, resources=["https://*.example"])
    cache = str(tmp_path / "shared")
    return emulator, {**os.environ, **emulator.environment(), "IMDS_IDENTITY_CACHE": cache}


def start(environment: dict[str, str], resource: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", ASK, resource], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def ask(environment: dict[str, str], resource: str) -> None:
    """A new process gets its token, and soon: it does not wait for the one that is stopped."""
    out, errors = start(environment, resource).communicate(timeout=30)
    assert out.count(".") == 2, errors


@contextmanager
def stopped(
    emulator: Emulator, environment: dict[str, str], resources: list[str]
) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are stopped while their requests are under way."""
    emulator.fault(delay=1.0, times=len(resources))
    processes = [start(environment, resource) for resource in resources]
    try:
        deadline = time.monotonic() + 20
        directory = environment["IMDS_IDENTITY_CACHE"]
        for process in processes:
            while not holds_a_lane(process.pid, directory) and time.monotonic() < deadline:
                time.sleep(0.005)
            process.send_signal(signal.SIGSTOP)
        yield processes
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)
        for process in processes:
            process.kill()
            process.communicate()


def holds_a_lane(pid: int, directory: str) -> bool:
    try:
        names = [
            os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")
        ]
    except OSError:
        return False
    return any(name.startswith(directory) and "-permit-" in name for name in names)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="looks on at processes by /proc")
class TestStopped:
    def test_while_it_fetches_nobody_waits_for_longer_than_its_request(
        self, environment: tuple[Emulator, dict[str, str]]
    ) -> None:
        emulator, variables = environment
        with stopped(emulator, variables, ["https://a.example"]) as [process]:
            ask(variables, "https://a.example")
            assert len(emulator.token_requests) <= 2
            process.send_signal(signal.SIGCONT)
            out, errors = process.communicate(timeout=30)
            assert out.count(".") == 2, errors
        # What came late is in nobody's way.
        ask(variables, "https://a.example")

    def test_requests_in_the_air_do_not_keep_the_machine_s_lanes(
        self, environment: tuple[Emulator, dict[str, str]]
    ) -> None:
        emulator, variables = environment
        resources = [f"https://{letter}.example" for letter in "abcd"]
        with stopped(emulator, variables, resources):
            time.sleep(1.0)  # their terms are over, and their lanes are not given back
            ask(variables, "https://e.example")


def test_what_one_network_fetched_is_nothing_to_another(tmp_path: Path) -> None:
    """Two containers with one /dev/shm, and a metadata service each at the same address."""
    if subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespace to be had here")
    shared_cache = SharedCache(Directory.at(str(tmp_path / "cache")), SYSTEM_CLOCK)
    shared_cache.write(Record(KEY, token_now(SYSTEM_CLOCK)))
    script = f"""
from imds_identity._platform.clock import SYSTEM_CLOCK
from imds_identity._core.key import Key
from imds_identity._shared_cache.directory import Directory
from imds_identity._shared_cache.store import SharedCache
shared_cache = SharedCache(Directory.at({shared_cache.directory.path!r}), SYSTEM_CLOCK)
print(shared_cache.read({KEY!r}) is not None, len(shared_cache.records()))
"""

    def seen(*command: str) -> str:
        return subprocess.run(
            [*command, sys.executable, "-c", script], capture_output=True, text=True, check=True
        ).stdout.strip()

    assert seen() == "True 1"
    assert seen("unshare", "-n") == "False 0"
