"""The time to a program's first token under ``exec``, to a secret, and to a command's start."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figures import compare
from many_processes import VAULT
from timing import fastest_runs

from imds_identity.emulator import Emulator

ROUNDS = 8
PROGRAM = [sys.executable, "-m", "imds_identity"]
AZURE_IDENTITY = f"""
from azure.identity import ManagedIdentityCredential
ManagedIdentityCredential().get_token("{VAULT}/.default")
"""
ALONE = "the program alone"
PLAIN_EXEC = "exec"
LIMIT = 0.3


def run() -> None:
    """Compare a program under ``exec`` with it alone, and ``exec --token-file`` with ``exec``."""
    alone = [sys.executable, "-c", AZURE_IDENTITY]
    under_exec = [*PROGRAM, "exec", "--", *alone]
    with Emulator(latency=0.05) as emulator, tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        vault = emulator.key_vault
        vault.secrets["a"] = "secret"
        environment = {
            **os.environ, **emulator.environment(), "REQUESTS_CA_BUNDLE": vault.ca_file,
        }  # fmt: skip
        cold = {**environment, "IMDS_IDENTITY_CACHE": "off"}
        warm = {**environment, "IMDS_IDENTITY_CACHE": str(Path(folder) / "cache")}
        secret = [*PROGRAM, "secret", f"{vault.url}/secrets/a", "--resource", VAULT]
        direct, cold_exec, warm_exec, warm_secret = fastest_runs(
            ROUNDS, (alone, cold), (under_exec, cold), (under_exec, warm), (secret, warm)
        )
        compare("first token under exec, cold cache", cold_exec, direct, "s", 1.5, ALONE)
        compare("first token under exec, warm cache", warm_exec, direct, "s", 1.5, ALONE)
        starts = [
            (_start_seconds([], warm), _start_seconds(["--token-file", f"FILE={VAULT}"], warm))
            for _ in range(3 * ROUNDS)
        ]
        plain, with_file = (min(side) for side in zip(*starts, strict=True))
        compare("start of exec --token-file, warm cache", with_file, plain, "s", 1.1, PLAIN_EXEC)
        compare("secret, warm cache", warm_secret, LIMIT, "s", 1.0, "limit")


def _start_seconds(flags: list[str], environment: dict[str, str]) -> float:
    """Return the seconds until ``exec`` has started a command, which prints the time."""
    command = [*PROGRAM, "exec", *flags, "--", "date", "+%s.%N"]
    started = time.time()
    return float(subprocess.check_output(command, env=environment)) - started
