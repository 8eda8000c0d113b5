"""Programs that use this package connect to the token service and to nothing else."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from imds_identity.emulator import Emulator

PROGRAM = """
import sys

def record(event, args):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo"):
        address = args[1] if event != "socket.getaddrinfo" else args[:2]
        if isinstance(address, tuple):
            host, port = address[:2]
            print("sent to", host.decode() if isinstance(host, bytes) else host, port, flush=True)

sys.addaudithook(record)
"""
CREDENTIAL = """
from imds_identity import ManagedIdentityCredential
with ManagedIdentityCredential() as credential:
    for resource in ("https://vault.azure.net", "https://storage.azure.com"):
        credential.get_token(resource + "/.default")
"""
COMMAND = "from imds_identity.cli import main; main({!r})"


@pytest.mark.parametrize(
    "program",
    [
        CREDENTIAL,
        COMMAND.format(["token", "https://vault.azure.net"]),
        COMMAND.format(["whoami"]),
        COMMAND.format(["doctor"]),
        COMMAND.format(["metadata", "compute"]),
        COMMAND.format(["cache", "show"]),
    ],
)
def test_nothing_is_sent_to_other_addresses(imds_emulator: Emulator, program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + program], capture_output=True, text=True, check=False
    )
    service = urlsplit(imds_emulator.endpoint)
    sent = {tuple(line.split()[2:]) for line in done.stdout.splitlines() if "sent to" in line}
    assert sent <= {(service.hostname, str(service.port))}, done
    assert sent or "'show'" in program
