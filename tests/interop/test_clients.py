"""Clients as they are published, at the service's own address: docs/emulator.md lists them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from interop_support import DEFAULT_ADDRESS_WORLD, REPOSITORY, in_namespace, part

pytestmark = pytest.mark.interop
HERE = Path(__file__).parent
CLIENTS = HERE / "clients"
WORLD = HERE / "machine_clients.py"
# Each client with what was installed for it, and the category that it must have been answered for.
TABLE = [
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
    """How a client is run by what was installed for it."""
    home = part(installed)
    if client.endswith(".mjs"):
        node = shutil.which("node")
        if node is None:
            pytest.skip("no node")
        # Node looks for packages beside the script, so the script goes there.
        script = home / "npm" / client
        shutil.copy(CLIENTS / client, script)
        return [node, str(script)]
    python = home / ("duckdb" if installed == "duckdb" else "more") / "bin" / "python"
    if installed != "debian":
        return [str(python), str(CLIENTS / client)]
    part("more")
    packages = home / "debian" / "usr" / "lib" / "python3" / "dist-packages"
    return ["env", f"PYTHONPATH={packages}", str(python), str(CLIENTS / client)]


@pytest.mark.parametrize(("client", "installed", "category"), TABLE)
def test_a_client_believes_it(
    client: str, installed: str, category: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY / "src"))
    said = in_namespace(["-n"], DEFAULT_ADDRESS_WORLD, WORLD, *command(client, installed))
    found = json.loads(said.splitlines()[-1])
    assert found["status"] == 0, found["said"]
    assert [200, category] in found["asked"], found


def test_every_client_is_in_the_table_of_the_documentation() -> None:
    text = (REPOSITORY / "docs" / "emulator.md").read_text()
    for client in CLIENTS.iterdir():
        assert f"`{client.name}`" in text
    assert {client.name for client in CLIENTS.iterdir()} == {name for name, _, _ in TABLE}
