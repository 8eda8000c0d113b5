"""A program without file descriptors or threads gets an error that names this, and recovers."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")

SCRIPT = """
import os, sys
{imports}
import resource
from imds_identity import ManagedIdentityCredential
from imds_identity._platform.threads import join_all
{credential}
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
opened = []

def exhaust():
    join_all(10)  # a thread that imports could close a file afterwards
    try:
        while True:
            opened.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass

def release():
    while opened:
        os.close(opened.pop())

def attempt(scope):
    exhaust()
    try:
        get_token(scope)
    except Exception as error:
        raised = error
    else:
        raised = AssertionError("a token without a descriptor")
    release()
    kinds = [each.__name__ for each in type(raised).__mro__]
    assert "CredentialUnavailableError" not in kinds, kinds
    assert not isinstance(raised, (OSError, ImportError)), repr(raised)
    code = getattr(raised, "reason_code", None) or raised.reason.value
    assert code == "local-resources", (code, str(raised))
    assert "Too many open files" in str(raised), str(raised)

for scope in ("https://vault.azure.net", "https://storage.azure.com"):
    attempt(scope)
    assert get_token(scope)
print("recovered")
"""
SYNC = """
credential = ManagedIdentityCredential()
def get_token(scope):
    return credential.get_token(scope).token
"""
ASYNC = """
import asyncio
from imds_identity.aio import ManagedIdentityCredential as AsyncCredential
credential = AsyncCredential()
loop = asyncio.new_event_loop()
def get_token(scope):
    return loop.run_until_complete(credential.get_token(scope)).token
"""
REQUESTS = """
from azure.core.pipeline.transport import RequestsTransport
credential = ManagedIdentityCredential(transport=RequestsTransport())
def get_token(scope):
    return credential.get_token(scope).token
"""


def run(script: str, emulator: Emulator, cache: object, **variables: str) -> str:
    environment = {**os.environ, **emulator.environment(), **variables}
    environment["IMDS_IDENTITY_CACHE"] = str(cache)
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


AZURE_CORE = "import azure.core.exceptions"


# All pairs of two values, but not all combinations of three.
@pytest.mark.parametrize(
    ("credential", "imports", "shares"),
    [
        pytest.param(SYNC, "", True, id="sync, shared cache"),
        pytest.param(SYNC, AZURE_CORE, False, id="sync, azure-core"),
        pytest.param(ASYNC, "", False, id="async"),
        pytest.param(ASYNC, AZURE_CORE, True, id="async, azure-core, shared cache"),
        pytest.param(REQUESTS, "", True, id="transport, shared cache"),
        pytest.param(REQUESTS, AZURE_CORE, False, id="transport, azure-core"),
    ],
)
def test_lack_of_descriptors_is_named_and_not_remembered(
    credential: str, imports: str, shares: bool, imds_emulator: Emulator, tmp_path: Path
) -> None:
    script = SCRIPT.format(imports=imports, credential=credential)
    assert run(script, imds_emulator, tmp_path / "cache" if shares else "off") == "recovered"


THREADS = """
import _thread
import azure.core.exceptions
from imds_identity import ManagedIdentityCredential
from imds_identity.errors import ManagedIdentityError

def no_thread(*_):
    raise RuntimeError("can't start new thread")

credential = ManagedIdentityCredential()
started, _thread.start_new_thread = _thread.start_new_thread, no_thread
try:
    token = credential.get_token("https://vault.azure.net").token
except ManagedIdentityError as error:
    assert error.reason_code == "local-resources", error.reason_code
_thread.start_new_thread = started
assert credential.get_token("https://vault.azure.net").token
print("recovered")
"""


def test_lack_of_threads_is_named_and_not_remembered(imds_emulator: Emulator) -> None:
    assert run(THREADS, imds_emulator, "off") == "recovered"


CONSTRUCTED = """
import asyncio, os, resource
import azure.core.exceptions
from imds_identity import ManagedIdentityCredential, aio

resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
loop, opened = asyncio.new_event_loop(), []
try:
    while True:
        opened.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
credential, other = ManagedIdentityCredential(), aio.ManagedIdentityCredential()
for call in (credential.get_token, lambda scope: loop.run_until_complete(other.get_token(scope))):
    try:
        call("https://vault.azure.net")
    except Exception as error:
        assert error.reason.value == "local-resources", repr(error)
for descriptor in opened:
    os.close(descriptor)
assert credential.get_token("https://vault.azure.net").token
print("recovered")
"""


def test_first_credential_can_be_constructed_without_descriptors(imds_emulator: Emulator) -> None:
    """The first one imports modules; azure-identity, which a program may have used, does not."""
    assert run(CONSTRUCTED, imds_emulator, "off") == "recovered"


CONSTRUCTOR = """
import errno, os, resource
from imds_identity import ManagedIdentityCredential
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
opened = []
try:
    while True:
        opened.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
try:
    ManagedIdentityCredential(retry_total=1)
except OSError as error:
    assert error.errno == errno.EMFILE
while opened:
    os.close(opened.pop())
print(ManagedIdentityCredential(retry_total=1).get_token("https://vault.azure.net").token)
"""


def test_constructor_without_descriptors_works_later(imds_emulator: Emulator) -> None:
    assert run(CONSTRUCTOR, imds_emulator, "off").startswith("eyJ")
