"""The metadata room as a whole."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from imds_identity import metadata


@pytest.mark.parametrize("name", metadata.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(metadata, name).__name__ == name if name != "CLOUDS" else metadata.CLOUDS


def test_the_room_knows_only_the_floors_below() -> None:
    known = {
        node.module.split(".")[0]
        for path in Path(metadata.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level == 2 and node.module
    }
    assert known <= {"_core", "_wire", "_machine", "_sources"}


def test_the_room_costs_nothing_until_it_is_used() -> None:
    heavy = ("azure", "requests", "cryptography", "asn1crypto", "dataclasses")
    script = f"import imds_identity.metadata, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
