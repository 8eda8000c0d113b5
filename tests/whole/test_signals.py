"""Signal handlers that raise at any moment: a time-out by SIGALRM, Ctrl-C, Celery's soft limit."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX signals")

# The main thread is interrupted at random moments, within the fetch and around it, while another
# thread asks for the same tokens; claims make each call one that goes to the service.
INTERRUPTED = """
import itertools, random, signal, sys, threading, time
from imds_identity import ManagedIdentityCredential

class TimeUp(Exception):
    pass

def time_up(*_):
    raise TimeUp

dice = random.Random(int(sys.argv[1]))
credential = ManagedIdentityCredential()
credential.get_token("https://vault.azure.net")
claims = itertools.count()
stop, foreign, calls = threading.Event(), [], [0, 0]

def ask_beside():
    while not stop.is_set():
        try:
            credential.get_token("https://vault.azure.net", claims=f"c{calls[0] // 2}")
            calls[1] += 1
        except BaseException as error:
            foreign.append(repr(error))
            return

beside = threading.Thread(target=ask_beside)
beside.start()
signal.signal(signal.SIGALRM, time_up)
interrupted = 0
for calls[0] in range(150):
    try:
        signal.setitimer(signal.ITIMER_REAL, dice.random() * 0.004 + 1e-6)
        try:
            credential.get_token("https://vault.azure.net", claims=f"c{calls[0] // 2}")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except TimeUp:
        interrupted += 1
    except BaseException as error:
        foreign.append(repr(error))
stop.set()
beside.join(30)
assert not beside.is_alive(), "the other thread hangs"
assert credential.get_token("https://vault.azure.net").token.count(".") == 2
print(interrupted, calls[1] > 0, foreign)
"""


@pytest.mark.parametrize("seed", range(3))
def test_a_handler_that_raises_harms_nobody_else(
    emulator_factory: object, seed: int, tmp_path: object
) -> None:
    emulator: Emulator = emulator_factory("vm", key_vault=False)  # type: ignore[operator]
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(seed)],
        env={
            **os.environ,
            **emulator.environment(),
            "IMDS_IDENTITY_CACHE": str(tmp_path),
        },
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    interrupted, others_went_on, foreign = done.stdout.split(maxsplit=2)
    assert int(interrupted) > 10
    assert others_went_on == "True"
    assert foreign.strip() == "[]"
