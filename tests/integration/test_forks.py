"""Forks at the worst moments: in the middle of a fetch or of a log call."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX processes")

IN_A_LOG_CALL = """
import logging, os, signal, threading
from imds_identity._core.failure import Refused
from imds_identity._core.token import Token
from imds_identity._token_cache.notifications import log_failed_refresh

class Handler(logging.Handler):
    def emit(self, record):
        with lock:
            logged.set()
            threading.Event().wait(0.3)

lock, logged = threading.Lock(), threading.Event()
logging.getLogger("imds_identity").addHandler(Handler())
token = Token("t", "Bearer", 0, 0, 0.0, 0.0, 0.0)
threading.Thread(target=log_failed_refresh, args=(token, 0.0, Refused("down"))).start()
assert logged.wait(10)
child = os.fork()
if not child:
    signal.alarm(20)
    with lock:
        os._exit(0)
print(os.waitpid(child, 0)[1])
"""

# uWSGI forks like this after it has loaded a program. With http.client, as in most programs, the
# constructor imports everything: no fork in C can wait for an import to end.
IN_A_FETCH = """
import ctypes, http.client, os, signal, threading, time
from imds_identity import ManagedIdentityCredential

def get_token():
    return credential.get_token("https://vault.azure.net/.default").token

credential = ManagedIdentityCredential()
thread = threading.Thread(target=get_token)
thread.start()
# No thread may be waiting for the GIL, whose lock a fork in C does not reset: waiters wake up every
# half second.
time.sleep(0.3)
child = ctypes.PyDLL(None).fork()
if not child:
    signal.alarm(30)
    os._exit(not get_token())
thread.join()
print(os.waitpid(child, 0)[1])
"""


def run(script: str, emulator: Emulator, directory: object, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *arguments],
        env={**os.environ, **emulator.environment(), "IMDS_IDENTITY_CACHE": str(directory)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_fork_waits_for_a_log_call_to_end(imds_emulator: Emulator, tmp_path: object) -> None:
    assert run(IN_A_LOG_CALL, imds_emulator, tmp_path) == "0"


@pytest.mark.parametrize("shares", [False, True])
def test_a_child_forked_in_c_does_not_wait_for_a_fetch_of_its_parent(
    shares: bool, imds_emulator: Emulator, tmp_path: object
) -> None:
    imds_emulator.fault(delay=1, times=1)
    assert run(IN_A_FETCH, imds_emulator, tmp_path if shares else "off") == "0"
    assert len(imds_emulator.token_requests) == (1 if shares else 2)


LOGGING_IMPORTED_LAST = """
import os, threading, time
from imds_identity._platform.log import log
import logging

class Handler(logging.Handler):
    # Needs the lock of all loggers, which logging takes before each fork.
    def emit(self, record):
        inside.set()
        time.sleep(0.2)
        logging.getLogger(f"another one, {threading.get_ident()}")

inside = threading.Event()
logging.getLogger("imds_identity").addHandler(Handler())
threading.Thread(target=log, args=("WARNING", "a message")).start()
inside.wait()
begun = time.monotonic()
child = os.fork()
seconds = time.monotonic() - begun
logging.getLogger("after the fork")
if not child:
    os._exit(0)
print(os.waitpid(child, 0)[1], seconds < 5)
"""


def test_a_fork_does_not_keep_the_lock_that_an_awaited_log_call_needs() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOGGING_IMPORTED_LAST],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert (done.stdout.split(), done.stderr) == (["0", "True"], "")
