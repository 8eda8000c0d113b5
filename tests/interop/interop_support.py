"""Where the parts that `setup.sh` installs are, and how to run something in a world of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
HOME = REPOSITORY / ".interop"
VAULT = "https://vault.azure.net/.default"


def part(name: str) -> Path:
    """The folder of what was installed; the test is skipped if it was not."""
    if not (HOME / f"{name}.installed").exists():
        pytest.skip(f"{name} is not installed: run make interop")
    return HOME


def node() -> str:
    """Node.js, or a skip."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("no node")
    part("npm")
    return found


def in_namespace(flags: list[str], prepare: str, script: Path, *arguments: str) -> str:
    """What a Python script prints in Linux namespaces of its own, or a skip.

    Args:
        flags: of ``unshare``.
        prepare: shell commands that make the world what the script expects.
        script: the script.
        arguments: its arguments.
    """
    if sys.platform != "linux" or shutil.which("unshare") is None:
        pytest.skip("no namespaces here")
    allowed = subprocess.run(["unshare", *flags, "true"], capture_output=True, check=False)
    if allowed.returncode:
        pytest.skip(f"namespaces are not allowed: {allowed.stderr.decode().strip()}")
    done = subprocess.run(
        ["unshare", *flags, "sh", "-ec", f'{prepare}\nexec "$@"', "sh", sys.executable,
         str(script), *arguments],
        capture_output=True, text=True, check=False, timeout=180,
        env={**os.environ, "IMDS_IDENTITY_CACHE": "off"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


ARC_WORLD = "mount -t tmpfs none /var/opt\nmkdir -p /var/opt/azcmagent/tokens\n"
DEFAULT_ADDRESS_WORLD = "ip link set lo up\nip address add 169.254.169.254/32 dev lo\n"
