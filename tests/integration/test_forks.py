"""Forks at the worst moments: in the middle of an import, of a log call, of somebody's change."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX processes")

FORK_AFTER = """
def fork_and_ask(credential):
    child = os.fork()
    if not child:
        signal.alarm(20)  # a child that hangs is ended, and its status tells
        os._exit(0 if ask(credential).token else 1)
    return os.waitpid(child, 0)[1]
"""
IN_THE_FIRST_IMPORT = (
    """
import os, signal, sys, threading
from imds_identity import ManagedIdentityCredential
from imds_identity._platform.fork import load

class Slow:
    # An import that takes long enough for a fork to come in between.
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            importing.set()
            threading.Event().wait(0.3)

def ask(credential):
    load(sys.argv[2])
    return credential.get_token("https://vault.azure.net")

"""
    + FORK_AFTER
    + """
importing = threading.Event()
sys.meta_path.insert(0, Slow())
credential = ManagedIdentityCredential()
thread = threading.Thread(target=ask, args=(credential,))
thread.start()
importing.wait()
print(fork_and_ask(credential))
thread.join()
"""
)
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
WHAT_IS_IMPORTED = """
import asyncio, sys, threading
import concurrent.futures.thread  # asyncio's own, for its executor
import azure.core.pipeline.transport as transports
import imds_identity
from imds_identity import aio
from imds_identity._platform import fork

class Watch:
    def find_spec(self, name, path=None, target=None):
        if not fork._is_inside(threading.get_ident()):
            torn.append(name)

async def ask(**settings):
    async with aio.ManagedIdentityCredential(**settings) as credential:
        await credential.get_token("https://vault.azure.net", claims=str(settings))

torn = []
sys.meta_path.insert(0, Watch())
from imds_identity import ManagedIdentityCredential, ManagedIdentityError
sync = ManagedIdentityCredential()
sync.get_token("https://vault.azure.net")
sync.get_token("https://vault.azure.net", claims='{"access_token": {"nbf": {"value": "1"}}}')
try:
    ManagedIdentityCredential(client_id="nobody").get_token("https://vault.azure.net")
except ManagedIdentityError as error:
    str(error)
ManagedIdentityCredential(raw_request_hook=print)
ManagedIdentityCredential(transport=transports.RequestsTransport())
for settings in {}, {"raw_request_hook": id}, {"transport": transports.AsyncioRequestsTransport()}:
    asyncio.run(ask(**settings))
print(torn)
"""


def run(script: str, emulator: Emulator, directory: object, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *arguments],
        env={**os.environ, **emulator.environment(), "IMDS_IDENTITY_CACHE": str(directory)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# The last one needs logging's lock, which logging itself takes before a fork.
@pytest.mark.parametrize(
    ("module", "needed_by"),
    [
        ("http.client", "imds_identity._http.transport"),
        ("requests", "imds_identity._http.requests_transport"),
        ("urllib3.connectionpool", "imds_identity._http.requests_transport"),
    ],
)
def test_a_fork_in_the_first_import_leaves_a_child_that_gets_tokens(
    imds_emulator: Emulator, tmp_path: object, module: str, needed_by: str
) -> None:
    assert run(IN_THE_FIRST_IMPORT, imds_emulator, tmp_path, module, needed_by) == "0"


def test_a_fork_waits_for_a_log_call_to_end(imds_emulator: Emulator, tmp_path: object) -> None:
    assert run(IN_A_LOG_CALL, imds_emulator, tmp_path) == "0"


def test_nothing_is_imported_where_a_fork_could_cut_it_in_two(
    imds_emulator: Emulator, tmp_path: object
) -> None:
    assert run(WHAT_IS_IMPORTED, imds_emulator, tmp_path) == "[]"


BESIDE_LOGGING = """
import os, threading, time
from imds_identity._platform.fork import fork_safe

def work():
    with fork_safe():
        {before}
        inside.set()
        time.sleep(0.3)
        import logging
        logging.getLogger("somebody's")

inside = threading.Event()
threading.Thread(target=work).start()
inside.wait()
begun = time.monotonic()
child = os.fork()
seconds = time.monotonic() - begun
import logging
logging.getLogger("another's")
if not child:
    os._exit(0)
threading.Thread(target=logging.getLogger, args=["the parent's"]).start()
print(os.waitpid(child, 0)[1], seconds < 5)
"""


@pytest.mark.parametrize("before", ["import logging", "pass"])
def test_a_fork_does_not_wait_for_a_thread_that_waits_for_what_the_fork_has_locked(
    before: str,
) -> None:
    """`logging` takes its lock before a fork, and lets go of it after one, once it is imported."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BESIDE_LOGGING.format(before=before)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert (done.stdout.split(), done.stderr) == (["0", "True"], "")


BESIDE_AN_IMPORT = """
import os, threading, time
from imds_identity._platform.fork import fork_safe

def work():
    with fork_safe():
        inside.set()
        time.sleep(0.3)
        import concurrent.futures.thread

inside = threading.Event()
threading.Thread(target=work).start()
inside.wait()
child = os.fork()
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(1) as executor:
    assert executor.submit(int).result() == 0
if not child:
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""


def test_what_was_imported_while_a_fork_waited_finds_the_lock_that_it_lets_go_of() -> None:
    """`concurrent.futures`, too, takes a lock before a fork once it is imported."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BESIDE_AN_IMPORT],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert (done.stdout.strip(), done.stderr) == ("0", "")
