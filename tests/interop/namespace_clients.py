"""Run in a network namespace: the emulator at 169.254.169.254, and a client without configuration.

Prints the requests of the client and their statuses. The host names of storage accounts do not
resolve here, so storage clients fail after they have their token.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from imds_identity.emulator import Emulator

TIMEOUT_SECONDS = 120


class Storage(BaseHTTPRequestHandler):
    """An empty storage account, for clients with a configurable endpoint."""

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815 - http.server's names

    def log_message(self, *args: object) -> None:
        del args


def main() -> None:
    storage = ThreadingHTTPServer(("127.0.0.1", 0), Storage)
    threading.Thread(target=storage.serve_forever, daemon=True).start()
    environment = {
        name: value for name, value in os.environ.items() if not name.lower().endswith("proxy")
    }
    environment["STORAGE"] = f"http://127.0.0.1:{storage.server_port}"
    with Emulator(
        host="169.254.169.254",
        port=80,
        allow_remote=True,
        key_vault=False,
        limits=True,
        resources=["https://iam.googleapis.example"],
    ) as emulator:
        done = subprocess.run(
            sys.argv[1:],
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_SECONDS,
            env=environment,
        )
        requests = [(record.status, record.category) for record in emulator.requests]
    print(
        json.dumps(
            {
                "status": done.returncode,
                "output": done.stdout + done.stderr,
                "requests": requests,
            }
        )
    )


if __name__ == "__main__":
    main()
