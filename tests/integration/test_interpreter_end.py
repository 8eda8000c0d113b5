"""What is asked for while the interpreter goes down, when threads run no more."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imds_identity.emulator import Emulator

ASKED_LAST = """
import os
from imds_identity import ManagedIdentityCredential

class Last:
    def __init__(self):
        self.credential, self.write = ManagedIdentityCredential(), os.write

    def ask(self):
        self.write(1, self.credential.get_token("https://vault.azure.net/.default").token.encode())
"""


def run(script: str, emulator: Emulator) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **emulator.environment(), "IMDS_IDENTITY_CACHE": "off"},
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip


def test_at_exit_there_is_a_token(imds_emulator: Emulator) -> None:
    done = run(f"{ASKED_LAST}\nimport atexit\natexit.register(Last().ask)", imds_emulator)
    assert done.stdout.count(".") == 2, done.stderr


def test_a_finaliser_does_not_wait_for_a_thread_that_cannot_run(imds_emulator: Emulator) -> None:
    """By then nothing can be imported, so that there is no token; but it ends."""
    done = run(f"{ASKED_LAST}\n    __del__ = ask\n\nkept = Last()", imds_emulator)
    assert done.returncode == 0, done.stderr
