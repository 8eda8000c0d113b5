"""A container that can reach only the address of a bridge gets tokens from ``serve --bind``."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from interop_support import in_namespace

pytestmark = pytest.mark.interop

BRIDGE_SETUP = (
    "ip link set lo up\nip link add bridge0 type bridge\n"
    "ip address add 10.9.8.1/24 dev bridge0\nip link set bridge0 up\n"
)


def test_container_gets_tokens_at_the_bridge(tmp_path: Path) -> None:
    probe = subprocess.run(
        ["unshare", "-n", "ip", "link", "add", "name", "x0", "type", "bridge"],
        capture_output=True,
        check=False,
    )
    if probe.returncode:
        pytest.skip("bridges are not allowed")
    script = Path(__file__).with_name("namespace_bridge.py")
    output = in_namespace(["-n"], BRIDGE_SETUP, script, str(tmp_path))
    assert output.split() == ["200", "200", "403", "unreachable", "1"]
