"""A program keeps working while `pip install -U` replaces this package, and after a chroot.

What a request, a refresh and a failure need was imported before.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import imds_identity

if TYPE_CHECKING:
    from imds_identity.emulator import Emulator

PREPARE = """
import asyncio, pathlib, os, sys, threading
{imports}
PACKAGE = pathlib.Path(sys.argv[1])
SCOPE = "https://vault.azure.net/.default"
CLAIMS = '{{"access_token": {{"nbf": {{"value": "1"}}}}}}'

def replace():
    for path in PACKAGE.rglob("*.py*"):
        path.write_text("raise ImportError('a module of another version')")

def leave():
    os.chroot(PACKAGE)
    os.chdir("/")

def events(event):
    names.append(event.name)

def make_due(credential):
    for record in pathlib.Path(os.environ["IMDS_IDENTITY_CACHE"]).glob("*.json"):
        record.unlink()
    entry = credential._entries[SCOPE]
    entry.hit_until, entry.token = 0.0, entry.token.replace(refresh_at=0.0)

names = []
"""
SYNC = """
from imds_identity import ManagedIdentityCredential, ManagedIdentityError
credential = ManagedIdentityCredential(on_event=events, {settings})
nobody = ManagedIdentityCredential(client_id="nobody", {settings})
{change}()
assert credential.get_token(SCOPE).token
assert credential.get_token(SCOPE, claims=CLAIMS).token
try:
    nobody.get_token(SCOPE)
except ManagedIdentityError as error:
    assert "nobody" in str(error)
make_due(credential)
credential.get_token(SCOPE)
while "refresh" not in names:
    threading.Event().wait(0.01)
"""
ASYNC = """
from imds_identity import ManagedIdentityError, aio

async def main():
    credential = aio.ManagedIdentityCredential(on_event=events, {settings})
    nobody = aio.ManagedIdentityCredential(client_id="nobody", {settings})
    await asyncio.sleep(0)
    {change}()
    assert (await credential.get_token(SCOPE)).token
    assert (await credential.get_token(SCOPE, claims=CLAIMS)).token
    try:
        await nobody.get_token(SCOPE)
    except ManagedIdentityError as error:
        assert "nobody" in str(error)
    make_due(credential)
    await credential.get_token(SCOPE)
    while "refresh" not in names:
        await asyncio.sleep(0.01)
    await credential.close()

asyncio.run(main())
"""
WITHOUT_AZURE_CORE = """
from imds_identity import ManagedIdentityCredential
from imds_identity._platform.threads import join_all
credential = ManagedIdentityCredential(on_event=events)
credential.get_token(SCOPE)
assert "http.client" not in sys.modules
credential._entries[SCOPE].hit_until = 0.0
credential.get_token(SCOPE)
while "http.client" not in sys.modules:
    threading.Event().wait(0.01)
join_all(10)
replace()
make_due(credential)
credential.get_token(SCOPE)
while "refresh" not in names:
    threading.Event().wait(0.01)
"""
SETTINGS = {
    "plain": ("import azure.core.exceptions", ""),
    "with policies": (
        "import azure.core.exceptions, logging; logging.basicConfig(level=10, filename=os.devnull)",
        "headers={'x-ms-client': 'test'}, logging_enable=True",
    ),
    "with a transport": (
        "from azure.core.pipeline.transport import RequestsTransport",
        "transport=RequestsTransport()",
    ),
}


def run(emulator: Emulator, directory: Path, script: str, cache: str, **places: str) -> None:
    package = directory / "site" / "imds_identity"
    ignored = shutil.ignore_patterns("emulator", "doctor", "cli", "*pytest*", "*.pyc.*")
    shutil.copytree(
        Path(imds_identity.__file__).parent,
        package,
        ignore=ignored,
        # With its date, a module keeps its bytecode. Wine lacks what copy2 uses on Windows.
        copy_function=shutil.copyfile if sys.platform == "win32" else shutil.copy2,
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", (PREPARE + script).format(**places), str(package)],
        env={
            **os.environ,
            **emulator.environment(),
            "IMDS_IDENTITY_CACHE": cache,
            "PYTHONPATH": str(package.parent),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr[-2000:]) == (0, "")


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("script", [SYNC, ASYNC], ids=["sync", "async"])
def test_running_program_does_not_read_a_replaced_package(
    imds_emulator: Emulator, tmp_path: Path, script: str, name: str
) -> None:
    imports, settings = SETTINGS[name]
    cache = str(tmp_path / "cache")
    run(
        imds_emulator, tmp_path, script, cache, imports=imports, settings=settings, change="replace"
    )


@pytest.mark.skipif(not hasattr(os, "chroot") or os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("script", [SYNC, ASYNC], ids=["sync", "async"])
def test_program_may_change_its_root_directory(
    imds_emulator: Emulator, tmp_path: Path, script: str
) -> None:
    imports, settings = SETTINGS["plain"]
    run(imds_emulator, tmp_path, script, "off", imports=imports, settings=settings, change="leave")


def test_program_that_got_its_token_from_another_process_refreshes_it(
    imds_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without azure-core, nothing needs http.client until the first fetch: it is not imported."""
    for name, value in imds_emulator.environment().items():
        monkeypatch.setenv(name, value)
    cache = str(tmp_path / "cache")
    imds_identity.ManagedIdentityCredential(cache=cache).get_token(
        "https://vault.azure.net/.default"
    )
    run(imds_emulator, tmp_path, WITHOUT_AZURE_CORE, cache, imports="")
