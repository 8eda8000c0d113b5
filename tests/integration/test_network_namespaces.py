"""One process in two network namespaces: the same address is another service in each of them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has network namespaces")

SCRIPT = """
import asyncio, ctypes, fcntl, http.server, json, os, socket, struct, sys, threading, time

def serve(token, port=0):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(token)
            expires = str(int(time.time()) + 86400)
            body = {"access_token": token, "expires_in": "86400", "expires_on": expires,
                    "resource": "r", "token_type": "Bearer"}
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]

def enter_new_network():
    if ctypes.CDLL(None, use_errno=True).unshare(0x40000000):
        sys.exit("skip")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh22x", b"lo", 1))

requests = []
port = serve("home")
os.environ["AZURE_POD_IDENTITY_AUTHORITY_HOST"] = f"http://127.0.0.1:{port}"
import imds_identity, imds_identity.aio
SCOPE = "https://vault.azure.net/.default"

def get(credential):
    return credential.get_token(SCOPE).token

async def get_async():
    return (await imds_identity.aio.ManagedIdentityCredential().get_token(SCOPE)).token

def everything():
    return [get(first), get(imds_identity.ManagedIdentityCredential()), asyncio.run(get_async())]

def elsewhere():
    enter_new_network()
    serve("elsewhere", port)
    created.append(imds_identity.ManagedIdentityCredential())
    print(get(created[0]), *everything())

first, created = imds_identity.ManagedIdentityCredential(), []
print(get(first))
thread = threading.Thread(target=elsewhere)
thread.start()
thread.join()
print(get(created[0]), *everything())
print(*requests)
"""


@pytest.mark.parametrize("cache", ["off", "shared"])
def test_thread_in_another_network_gets_the_token_of_its_own_service(
    tmp_path: Path, cache: str
) -> None:
    directory = cache if cache == "off" else str(tmp_path / "shared")
    done = subprocess.run(
        ["unshare", "-r", sys.executable, "-c", SCRIPT],
        env={**os.environ, "IMDS_IDENTITY_CACHE": directory},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if done.stderr.startswith(("unshare", "skip")):
        pytest.skip("cannot create a network namespace")
    assert done.stdout.splitlines() == [
        "home",
        "elsewhere elsewhere elsewhere elsewhere",
        "home home home home",
        "home elsewhere",
    ], done.stderr
