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


# What another process has fetched is taken over at each call, with and without being logged. The
# locks that a handler could have left behind are then tried by another thread.
TAKING_OVER = """
import io, logging, random, signal, sys, threading
from imds_identity import ManagedIdentityCredential
from imds_identity._token_cache.process import process_token_cache

class TimeUp(Exception):
    pass

def time_up(*_):
    global armed
    if armed:
        armed = False
        raise TimeUp

dice = random.Random(int(sys.argv[1]))
handler = logging.StreamHandler(io.StringIO())
logger = logging.getLogger("imds_identity")
logger.addHandler(handler)
logger.setLevel(sys.argv[2])
credential = ManagedIdentityCredential()
credential.get_token("https://vault.azure.net")
locks = {"of all loggers": logging._lock, "a handler's": handler.lock}
left_behind, interrupted, armed = set(), 0, False

def try_locks():
    for name, lock in locks.items():
        if lock.acquire(timeout=10):
            lock.release()
        else:
            left_behind.add(name)

signal.signal(signal.SIGALRM, time_up)
for number in range(3000):
    process_token_cache().clear()
    try:
        armed = True
        signal.setitimer(signal.ITIMER_REAL, dice.uniform(2e-5, 8e-4))
        credential.get_token("https://vault.azure.net")
        armed = False
    except TimeUp:
        interrupted += 1
    if number % 30 == 0:
        beside = threading.Thread(target=try_locks)
        beside.start()
        beside.join()
signal.setitimer(signal.ITIMER_REAL, 0)
print(interrupted, bool(handler.stream.getvalue()), left_behind or "none")
"""


@pytest.mark.parametrize("level", ["WARNING", "DEBUG"])
def test_a_handler_that_raises_leaves_no_lock_of_logging_behind(
    imds_emulator: Emulator, level: str, tmp_path: object
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TAKING_OVER, "1", level],
        env={**os.environ, "IMDS_IDENTITY_CACHE": str(tmp_path)},
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    interrupted, told, left_behind = done.stdout.split(maxsplit=2)
    assert int(interrupted) > 10
    assert told == str(level == "DEBUG")
    assert left_behind.strip() == "none"
    assert len(imds_emulator.token_requests) == 1
