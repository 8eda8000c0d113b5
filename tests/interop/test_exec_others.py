"""Unmodified clients in several languages get tokens under ``imds-identity exec``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from interop_support import require_node, require_part

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


def run_under_exec(flags: list[str], command: list[str], **variables: str) -> str:
    environment = {
        **os.environ,
        # After the token, clients call a service that cannot be reached.
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
    packages = require_part("npm") / "npm/node_modules"
    output = run_under_exec([], [require_node(), str(HERE / "token.mjs"), str(packages)])
    assert output.split() == ["3", "true"]


def test_azure_identity_for_javascript_on_an_arc_server(arc_emulator: Emulator) -> None:
    packages = require_part("npm") / "npm/node_modules"
    flags = ["--arc-tokens-directory", str(arc_emulator.tokens_directory)]
    output = run_under_exec(flags, [require_node(), str(HERE / "token.mjs"), str(packages)])
    assert output.split() == ["3", "true"]


def test_msal_for_node(imds_emulator: Emulator) -> None:
    # Node.js looks for packages in the folder of the script.
    script = require_part("npm") / "npm/msal_node_exec.mjs"
    shutil.copy(HERE / "clients/msal_node.mjs", script)
    assert run_under_exec([], [require_node(), str(script)]).split() == ["Bearer"]


def test_az(imds_emulator: Emulator, tmp_path: Path) -> None:
    az = require_part("azure-cli") / "az/bin/az"
    run_under_exec(
        [], [str(az), "login", "--identity", "--allow-no-subscriptions"],
        AZURE_CONFIG_DIR=str(tmp_path), AZURE_CORE_COLLECT_TELEMETRY="no",
    )  # fmt: skip
    resources = [request.query.get("resource") for request in imds_emulator.token_requests]
    assert resources == ["https://management.core.windows.net/"]


def test_obstore(imds_emulator: Emulator) -> None:
    pytest.importorskip("obstore")
    # With its token, it sends a request to the store, which cannot be reached.
    assert "blob.core.windows.net" in run_under_exec([], [sys.executable, "-c", OBSTORE])
    resources = [request.query.get("resource") for request in imds_emulator.token_requests]
    assert resources == ["https://storage.azure.com"]


def test_curl_and_a_shell(imds_emulator: Emulator) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    script = (
        'curl -sS -H "X-IDENTITY-HEADER: $IDENTITY_HEADER" '
        '"$IDENTITY_ENDPOINT?api-version=2019-08-01&resource=https://vault.azure.net"'
    )
    assert json.loads(run_under_exec([], ["sh", "-c", script]))["token_type"] == "Bearer"
