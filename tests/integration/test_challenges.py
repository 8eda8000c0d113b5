"""A token is revoked, and every thread of every process is refused with the same claims."""

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

REFUSED = """
import sys, threading
from imds_identity import ManagedIdentityCredential, ManagedIdentityError
credential = ManagedIdentityCredential()
scope = "https://vault.azure.net/.default"
first = credential.get_token(scope).token
tokens, failures = set(), []

def refused():
    try:
        tokens.add(credential.get_token(scope, claims='{"access_token": {}}').token)
    except ManagedIdentityError as error:
        failures.append(error)

print("ready", flush=True)
sys.stdin.readline()
crowd = [threading.Thread(target=refused) for _ in range(12)]
for thread in crowd: thread.start()
for thread in crowd: thread.join()
assert first not in tokens
print(len(tokens), len(failures), hash(min(tokens, default="")), flush=True)
sys.stdin.readline()
print(hash(credential.get_token(scope).token))
"""


def run_processes(environment: dict[str, str], processes: int) -> list[subprocess.Popen[str]]:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", REFUSED], env={**environment, "PYTHONHASHSEED": "0"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(processes)
    ]  # fmt: skip
    assert {line(process) for process in started} == {"ready"}
    return started


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def test_a_crowd_that_is_refused_makes_one_request_and_nobody_keeps_the_revoked_token(
    emulator_factory: Any, tmp_path: Path
) -> None:
    emulator: Emulator = emulator_factory("vm", limits=True, latency=0.05, key_vault=False)
    environment = {
        **os.environ, **emulator.environment(), "IMDS_IDENTITY_CACHE": str(tmp_path / "shared"),
    }  # fmt: skip
    processes = run_processes(environment, 8)
    refused, unaware = processes[:7], processes[7]
    for process in refused:
        go(process)
    said = {line(process) for process in refused}
    assert len(said) == 1
    tokens, failures, new = said.pop().split()
    assert (tokens, failures) == ("1", "0")
    assert [r.query.get("bypass_cache") for r in emulator.token_requests] == [None, "true"]
    for process in refused:
        go(process)
        assert line(process) == new
    # This one has the revoked token in its memory, and is told the same later than the others.
    go(unaware)
    assert line(unaware) == f"1 0 {new}"
    assert len(emulator.token_requests) == 2
    go(unaware)
    for process in processes:
        process.communicate(timeout=30)


def test_no_process_goes_on_serving_what_another_knows_to_be_revoked(
    imds_emulator: Emulator, tmp_path: Path
) -> None:
    scope = "https://vault.azure.net/.default"
    one, other = (
        ManagedIdentityCredential(
            cache=tmp_path / "shared", _token_cache=TokenCache(SYSTEM_CLOCK, no_jitter)
        )
        for _ in range(2)
    )
    revoked = one.get_token(scope).token
    assert other.get_token(scope).token == revoked
    new = one.get_token(scope, claims="c").token
    entry = other._entries[scope]
    assert entry.hit_until <= SYSTEM_CLOCK.tick() + HIT_SECONDS
    entry.hit_until = 0  # when that second is over
    assert other.get_token(scope).token == new != revoked
    assert len(imds_emulator.token_requests) == 2


def test_claims_during_an_outage_end_with_what_one_of_all_has_found_out(
    emulator_factory: Any, tmp_path: Path
) -> None:
    emulator: Emulator = emulator_factory("vm", latency=0.2, key_vault=False)
    environment = {
        **os.environ, **emulator.environment(), "IMDS_IDENTITY_CACHE": str(tmp_path / "shared"),
    }  # fmt: skip
    processes = run_processes(environment, 5)
    emulator.fault(status=400)
    for process in processes:
        go(process)
    assert {line(process)[:4] for process in processes} == {"0 12"}
    assert len(emulator.token_requests) == 2
    for process in processes:
        go(process)  # a plain call gets the token that is there
        assert line(process)
        process.communicate(timeout=30)
