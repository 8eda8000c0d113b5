"""``az login --identity`` gets a token."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from interop_support import require_part

from markdown_blocks import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.interop


def test_az_login_gets_a_token(imds_emulator: Emulator, tmp_path: Path) -> None:
    az = require_part("azure-cli") / "az/bin/az"
    environment = {
        **os.environ,
        **imds_emulator.environment(),
        "AZURE_CONFIG_DIR": str(tmp_path),
        "AZURE_CORE_COLLECT_TELEMETRY": "no",
        # After the token, az calls Azure Resource Manager, which cannot be reached.
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(
        [az, "login", "--identity", "--allow-no-subscriptions"],
        env=environment, capture_output=True, text=True, check=False, timeout=170,
    )  # fmt: skip
    statuses = [
        (request.status, request.query.get("resource")) for request in imds_emulator.token_requests
    ]
    assert (200, "https://management.core.windows.net/") in statuses, done.stderr


@pytest.mark.parametrize(
    "page",
    [
        "docs/tutorial.md",
        "docs/how-to/federated-application.md",
        "docs/how-to/other-clouds.md",
        "docs/troubleshooting.md",
    ],
)
def test_documented_options_of_az_exist(page: str, tmp_path: Path) -> None:
    az = require_part("azure-cli") / "az/bin/az"
    text = (ROOT / page).read_text("utf-8").replace("\\\n", " ")
    found = re.findall(r"(?m)(?:^|[`(])az((?: [a-z][a-z-]*)+)((?: +--?[a-z][^`)\n]*)?)", text)
    commands = {words.strip(): set(re.findall(r" (--[a-z-]+)", rest)) for words, rest in found}
    assert commands
    for words, options in commands.items():
        done = subprocess.run(
            [az, *words.split(), "--help"], env={**os.environ, "AZURE_CONFIG_DIR": str(tmp_path)},
            capture_output=True, text=True, check=False, timeout=100,
        )  # fmt: skip
        assert done.returncode == 0, (words, done.stderr)
        assert {option for option in options if option not in done.stdout} == set(), words


def test_each_az_process_requests_its_own_token(imds_emulator: Emulator, tmp_path: Path) -> None:
    python = require_part("azure-cli") / "az/bin/python"
    environment = {
        **os.environ, **imds_emulator.environment(), "AZURE_CONFIG_DIR": str(tmp_path)
    }  # fmt: skip
    program = (
        "from azure.cli.core.auth.msal_credentials import ManagedIdentityCredential as C;"
        "assert C().acquire_token(['https://vault.azure.net/.default'])['access_token']"
    )
    for _ in "ab":
        subprocess.run([python, "-c", program], env=environment, check=True, timeout=100)
    assert len(imds_emulator.token_requests) == 2
