"""No module is imported while a token is requested: constructors import what a request needs.

An import in a request could be cut off by a fork or by a signal handler, take long on a busy
machine, or find other files after an upgrade. Only in a program that has not imported http.client
does the first fetch import it, in its own thread: that takes more memory than the whole package.
Under uWSGI the constructor imports it in any case.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from imds_identity.emulator import Emulator

RECORD_IMPORTS = """
import sys, threading

class Recorder:
    def find_spec(self, name, path=None, target=None):
        if requesting:
            imported.append(name)

imported, requesting = [], []
sys.meta_path.insert(0, Recorder())
CLAIMS = '{"access_token": {"nbf": {"value": "1"}}}'
"""
SYNC = """
from imds_identity import ManagedIdentityCredential, clear_cache
{before}
credentials = [ManagedIdentityCredential({settings})]
ManagedIdentityError = ()
if {with_azure_core}:
    from azure.core.exceptions import AzureError as ManagedIdentityError
    credentials = [
        ManagedIdentityCredential({settings}),
        ManagedIdentityCredential(client_id="nobody", {settings}),
    ]
requesting.append(True)
for claims in (None, CLAIMS, None):
    for credential in credentials:
        try:
            assert credential.get_token("https://vault.azure.net", claims=claims).token
        except ManagedIdentityError as error:
            assert str(error)
    requesting.clear()
    clear_cache()
    requesting.append(True)
print(imported)
"""
ASYNC = """
import asyncio
from imds_identity import clear_cache
from imds_identity.aio import ManagedIdentityCredential
{before}

async def main():
    credentials = [ManagedIdentityCredential({settings})]
    ManagedIdentityError = ()
    if {with_azure_core}:
        from azure.core.exceptions import AzureError as ManagedIdentityError
        credentials = [
            ManagedIdentityCredential({settings}),
            ManagedIdentityCredential(client_id="nobody", {settings}),
        ]
    await asyncio.gather(asyncio.sleep(0))
    requesting.append(True)
    for claims in (None, CLAIMS, None):
        for credential in credentials:
            try:
                assert (await credential.get_token("https://vault.azure.net", claims=claims)).token
            except ManagedIdentityError as error:
                assert str(error)
        requesting.clear()
        clear_cache()
        requesting.append(True)
    requesting.clear()

asyncio.run(main())
print(imported)
"""
SETTINGS = {
    "plain": ("", ""),
    "without azure-core": ("import http.client", ""),
    "with retry options": ("", "retry_total=1, retry_backoff_factor=0.01"),
    "with a hook": ("", "raw_request_hook=id"),
    "with an event hook": ("", "on_event=id"),
    "with logging": ("import logging; logging.basicConfig(level=logging.DEBUG)", ""),
    "with tracing": (
        "from azure.core.settings import settings; settings.tracing_enabled = True",
        "",
    ),
    "with a transport": (
        "from azure.core.pipeline.transport import RequestsTransport",
        "transport=RequestsTransport()",
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("script", [SYNC, ASYNC], ids=["sync", "async"])
def test_a_request_imports_nothing(
    imds_emulator: Emulator, tmp_path: Path, script: str, name: str
) -> None:
    before, settings = SETTINGS[name]
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            RECORD_IMPORTS
            + script.format(
                before=before, settings=settings, with_azure_core=name != "without azure-core"
            ),
        ],
        env={
            **os.environ,
            **imds_emulator.environment(),
            "IMDS_IDENTITY_CACHE": str(tmp_path / "cache"),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr[-2000:]


WORKLOAD_IDENTITY = f"""{RECORD_IMPORTS}
import azure.core.exceptions
from imds_identity import ManagedIdentityCredential, ManagedIdentityError

credential = ManagedIdentityCredential(retry_total=0)
requesting.append(True)
for claims in (None, CLAIMS):
    try:
        credential.get_token("https://vault.azure.net", claims=claims)
    except ManagedIdentityError as error:
        assert "no connection to this address" in str(error), error
print(imported)
"""


def test_a_request_for_workload_identity_imports_nothing(tmp_path: Path) -> None:
    """MSAL imports msal_extensions, which comes with azure-identity, when it builds a request."""
    pytest.importorskip("msal_extensions")
    assertion = tmp_path / "assertion"
    assertion.write_text("an-assertion")
    variables = {
        "AZURE_AUTHORITY_HOST": "https://127.0.0.1:9",
        "AZURE_CLIENT_ID": "c",
        "AZURE_FEDERATED_TOKEN_FILE": str(assertion),
        "AZURE_TENANT_ID": "a-tenant",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WORKLOAD_IDENTITY],
        env={**os.environ, **variables},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr[-2000:]


def check_child(script: str, emulator: Emulator, directory: Path) -> None:
    """Run a script that forks and prints the child's status; check that it is 0 without errors."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env={**os.environ, **emulator.environment(), "IMDS_IDENTITY_CACHE": str(directory)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "0", "")


IN_THE_FIRST_IMPORT = """
import os, signal, sys, threading
from imds_identity import ManagedIdentityCredential

class Slow:
    # An import that takes long enough for a fork to come in between.
    def find_spec(self, name, path=None, target=None):
        if name == "http.client":
            importing.set()
            threading.Event().wait(0.3)

def ask():
    return credential.get_token("https://vault.azure.net").token

importing = threading.Event()
sys.meta_path.insert(0, Slow())
credential = ManagedIdentityCredential()
assert "http.client" not in sys.modules
thread = threading.Thread(target=ask)
thread.start()
importing.wait()
child = os.fork()
if not child:
    signal.alarm(20)  # ends a child that hangs
    os._exit(0 if ask() else 1)
print(os.waitpid(child, 0)[1])
thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX processes")
def test_a_program_without_http_client_may_fork_during_its_first_fetch(
    imds_emulator: Emulator, tmp_path: Path
) -> None:
    check_child(IN_THE_FIRST_IMPORT, imds_emulator, tmp_path)


def test_constructor_imports_http_client_under_uwsgi() -> None:
    """uWSGI forks in C: a worker would wait for the import of a thread that it does not have."""
    script = """
import sys
sys.modules["uwsgi"] = sys
from imds_identity import ManagedIdentityCredential
assert "http.client" not in sys.modules
ManagedIdentityCredential()
assert "http.client" in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


IN_THE_IMPORT_OF_ERRORS = """
import os, signal, sys, threading
from imds_identity import ManagedIdentityCredential

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "azure.core.exceptions":
            importing.set()
            threading.Event().wait(0.3)

def fail():
    try:
        credential.get_token("https://vault.azure.net")
    except Exception as error:
        return type(error).__name__

importing = threading.Event()
sys.meta_path.insert(0, Slow())
credential = ManagedIdentityCredential(client_id="nobody")
thread = threading.Thread(target=fail)
thread.start()
importing.wait()
child = os.fork()
if not child:
    signal.alarm(20)  # ends a child that hangs
    os._exit(0 if fail() == "CredentialUnavailableError" else 1)
print(os.waitpid(child, 0)[1])
thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX processes")
def test_a_program_without_azure_core_may_fork_during_its_first_failure(
    imds_emulator: Emulator, tmp_path: Path
) -> None:
    check_child(IN_THE_IMPORT_OF_ERRORS, imds_emulator, tmp_path)
