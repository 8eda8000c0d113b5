"""Run in a network namespace: Packer's Azure builder on a machine with an identity.

It asks the metadata service for its subscription, Azure's resource manager for the tenant, and the
metadata service again for the token with which it calls the resource manager. Nothing is built: it
is ended as soon as it has called. Prints what was asked.
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

PATIENCE_SECONDS = 120
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


def called(packer: str, world: FakeAzure, folder: Path) -> str:
    """What Packer says until it has called the resource manager with a token."""
    template = folder / "template.json"
    template.write_text(json.dumps({"builders": [BUILDER]}))
    environment = {
        "CHECKPOINT_DISABLE": "1",
        "HOME": str(folder),
        "HTTPS_PROXY": world.environment["HTTPS_PROXY"],
        "PATH": os.defpath,
        "SSL_CERT_FILE": world.environment["SSL_CERT_FILE"],
    }
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [packer, "build", str(template)], cwd=folder, env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        end = time.monotonic() + PATIENCE_SECONDS
        while not world.sites.granted and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        # Its plugins are in its session, and outlive it otherwise.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return (folder / "log").read_text()


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        Emulator(host="169.254.169.254", port=80, allow_remote=True, limits=True) as emulator,
        FakeAzure(Path(name)) as world,
    ):
        said = called(sys.argv[1], world, Path(name))
        asked = [(record.status, record.category) for record in emulator.requests]
        print(json.dumps({"said": said, "asked": asked, "called": world.sites.granted}))


if __name__ == "__main__":
    main()
