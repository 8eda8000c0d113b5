"""Published clients accept the emulator at 169.254.169.254: docs/emulator.md lists them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from interop_support import DEFAULT_ADDRESS_SETUP, REPOSITORY, in_namespace, require_part

pytestmark = pytest.mark.interop
HERE = Path(__file__).parent
CLIENTS = HERE / "clients"
SCRIPT = HERE / "namespace_clients.py"
# Each client, the installed part that it needs, and the category of its successful request.
CLIENT_TABLE = [
    ("walinuxagent.py", "debian", "instance"),
    ("cloud_init.py", "debian", "instance"),
    ("opentelemetry_python.py", "more", "instance"),
    ("azure_monitor.py", "more", "instance"),
    ("new_relic.py", "more", "instance"),
    ("google_auth.py", "more", "identity"),
    ("adlfs_client.py", "more", "identity"),
    ("deltalake_client.py", "more", "identity"),
    ("pyarrow_client.py", "more", "identity"),
    ("gdal.py", "more", "identity"),
    ("duckdb_client.py", "duckdb", "identity"),
    ("msal_node.mjs", "npm", "identity"),
    ("opentelemetry_javascript.mjs", "npm", "instance"),
]


def command(client: str, installed: str) -> list[str]:
    """Return the command that runs a client with the installed part."""
    home = require_part(installed)
    if client.endswith(".mjs"):
        node = shutil.which("node")
        if node is None:
            pytest.skip("node is not installed")
        # Node.js looks for packages in the folder of the script.
        script = home / "npm" / client
        shutil.copy(CLIENTS / client, script)
        return [node, str(script)]
    python = home / ("duckdb" if installed == "duckdb" else "more") / "bin" / "python"
    if installed != "debian":
        return [str(python), str(CLIENTS / client)]
    require_part("more")
    packages = home / "debian" / "usr" / "lib" / "python3" / "dist-packages"
    return ["env", f"PYTHONPATH={packages}", str(python), str(CLIENTS / client)]


@pytest.mark.parametrize(("client", "installed", "category"), CLIENT_TABLE)
def test_client_accepts_the_emulator(
    client: str, installed: str, category: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY / "src"))
    output = in_namespace(["-n"], DEFAULT_ADDRESS_SETUP, SCRIPT, *command(client, installed))
    result = json.loads(output.splitlines()[-1])
    assert result["status"] == 0, result["output"]
    assert [200, category] in result["requests"], result


def test_documentation_lists_every_client() -> None:
    text = (REPOSITORY / "docs" / "emulator.md").read_text()
    for client in CLIENTS.iterdir():
        assert f"`{client.name}`" in text
    assert {client.name for client in CLIENTS.iterdir()} == {name for name, _, _ in CLIENT_TABLE}
