"""JavaScript's @azure/identity takes tokens from the emulator."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from interop_support import ARC_WORLD, in_namespace, node, part

if TYPE_CHECKING:
    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.interop

HERE = Path(__file__).parent
EXPECTED = ["3", "true"]


def test_on_a_vm(imds_emulator: Emulator) -> None:
    packages = part("npm") / "npm/node_modules"
    said = subprocess.run(
        [node(), HERE / "token.mjs", packages], capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == EXPECTED
    assert 200 in [request.status for request in imds_emulator.token_requests]


def test_on_an_arc_server() -> None:
    packages = part("npm") / "npm/node_modules"
    said = in_namespace(
        ["-m", "--propagation", "private"], ARC_WORLD, HERE / "machine_arc.py",
        node(), str(HERE / "token.mjs"), str(packages),
    )  # fmt: skip
    assert said.split() == EXPECTED
