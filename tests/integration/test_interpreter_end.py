"""Token requests while the interpreter shuts down, when threads no longer run."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imds_identity.emulator import Emulator

LATE_CALLER = """
import os
from imds_identity import ManagedIdentityCredential

class LateCaller:
    def __init__(self):
        self.credential, self.write = ManagedIdentityCredential(), os.write

    def call(self):
        self.write(1, self.credential.get_token("https://vault.azure.net/.default").token.encode())
"""


def run(script: str, emulator: Emulator) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **emulator.environment(), "IMDS_IDENTITY_CACHE": "off"},
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip


def test_exit_handler_gets_a_token(imds_emulator: Emulator) -> None:
    script = f"{LATE_CALLER}\nimport atexit\natexit.register(LateCaller().call)"
    done = run(script, imds_emulator)
    assert done.stdout.count(".") == 2, done.stderr


def test_finalizer_does_not_wait_for_a_thread_that_cannot_run(imds_emulator: Emulator) -> None:
    """The finalizer gets no token, because imports fail by then; but the process ends."""
    done = run(f"{LATE_CALLER}\n    __del__ = call\n\nkept = LateCaller()", imds_emulator)
    assert done.returncode == 0, done.stderr
