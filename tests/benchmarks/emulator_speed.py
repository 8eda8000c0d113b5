"""The emulator: from the start of a process to its first response, and requests per second."""

from __future__ import annotations

import subprocess
import sys

from figures import compare

from imds_identity.emulator import Emulator

ROUNDS = 7
CONNECTIONS = 16
REQUESTS = 16_000
TARGET = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net"
FIRST_RESPONSE = f"""
import time
started = time.perf_counter()
import socket
from imds_identity.emulator import Emulator
with Emulator() as emulator:
    host, port = emulator.endpoint.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)))
    client.sendall(b"GET {TARGET} HTTP/1.1\\r\\nHost: a.localhost\\r\\nMetadata: true\\r\\n\\r\\n")
    assert client.recv(65536).startswith(b"HTTP/1.1 200")
    print(time.perf_counter() - started)
"""
# The client is a separate process, so that the emulator has a core to itself.
CLIENT = f"""
import socket, sys, time
address = ("127.0.0.1", int(sys.argv[1]))
request = b"GET {TARGET} HTTP/1.1\\r\\nHost: a.localhost\\r\\nMetadata: true\\r\\n\\r\\n"
clients = [socket.create_connection(address) for _ in range({CONNECTIONS})]
clients[0].sendall(request)
size = len(clients[0].recv(65536))
started = time.perf_counter()
for _ in range({REQUESTS // CONNECTIONS}):
    for client in clients:
        client.sendall(request)
    for client in clients:
        left = size
        while left > 0:
            left -= len(client.recv(65536))
print({REQUESTS} / (time.perf_counter() - started))
"""


def run_script(*command: str) -> float:
    """Run a Python script; return the number that it prints."""
    return float(subprocess.check_output([sys.executable, "-c", *command], text=True))


def run() -> None:
    """Compare with the required 0.3 seconds and 5,000 requests per second."""
    first_response = min(run_script(FIRST_RESPONSE) for _ in range(ROUNDS))
    compare("emulator, start to first response", first_response, 0.3, "s", 1.0, "requirement")
    with Emulator(key_vault=False) as emulator:
        port = emulator.endpoint.rpartition(":")[2]
        rate = run_script(CLIENT, port)
    compare("emulator, one token request", 1e3 / rate, 1e3 / 5000, "ms", 1.0, "requirement")
