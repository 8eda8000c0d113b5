"""Packer's Azure builder gets its subscription and its tokens from the emulator."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from interop_support import DEFAULT_ADDRESS_SETUP, REPOSITORY, in_namespace, require_part

pytestmark = pytest.mark.interop


def test_packer_calls_resource_manager_with_the_machine_identity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packer = require_part("packer") / "packer/usr/bin/packer"
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join(map(str, [REPOSITORY / "src", REPOSITORY / "tests"]))
    )
    script = Path(__file__).with_name("namespace_packer.py")
    result = json.loads(in_namespace(["-n"], DEFAULT_ADDRESS_SETUP, script, str(packer)))
    assert {tuple(request) for request in result["requests"]} == {
        (200, "instance"),
        (200, "identity"),
    }
    assert result["calls"], result["output"]
