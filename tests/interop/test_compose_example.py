"""examples/compose: its file, and its programs without containers."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from azurite_support import wait_for_port
from interop_support import REPOSITORY, require_node, require_part

from imds_identity.emulator._cli.env_flags import flags_from_environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.interop
yaml = pytest.importorskip("yaml")
EXAMPLE = REPOSITORY / "examples" / "compose"
FILES = [EXAMPLE / "compose.yaml", REPOSITORY / "compose.yaml"]


def services() -> dict[str, Any]:
    return dict(yaml.safe_load((EXAMPLE / "compose.yaml").read_text())["services"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_file_is_complete(file: Path) -> None:
    document = yaml.safe_load(file.read_text())
    for service in document["services"].values():
        assert service.get("depends_on", {}).keys() <= document["services"].keys()
        named = [each.partition(":")[0] for each in service.get("volumes", [])]
        assert set(named) <= document["volumes"].keys()
        if "build" in service:
            assert (file.parent / service["build"] / "Dockerfile").is_file()
    assert flags_from_environment(document["services"]["imds"]["environment"])


@pytest.fixture
def azurite(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Azurite with the example's certificate and flags; yields the application's variables."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])

    def here(text: str) -> str:
        replaced = {"/certificates": str(tmp_path), "0.0.0.0": "127.0.0.1", "10000": port}
        for old, new in {
            **replaced,
            "azurite:": "localhost:",
            "DNS:azurite": "DNS:localhost",
        }.items():
            text = text.replace(old, new)
        return text

    found = services()
    certificate = shlex.split(here(found["certificate"]["command"]))
    subprocess.run(["openssl", *certificate], check=True, capture_output=True)
    main = require_part("npm") / "npm/node_modules/azurite/dist/src/azurite.js"
    program, *flags = map(here, found["azurite"]["command"])
    assert program == "azurite"
    others = [f"--{name}Port=0" for name in ("queue", "table")]
    with subprocess.Popen(
        [require_node(), main, *flags, *others], cwd=tmp_path, stdout=subprocess.DEVNULL
    ) as process:
        wait_for_port(int(port), process)
        variables = found["app"]["environment"]
        yield {name: here(variables[name]) for name in ("BLOB_URL", "BLOB_CA_FILE")}
        process.terminate()


def test_application_writes_to_azurite_with_a_token_of_the_emulator(
    azurite: dict[str, str], imds_emulator: Emulator
) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / "app.py")],
        env={**os.environ, **imds_emulator.environment(), **azurite},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "Hello from Azurite\n", done.stderr
    assert len(imds_emulator.token_requests) == 1
