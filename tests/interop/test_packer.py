"""Packer's Azure builder takes its subscription and its tokens from the emulator."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from interop_support import DEFAULT_ADDRESS_WORLD, REPOSITORY, in_namespace, part

pytestmark = pytest.mark.interop


def test_packer_calls_the_resource_manager_with_the_machines_identity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packer = part("packer") / "packer/usr/bin/packer"
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join(map(str, [REPOSITORY / "src", REPOSITORY / "tests"]))
    )
    script = Path(__file__).with_name("machine_packer.py")
    found = json.loads(in_namespace(["-n"], DEFAULT_ADDRESS_WORLD, script, str(packer)))
    assert {tuple(asked) for asked in found["asked"]} == {(200, "instance"), (200, "identity")}
    assert found["called"], found["said"]
