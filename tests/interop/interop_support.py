"""Access to the parts that `setup.sh` installs, and scripts in Linux namespaces."""

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


def require_part(name: str) -> Path:
    """Return the folder of all installed parts, or skip the test if this one is missing."""
    if not (HOME / f"{name}.installed").exists():
        pytest.skip(f"{name} is not installed: run make interop")
    return HOME


def require_node() -> str:
    """Return the path of Node.js, or skip the test if it or its packages are missing."""
    path = shutil.which("node")
    if path is None:
        pytest.skip("node is not installed")
    require_part("npm")
    return path


def in_namespace(flags: list[str], setup: str, script: Path, *arguments: str) -> str:
    """Run a Python script in new Linux namespaces and return its output, or skip the test.

    Args:
        flags: the options of ``unshare``.
        setup: shell commands to run first in the namespaces.
        script: the script.
        arguments: its arguments.
    """
    if sys.platform != "linux" or shutil.which("unshare") is None:
        pytest.skip("needs Linux namespaces")
    allowed = subprocess.run(["unshare", *flags, "true"], capture_output=True, check=False)
    if allowed.returncode:
        pytest.skip(f"namespaces are not allowed: {allowed.stderr.decode().strip()}")
    done = subprocess.run(
        ["unshare", *flags, "sh", "-ec", f'{setup}\nexec "$@"', "sh", sys.executable,
         str(script), *arguments],
        capture_output=True, text=True, check=False, timeout=180,
        env={**os.environ, "IMDS_IDENTITY_CACHE": "off"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


ARC_SETUP = "mount -t tmpfs none /var/opt\nmkdir -p /var/opt/azcmagent/tokens\n"
DEFAULT_ADDRESS_SETUP = "ip link set lo up\nip address add 169.254.169.254/32 dev lo\n"
