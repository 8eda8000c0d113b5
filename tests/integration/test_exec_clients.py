"""``exec`` with Microsoft's unmodified Python clients, and with many processes at once."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity.emulator import DEFAULT_SYSTEM_ASSIGNED, DEFAULT_USER_ASSIGNED

if TYPE_CHECKING:
    from pathlib import Path

    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

EXEC = [sys.executable, "-m", "imds_identity", "exec"]
SHOW = """
import base64, json
def show(token):
    payload = token.split(".")[1]
    print(json.loads(base64.urlsafe_b64decode(payload + "=="))["appid"])
"""
AZURE_IDENTITY = (
    SHOW
    + """
import sys
from azure.identity import ManagedIdentityCredential
selector = dict([sys.argv[1].split("=", 1)]) if sys.argv[1:] else {}
show(ManagedIdentityCredential(**selector).get_token("https://vault.azure.net/.default").token)
"""
)
DEFAULT_CREDENTIAL = (
    SHOW
    + """
from azure.identity import DefaultAzureCredential
show(DefaultAzureCredential().get_token("https://vault.azure.net/.default").token)
"""
)
AZURE_IDENTITY_AIO = (
    SHOW
    + """
import asyncio
from azure.identity.aio import ManagedIdentityCredential
async def main():
    async with ManagedIdentityCredential() as credential:
        show((await credential.get_token("https://vault.azure.net/.default")).token)
asyncio.run(main())
"""
)
MSAL = (
    SHOW
    + """
import msal, requests
me = msal.SystemAssignedManagedIdentity()
client = msal.ManagedIdentityClient(me, http_client=requests.Session())
response = client.acquire_token_for_client(resource="https://vault.azure.net")
show(response["access_token"])
assert 86000 < response["expires_in"] <= 86400, response["expires_in"]
"""
)
OURS = (
    SHOW
    + """
from imds_identity import ManagedIdentityCredential
show(ManagedIdentityCredential().get_token("https://vault.azure.net/.default").token)
"""
)


def output_of(flags: list[str], script: str, *arguments: str, **more: Any) -> str:
    done = subprocess.run(
        [*EXEC, *flags, "--", sys.executable, "-c", script, *arguments],
        capture_output=True, text=True, check=False, timeout=60, **more,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return str(done.stdout.strip())


CLIENTS = [AZURE_IDENTITY, DEFAULT_CREDENTIAL, AZURE_IDENTITY_AIO, MSAL, OURS]
NAMES = ["azure-identity", "default", "aio", "msal", "ours"]


@pytest.mark.parametrize("client", CLIENTS, ids=NAMES)
def test_client_on_a_vm(imds_emulator: Emulator, client: str) -> None:
    assert output_of([], client) == DEFAULT_SYSTEM_ASSIGNED.client_id


def test_flags_select_the_identity_of_any_client(imds_emulator: Emulator) -> None:
    user_assigned = ["--client-id", DEFAULT_USER_ASSIGNED.client_id]
    assert output_of(user_assigned, MSAL) == DEFAULT_USER_ASSIGNED.client_id


@pytest.mark.parametrize("client", [AZURE_IDENTITY, MSAL], ids=["azure-identity", "msal"])
def test_client_on_an_arc_server(arc_emulator: Emulator, client: str) -> None:
    flags = ["--arc-tokens-directory", str(arc_emulator.tokens_directory)]
    assert output_of(flags, client)


@pytest.mark.parametrize(
    "selector",
    [
        f"client_id={DEFAULT_USER_ASSIGNED.client_id}",
        f"identity_config={DEFAULT_USER_ASSIGNED.object_id}",
    ],
)
def test_client_may_choose_the_identity(imds_emulator: Emulator, selector: str) -> None:
    script = AZURE_IDENTITY.replace(
        "selector =",
        "object_id = sys.argv[1].partition('identity_config=')[2]\n"
        "selector = {'identity_config': {'object_id': object_id}} if object_id else ",
    )
    assert output_of([], script, selector) == DEFAULT_USER_ASSIGNED.client_id


def test_commands_started_together_share_one_request(
    imds_emulator: Emulator, tmp_path: Path
) -> None:
    script = """
import os, urllib.request
for resource in ("https://vault.azure.net", "https://storage.azure.com"):
    url = os.environ["IDENTITY_ENDPOINT"] + "?api-version=2019-08-01&resource=" + resource
    headers = {"X-IDENTITY-HEADER": os.environ["IDENTITY_HEADER"]}
    print(urllib.request.urlopen(urllib.request.Request(url, headers=headers)).status)
"""
    environment = {**os.environ, "IMDS_IDENTITY_CACHE": str(tmp_path / "shared")}
    running = [
        subprocess.Popen(
            [*EXEC, "--", sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment
        )
        for _ in range(8)
    ]
    assert {process.communicate(timeout=120)[0] for process in running} == {b"200\n200\n"}
    assert len(imds_emulator.token_requests) == 2


IMPORTS_AFTER_THE_FIRST_REQUEST = """
import sys
from imds_identity._endpoint import server
from imds_identity.cli import main
authorize, requests = server.authorize, []
def record(request, policy):
    requests.append(request)
    return authorize(request, policy)
server.authorize = record
sys.addaudithook(
    lambda event, args: print("imports", args[0], flush=True)
    if event == "import" and requests
    else None
)
status = main(["exec", *sys.argv[2:], "--", sys.executable, "-c", sys.argv[1]])
requests.clear()  # the end of the program may import
sys.exit(status)
"""


@pytest.mark.parametrize("host", ["imds_emulator", "arc_emulator"])
def test_nothing_is_imported_while_a_token_is_requested(
    host: str, request: pytest.FixtureRequest
) -> None:
    emulator: Emulator = request.getfixturevalue(host)
    directory = emulator.tokens_directory
    flags = ["--arc-tokens-directory", str(directory)] if directory else []
    environment = {**os.environ, "IMDS_IDENTITY_CACHE": "off"}
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS_AFTER_THE_FIRST_REQUEST, MSAL, *flags],
        capture_output=True, text=True, check=False, timeout=60, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("imports ")] == []
    assert len(done.stdout.splitlines()) == 1
