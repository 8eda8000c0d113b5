"""Other processes continue while real processes are stopped (SIGSTOP, `docker pause`)."""

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
from support import KEY, new_token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs POSIX signals")

# The longest lease is shorter than in production.
PRINT_TOKEN = """
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
        [sys.executable, "-c", PRINT_TOKEN, resource], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def get_token_in_new_process(environment: dict[str, str], resource: str) -> None:
    """Assert that a new process gets a token and does not wait for a stopped one."""
    out, errors = start(environment, resource).communicate(timeout=30)
    assert out.count(".") == 2, errors


@contextmanager
def stopped(
    emulator: Emulator, environment: dict[str, str], resources: list[str]
) -> Iterator[list[subprocess.Popen[str]]]:
    """Yield processes that are stopped while their requests are under way."""
    emulator.fault(delay=1.0, times=len(resources))
    processes = [start(environment, resource) for resource in resources]
    try:
        deadline = time.monotonic() + 20
        directory = environment["IMDS_IDENTITY_CACHE"]
        for process in processes:
            while not holds_a_permit(process.pid, directory) and time.monotonic() < deadline:
                time.sleep(0.005)
            process.send_signal(signal.SIGSTOP)
        yield processes
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)
        for process in processes:
            process.kill()
            process.communicate()


def holds_a_permit(pid: int, directory: str) -> bool:
    try:
        names = [
            os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")
        ]
    except OSError:
        return False
    return any(name.startswith(directory) and "-permit-" in name for name in names)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
class TestStoppedProcess:
    def test_others_wait_no_longer_than_the_request_of_a_stopped_process(
        self, environment: tuple[Emulator, dict[str, str]]
    ) -> None:
        emulator, variables = environment
        with stopped(emulator, variables, ["https://a.example"]) as [process]:
            get_token_in_new_process(variables, "https://a.example")
            assert len(emulator.token_requests) <= 2
            process.send_signal(signal.SIGCONT)
            out, errors = process.communicate(timeout=30)
            assert out.count(".") == 2, errors
        # Its late result is harmless.
        get_token_in_new_process(variables, "https://a.example")

    def test_stopped_processes_do_not_keep_all_permits(
        self, environment: tuple[Emulator, dict[str, str]]
    ) -> None:
        emulator, variables = environment
        resources = [f"https://{letter}.example" for letter in "abcd"]
        with stopped(emulator, variables, resources):
            time.sleep(1.0)  # their permits have expired and are not released
            get_token_in_new_process(variables, "https://e.example")


def test_token_of_one_network_is_not_used_in_another(tmp_path: Path) -> None:
    """Two containers may share /dev/shm and have different services at the same address."""
    if subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode:
        pytest.skip("cannot create a network namespace")
    shared_cache = SharedCache(Directory.at(str(tmp_path / "cache")), SYSTEM_CLOCK)
    shared_cache.write(Record(KEY, new_token(SYSTEM_CLOCK)))
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
