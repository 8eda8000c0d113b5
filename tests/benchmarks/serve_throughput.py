"""The throughput of ``serve``, compared with a server that only parses HTTP with h11."""

from __future__ import annotations

import os
import re
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from figures import compare

from imds_identity.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENTS = 50
REQUESTS = 4000
ROUNDS = 5
BARE = "bare h11"
# It serves one request per connection and sends as many bytes as `serve` does.
BARE_SERVER = """
import selectors, socket, sys
import h11

listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
listener.setblocking(False)
selector = selectors.DefaultSelector()
selector.register(listener, selectors.EVENT_READ)
body = b"x" * int(sys.argv[1])
headers = [("Content-Type", "application/json; charset=utf-8"), ("Content-Length", str(len(body))),
           ("Connection", "close")]

def accept():
    peer, _ = listener.accept()
    peer.setblocking(False)
    selector.register(peer, selectors.EVENT_READ, h11.Connection(h11.SERVER))

def respond(peer, http):
    http.receive_data(peer.recv(16384))
    if isinstance(http.next_event(), h11.Request):
        head = h11.Response(status_code=200, headers=headers)
        parts = (head, h11.Data(data=body), h11.EndOfMessage())
        peer.sendall(b"".join(http.send(part) or b"" for part in parts))
        selector.unregister(peer)
        peer.close()

print("port", listener.getsockname()[1], flush=True)
while True:
    for key, _ in selector.select():
        respond(key.fileobj, key.data) if key.data else accept()
"""


def run() -> None:
    """Compare the time per request, and the latency that one percent of requests exceed."""
    with Emulator() as emulator, tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        env_file = Path(folder) / "env"
        environment = {**os.environ, **emulator.environment()}
        environment["IMDS_IDENTITY_CACHE"] = str(Path(folder) / "cache")
        serve = ("-m", "imds_identity", "serve", "--env-file", str(env_file))
        with _running(serve, environment) as port:
            variables = dict(line.split("=", 1) for line in env_file.read_text().splitlines())
            request = _request(port, variables["IDENTITY_HEADER"])
            body = _exchange(port, request).partition(b"\r\n\r\n")[2]
            with _running(("-c", BARE_SERVER, str(len(body))), environment) as bare_port:
                ports = (port, bare_port)
                rounds = [[_load(each, request) for each in ports] for _ in range(ROUNDS)]
    for name, index, target in (("time per request", 0, 2.5), ("latency, 99th percentile", 1, 5.0)):
        ours, bare = (min(each[side][index] for each in rounds) * 1e3 for side in (0, 1))
        compare(f"serve with {CLIENTS} clients, {name}", ours, bare, "ms", target, BARE)


@contextmanager
def _running(arguments: tuple[str, ...], environment: dict[str, str]) -> Iterator[int]:
    """Run a server; yield the port that its first line of output names."""
    with subprocess.Popen(
        [sys.executable, *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            found = re.search(r"(\d+)$", process.stdout.readline())
            assert found
            yield int(found[1])
        finally:
            process.terminate()


def _request(port: int, secret: str) -> bytes:
    lines = (
        "GET /msi/token?api-version=2019-08-01&resource=https%3A%2F%2Fvault.azure.net HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "User-Agent: azsdk-python-identity/1.25.0 Python/3.11.7",
        "Accept-Encoding: gzip, deflate",
        "Accept: */*",
        f"X-IDENTITY-HEADER: {secret}",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def _exchange(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def _load(port: int, request: bytes) -> tuple[float, float]:
    """Return the seconds per request of concurrent clients, and the 99th percentile of a request.

    The clients read without parsing, so that the server takes most of the time.
    """
    selector = selectors.DefaultSelector()
    latencies: list[float] = []

    def connect() -> None:
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(request)
        selector.register(client, selectors.EVENT_READ, [time.perf_counter(), b""])

    begun = time.perf_counter()
    for _ in range(CLIENTS):
        connect()
    while selector.get_map():
        for key, _ in selector.select():
            client: socket.socket = key.fileobj  # type: ignore[assignment]
            data = client.recv(65536)
            key.data[1] = key.data[1] or data[:12]
            if data:
                continue
            assert key.data[1] == b"HTTP/1.1 200", key.data[1]
            latencies.append(time.perf_counter() - key.data[0])
            selector.unregister(client)
            client.close()
            if len(latencies) + len(selector.get_map()) < REQUESTS:
                connect()
    seconds = time.perf_counter() - begun
    return seconds / REQUESTS, sorted(latencies)[int(len(latencies) * 0.99)]
