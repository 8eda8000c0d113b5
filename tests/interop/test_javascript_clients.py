"""@azure/identity for JavaScript gets tokens from the emulator."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from interop_support import ARC_SETUP, in_namespace, require_node, require_part

if TYPE_CHECKING:
    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.interop

HERE = Path(__file__).parent
EXPECTED = ["3", "true"]


def test_token_on_a_vm(imds_emulator: Emulator) -> None:
    packages = require_part("npm") / "npm/node_modules"
    done = subprocess.run(
        [require_node(), HERE / "token.mjs", packages], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == EXPECTED
    assert 200 in [request.status for request in imds_emulator.token_requests]


def test_token_on_an_arc_server() -> None:
    packages = require_part("npm") / "npm/node_modules"
    output = in_namespace(
        ["-m", "--propagation", "private"], ARC_SETUP, HERE / "namespace_arc.py",
        require_node(), str(HERE / "token.mjs"), str(packages),
    )  # fmt: skip
    assert output.split() == EXPECTED
