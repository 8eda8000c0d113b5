"""What ``serve --bind`` gives to a container, which reaches a bridge's address and nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from interop_support import in_namespace

pytestmark = pytest.mark.interop

WORLD = (
    "ip link set lo up\nip link add bridge0 type bridge\n"
    "ip address add 10.9.8.1/24 dev bridge0\nip link set bridge0 up\n"
)


def test_a_container_gets_tokens_at_the_bridge(tmp_path: Path) -> None:
    can = subprocess.run(
        ["unshare", "-n", "ip", "link", "add", "name", "x0", "type", "bridge"],
        capture_output=True,
        check=False,
    )
    if can.returncode:
        pytest.skip("no bridges here")
    script = Path(__file__).with_name("machine_bridge.py")
    said = in_namespace(["-n"], WORLD, script, str(tmp_path))
    assert said.split() == ["200", "200", "403", "unreachable", "1"]
