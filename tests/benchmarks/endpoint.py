"""What it costs to have one's first token from ``exec``, and a secret in a script."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from commands import least
from processes import SECRET as VAULT
from report import compare

from imds_identity.emulator import Emulator

ROUNDS = 8
PROGRAM = [sys.executable, "-m", "imds_identity"]
AZURE_IDENTITY = f"""
from azure.identity import ManagedIdentityCredential
ManagedIdentityCredential().get_token("{VAULT}/.default")
"""
LIMIT = 0.3


def run() -> None:
    """Compare a client under ``exec`` with the same client alone, and time ``secret``."""
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
        direct, first, second, third = least(
            ROUNDS, (alone, cold), (under_exec, cold), (under_exec, warm), (secret, warm)
        )
        compare("a command and its first token, cold", first, direct, "s", 1.5, "alone")
        compare("a command and its first token, warm", second, direct, "s", 1.5, "alone")
        compare("secret, token on the machine", third, LIMIT, "s", 1.0, "limit")
