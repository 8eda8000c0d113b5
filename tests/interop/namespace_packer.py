"""Run in a network namespace: Packer's Azure builder on a machine with a managed identity.

Packer requests its subscription from the metadata service, the tenant from Azure Resource Manager,
and a token for Resource Manager from the metadata service. The script kills Packer after its first
call with the token, before it builds anything, and prints the requests.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fake_azure import FakeAzure
from imds_identity.emulator import Emulator

TIMEOUT_SECONDS = 120
BUILDER = {
    "type": "azure-arm",
    "managed_image_resource_group_name": "images",
    "managed_image_name": "image",
    "os_type": "Linux",
    "image_publisher": "Debian",
    "image_offer": "debian-12",
    "image_sku": "12",
    "location": "westeurope",
}


def run_packer(packer: str, azure: FakeAzure, folder: Path) -> str:
    """Run Packer until it calls Resource Manager with a token; return its output."""
    template = folder / "template.json"
    template.write_text(json.dumps({"builders": [BUILDER]}))
    environment = {
        "CHECKPOINT_DISABLE": "1",
        "HOME": str(folder),
        "HTTPS_PROXY": azure.environment["HTTPS_PROXY"],
        "PATH": os.defpath,
        "SSL_CERT_FILE": azure.environment["SSL_CERT_FILE"],
    }
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [packer, "build", str(template)], cwd=folder, env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        end = time.monotonic() + TIMEOUT_SECONDS
        while not azure.sites.authorized and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        # Its plugins are separate processes in its session.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return (folder / "log").read_text()


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        Emulator(host="169.254.169.254", port=80, allow_remote=True, limits=True) as emulator,
        FakeAzure(Path(name)) as azure,
    ):
        output = run_packer(sys.argv[1], azure, Path(name))
        requests = [(record.status, record.category) for record in emulator.requests]
        print(json.dumps({"output": output, "requests": requests, "calls": azure.sites.authorized}))


if __name__ == "__main__":
    main()
