"""Token requests while the interpreter shuts down, when threads no longer run."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support import RawServer

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


SUBINTERPRETER = """
import sys
sys.path[:] = {path!r}
import threading
from imds_identity import ManagedIdentityCredential
from imds_identity._platform import threads
from imds_identity._platform.clock import SYSTEM_CLOCK

credential = ManagedIdentityCredential()
entry, _ = credential._entry(("https://vault.azure.net",), None, False)
credential._client.token_cache.join_or_start(entry, {fetch})
while not threads.{started}:
    threading.Event().wait(0.01)
"""
BACKGROUND_FETCHES = {
    "that waits for a response": (
        "credential._client._fetch(entry, None, None, may_wait=True)[1]",
        "_sockets",
    ),
    "that pauses": ("lambda: entry and SYSTEM_CLOCK.sleep(1000)", "_internal_threads"),
    "whose thread does not run yet": ("lambda: entry and SYSTEM_CLOCK.sleep(1000)", "start_thread"),
}


@pytest.mark.parametrize("name", BACKGROUND_FETCHES)
def test_subinterpreter_ends_during_a_fetch(name: str) -> None:
    """Until Python 3.13 the process would abort; mod_wsgi runs programs in subinterpreters."""
    pytest.importorskip("_testcapi")
    fetch, started = BACKGROUND_FETCHES[name]
    code = SUBINTERPRETER.format(path=sys.path, fetch=fetch, started=started)
    script = f"import _testcapi; print(_testcapi.run_in_subinterp({code!r}), 'ended')"
    with RawServer(hold=True) as server:
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={
                **os.environ,
                "AZURE_POD_IDENTITY_AUTHORITY_HOST": server.url,
                "IMDS_IDENTITY_CACHE": "off",
            },
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "0 ended", "")
