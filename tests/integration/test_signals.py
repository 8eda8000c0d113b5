"""Signal handlers that raise at any time: a SIGALRM timeout, Ctrl-C, Celery's soft time limit."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX signals")

# Signals interrupt the main thread at random times, during and around a fetch, while another
# thread requests the same tokens. Claims make each call bypass the cache.
INTERRUPTED = """
import itertools, random, signal, sys, threading, time
from imds_identity import ManagedIdentityCredential

class TimeUp(Exception):
    pass

def time_up(*_):
    raise TimeUp

rng = random.Random(int(sys.argv[1]))
credential = ManagedIdentityCredential()
credential.get_token("https://vault.azure.net")
claims = itertools.count()
stop, errors, calls = threading.Event(), [], [0, 0]

def request_tokens():
    while not stop.is_set():
        try:
            credential.get_token("https://vault.azure.net", claims=f"c{calls[0] // 2}")
            calls[1] += 1
        except BaseException as error:
            errors.append(repr(error))
            return

other_thread = threading.Thread(target=request_tokens)
other_thread.start()
signal.signal(signal.SIGALRM, time_up)
interrupted = 0
for calls[0] in range(150):
    try:
        signal.setitimer(signal.ITIMER_REAL, rng.random() * 0.004 + 1e-6)
        try:
            credential.get_token("https://vault.azure.net", claims=f"c{calls[0] // 2}")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except TimeUp:
        interrupted += 1
    except BaseException as error:
        errors.append(repr(error))
stop.set()
other_thread.join(30)
assert not other_thread.is_alive(), "the other thread hangs"
assert credential.get_token("https://vault.azure.net").token.count(".") == 2
print(interrupted, calls[1] > 0, errors)
"""


@pytest.mark.parametrize("seed", range(3))
def test_raising_signal_handler_does_not_affect_other_threads(
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
    interrupted, other_thread_ran, errors = done.stdout.split(maxsplit=2)
    assert int(interrupted) > 10
    assert other_thread_ran == "True"
    assert errors.strip() == "[]"


# Each call adopts the token of another process, with and without logging. Another thread then
# tries to acquire the locks that an interrupted call could have left held.
ADOPT_SHARED_TOKEN = """
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

rng = random.Random(int(sys.argv[1]))
handler = logging.StreamHandler(io.StringIO())
logger = logging.getLogger("imds_identity")
logger.addHandler(handler)
logger.setLevel(sys.argv[2])
credential = ManagedIdentityCredential()
credential.get_token("https://vault.azure.net")
locks = {"logging": logging._lock, "handler": handler.lock}
held_locks, interrupted, armed = set(), 0, False

def try_locks():
    for name, lock in locks.items():
        if lock.acquire(timeout=10):
            lock.release()
        else:
            held_locks.add(name)

signal.signal(signal.SIGALRM, time_up)
for number in range(3000):
    process_token_cache().clear()
    try:
        armed = True
        signal.setitimer(signal.ITIMER_REAL, rng.uniform(2e-5, 8e-4))
        credential.get_token("https://vault.azure.net")
        armed = False
    except TimeUp:
        interrupted += 1
    if number % 30 == 0:
        other_thread = threading.Thread(target=try_locks)
        other_thread.start()
        other_thread.join()
signal.setitimer(signal.ITIMER_REAL, 0)
print(interrupted, bool(handler.stream.getvalue()), held_locks or "none")
"""


@pytest.mark.parametrize("level", ["WARNING", "DEBUG"])
def test_raising_signal_handler_leaves_no_logging_lock_held(
    imds_emulator: Emulator, level: str, tmp_path: object
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ADOPT_SHARED_TOKEN, "1", level],
        env={**os.environ, "IMDS_IDENTITY_CACHE": str(tmp_path)},
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    interrupted, logged, held_locks = done.stdout.split(maxsplit=2)
    assert int(interrupted) > 10
    assert logged == str(level == "DEBUG")
    assert held_locks.strip() == "none"
    assert len(imds_emulator.token_requests) == 1
