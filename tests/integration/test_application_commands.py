"""Every command with tokens gets those of an application that trusts the machine's identity."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from imds_identity.emulator import DEFAULT_USER_ASSIGNED, Emulator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

APPLICATION = "22222222-2222-2222-2222-222222222222"
VAULT = "https://vault.azure.net"
PROGRAM = [sys.executable, "-m", "imds_identity"]
REQUEST = """
import os, urllib.request
url = os.environ["IDENTITY_ENDPOINT"] + "?api-version=2019-08-01&resource=https://vault.azure.net"
request = urllib.request.Request(url, headers={"X-IDENTITY-HEADER": os.environ["IDENTITY_HEADER"]})
print(urllib.request.urlopen(request).read().decode())
print(open(os.environ["FILE"]).read() if "FILE" in os.environ else "")
"""
HAS_FILES = sys.platform == "linux"


@pytest.fixture
def emulator(start_emulator: Callable[..., Emulator], monkeypatch: pytest.MonkeyPatch) -> Emulator:
    emulator = start_emulator(
        key_vault=True, secrets={"greeting": "hello"}, applications=[APPLICATION]
    )
    for name, value in emulator.environment().items():
        monkeypatch.setenv(name, value)
    return emulator


@pytest.fixture
def flags(emulator: Emulator) -> list[str]:
    return [
        *("--client-id", DEFAULT_USER_ASSIGNED.client_id),
        *("--as-application", APPLICATION, "--tenant", emulator.machine.tenant_id),
    ]


def application_of(response: str | bytes) -> str:
    claims = jwt.decode(json.loads(response)["access_token"], options={"verify_signature": False})
    return str(claims["appid"])


def test_secret_and_rest(emulator: Emulator, flags: list[str], run_cli: Any) -> None:
    url = f"{emulator.key_vault.url}/secrets/greeting"
    assert run_cli("secret", url, "--resource", VAULT, *flags) == (0, "hello", "")
    status, out, _ = run_cli("rest", "GET", f"{url}?api-version=7.5", "--resource", VAULT, *flags)
    assert (status, json.loads(out)["value"]) == (0, "hello")
    assert {each.client_id for each in emulator.issued_tokens if each.resource == VAULT} == {
        APPLICATION
    }


def test_exec(flags: list[str]) -> None:
    if HAS_FILES:
        flags = [*flags, "--endpoint", "--token-file", f"FILE={VAULT}"]
    command = [*PROGRAM, "exec", *flags, "--", sys.executable, "-c", REQUEST]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    response, in_file = done.stdout.splitlines()
    assert application_of(response) == APPLICATION
    assert in_file == (json.loads(response)["access_token"] if HAS_FILES else "")


@pytest.mark.skipif(sys.platform == "win32", reason="serve requires POSIX")
def test_serve(flags: list[str], tmp_path: Path) -> None:
    file = tmp_path / "env"
    with subprocess.Popen(
        [*PROGRAM, "serve", "--env-file", file, *flags], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            assert "listening" in process.stderr.readline()
            variables = dict(line.split("=", 1) for line in file.read_text().splitlines())
            url = f"{variables['IDENTITY_ENDPOINT']}?api-version=2019-08-01&resource={VAULT}"
            headers = {"X-IDENTITY-HEADER": variables["IDENTITY_HEADER"]}
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as response:
                assert application_of(response.read()) == APPLICATION
        finally:
            process.terminate()
