"""Run in a network namespace with a bridge, and a guest that can reach only the bridge."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from imds_identity.emulator import Emulator

SECRET = "a-secret-of-the-bridge-0123456789abcdef"
VAULT = "https://vault.azure.net"
GUEST_SCRIPT = f"""
import sys, urllib.error, urllib.request
def send(url, host=None):
    headers = {{"X-IDENTITY-HEADER": "{SECRET}"}}
    if host: headers["Host"] = host
    url += "?api-version=2019-08-01&resource={VAULT}"
    request = urllib.request.Request(url, headers=headers)
    try:
        return urllib.request.urlopen(request, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.status
    except OSError:
        return "unreachable"
port = sys.argv[1]
print(send(f"http://10.9.8.1:{{port}}/msi/token"))
print(send(f"http://10.9.8.1:{{port}}/msi/token", f"tokens.internal:{{port}}"))
print(send(f"http://10.9.8.1:{{port}}/msi/token", f"rebound.example:{{port}}"))
print(send(sys.argv[2]))
"""


def main() -> None:
    directory = Path(sys.argv[1])
    secret = directory / "secret"
    secret.touch(0o600)
    secret.write_text(SECRET)
    guest = subprocess.Popen(["unshare", "-n", "sleep", "100"])
    with Emulator() as emulator:
        server = subprocess.Popen(
            [sys.executable, "-m", "imds_identity", "serve", "--bind", "10.9.8.1",
             "--allow-resource", VAULT, "--allow-host", "tokens.internal",
             "--secret-file", str(secret)],
            env={**os.environ, **emulator.environment()}, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert server.stderr is not None
            port = server.stderr.readline().strip().rpartition(":")[2]
            _connect(guest.pid)
            subprocess.run(
                ["nsenter", "-t", str(guest.pid), "-n", sys.executable, "-c", GUEST_SCRIPT, port,
                 emulator.endpoint],
                check=True,
            )  # fmt: skip
            print(len(emulator.token_requests))
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=30)
            guest.kill()
            guest.wait()


def _connect(guest: int) -> None:
    """Connect the guest to the bridge."""
    in_guest = f"nsenter -t {guest} -n ip"
    for command in (
        f"ip link add host0 type veth peer name guest0 netns {guest}",
        "ip link set host0 master bridge0 up",
        f"{in_guest} address add 10.9.8.2/24 dev guest0",
        f"{in_guest} link set guest0 up",
    ):
        subprocess.run(command.split(), check=True)


if __name__ == "__main__":
    main()
