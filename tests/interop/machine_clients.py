"""Run in a network namespace: the service at its own address, and one client that knows no other.

Prints what the client asked for, and how that was answered. Storage accounts have no name here, so
clients of storage get their token and no further.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from imds_identity.emulator import Emulator

PATIENCE_SECONDS = 120


class Storage(BaseHTTPRequestHandler):
    """A storage account that has nothing, for clients that can be told where theirs is."""

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815 - http.server's names

    def log_message(self, *words: object) -> None:
        del words


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
            timeout=PATIENCE_SECONDS,
            env=environment,
        )
        asked = [(record.status, record.category) for record in emulator.requests]
    print(
        json.dumps({"status": done.returncode, "said": done.stdout + done.stderr, "asked": asked})
    )


if __name__ == "__main__":
    main()
