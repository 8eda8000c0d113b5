"""A token is revoked, and every thread of every process gets the same claims challenge."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity import ManagedIdentityCredential
from imds_identity._platform.clock import SYSTEM_CLOCK
from imds_identity._token_cache.cache import HIT_SECONDS, TokenCache
from support import no_jitter

if TYPE_CHECKING:
    from pathlib import Path

    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX processes")

CHALLENGED_PROCESS = """
import sys, threading
from imds_identity import ManagedIdentityCredential, ManagedIdentityError
credential = ManagedIdentityCredential()
scope = "https://vault.azure.net/.default"
first = credential.get_token(scope).token
tokens, failures = set(), []

def request_with_claims():
    try:
        tokens.add(credential.get_token(scope, claims='{"access_token": {}}').token)
    except ManagedIdentityError as error:
        failures.append(error)

print("ready", flush=True)
sys.stdin.readline()
threads = [threading.Thread(target=request_with_claims) for _ in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert first not in tokens
print(len(tokens), len(failures), hash(min(tokens, default="")), flush=True)
sys.stdin.readline()
print(hash(credential.get_token(scope).token))
"""


def run_processes(environment: dict[str, str], processes: int) -> list[subprocess.Popen[str]]:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CHALLENGED_PROCESS], env={**environment, "PYTHONHASHSEED": "0"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(processes)
    ]  # fmt: skip
    assert {read_line(process) for process in started} == {"ready"}
    return started


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def resume(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("continue\n")
    process.stdin.flush()


def test_processes_with_the_same_challenge_make_one_request_and_drop_the_revoked_token(
    emulator_factory: Any, tmp_path: Path
) -> None:
    emulator: Emulator = emulator_factory("vm", limits=True, latency=0.05, key_vault=False)
    environment = {
        **os.environ, **emulator.environment(), "IMDS_IDENTITY_CACHE": str(tmp_path / "shared"),
    }  # fmt: skip
    processes = run_processes(environment, 8)
    challenged, late = processes[:7], processes[7]
    for process in challenged:
        resume(process)
    lines = {read_line(process) for process in challenged}
    assert len(lines) == 1
    tokens, failures, new = lines.pop().split()
    assert (tokens, failures) == ("1", "0")
    assert [r.query.get("bypass_cache") for r in emulator.token_requests] == [None, "true"]
    for process in challenged:
        resume(process)
        assert read_line(process) == new
    # This process still caches the revoked token and gets the challenge after the others.
    resume(late)
    assert read_line(late) == f"1 0 {new}"
    assert len(emulator.token_requests) == 2
    resume(late)
    for process in processes:
        process.communicate(timeout=30)


def test_revoked_token_is_dropped_by_other_processes(
    imds_emulator: Emulator, tmp_path: Path
) -> None:
    scope = "https://vault.azure.net/.default"
    first, second = (
        ManagedIdentityCredential(
            cache=tmp_path / "shared", _token_cache=TokenCache(SYSTEM_CLOCK, no_jitter)
        )
        for _ in range(2)
    )
    revoked = first.get_token(scope).token
    assert second.get_token(scope).token == revoked
    new = first.get_token(scope, claims="c").token
    entry = second._entries[scope]
    assert entry.hit_until <= SYSTEM_CLOCK.tick() + HIT_SECONDS
    entry.hit_until = 0  # as when that second is over
    assert second.get_token(scope).token == new != revoked
    assert len(imds_emulator.token_requests) == 2


def test_processes_share_the_failure_of_a_claims_request(
    emulator_factory: Any, tmp_path: Path
) -> None:
    emulator: Emulator = emulator_factory("vm", latency=0.2, key_vault=False)
    environment = {
        **os.environ, **emulator.environment(), "IMDS_IDENTITY_CACHE": str(tmp_path / "shared"),
    }  # fmt: skip
    processes = run_processes(environment, 5)
    emulator.fault(status=400)
    for process in processes:
        resume(process)
    assert {read_line(process)[:4] for process in processes} == {"0 12"}
    assert len(emulator.token_requests) == 2
    for process in processes:
        resume(process)  # a call without claims returns the cached token
        assert read_line(process)
        process.communicate(timeout=30)
