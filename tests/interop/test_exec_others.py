"""Clients in other languages, unmodified, as commands of ``imds-identity exec``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from interop_support import node, part

if TYPE_CHECKING:
    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.interop

HERE = Path(__file__).parent
EXEC = [sys.executable, "-m", "imds_identity", "exec"]
OBSTORE = """
import obstore
from obstore.store import AzureStore
store = AzureStore("container", account_name="account", retry_config={"max_retries": 0})
try:
    obstore.list(store).collect()
except Exception as error:
    print(error)
"""


def executed(flags: list[str], command: list[str], **variables: str) -> str:
    environment = {
        **os.environ,
        # What follows the token is a service that is not there.
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1",
        **variables,
    }
    done = subprocess.run(
        [*EXEC, *flags, "--", *command],
        env=environment, capture_output=True, text=True, check=False, timeout=170,
    )  # fmt: skip
    return done.stdout


def test_azure_identity_for_javascript(imds_emulator: Emulator) -> None:
    packages = part("npm") / "npm/node_modules"
    said = executed([], [node(), str(HERE / "token.mjs"), str(packages)])
    assert said.split() == ["3", "true"]


def test_azure_identity_for_javascript_on_an_arc_server(arc_emulator: Emulator) -> None:
    packages = part("npm") / "npm/node_modules"
    flags = ["--arc-tokens-directory", str(arc_emulator.tokens_directory)]
    said = executed(flags, [node(), str(HERE / "token.mjs"), str(packages)])
    assert said.split() == ["3", "true"]


def test_msal_for_node(imds_emulator: Emulator) -> None:
    # Node looks for packages beside the script, so the script goes there.
    script = part("npm") / "npm/msal_node_exec.mjs"
    shutil.copy(HERE / "clients/msal_node.mjs", script)
    assert executed([], [node(), str(script)]).split() == ["Bearer"]


def test_az(imds_emulator: Emulator, tmp_path: Path) -> None:
    az = part("azure-cli") / "az/bin/az"
    executed(
        [], [str(az), "login", "--identity", "--allow-no-subscriptions"],
        AZURE_CONFIG_DIR=str(tmp_path), AZURE_CORE_COLLECT_TELEMETRY="no",
    )  # fmt: skip
    asked = [request.query.get("resource") for request in imds_emulator.token_requests]
    assert asked == ["https://management.core.windows.net/"]


def test_obstore(imds_emulator: Emulator) -> None:
    pytest.importorskip("obstore")
    # It has its token and asks the store, which cannot be reached.
    assert "blob.core.windows.net" in executed([], [sys.executable, "-c", OBSTORE])
    asked = [request.query.get("resource") for request in imds_emulator.token_requests]
    assert asked == ["https://storage.azure.com"]


def test_curl_and_a_shell(imds_emulator: Emulator) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    script = (
        'curl -sS -H "X-IDENTITY-HEADER: $IDENTITY_HEADER" '
        '"$IDENTITY_ENDPOINT?api-version=2019-08-01&resource=https://vault.azure.net"'
    )
    assert json.loads(executed([], ["sh", "-c", script]))["token_type"] == "Bearer"
