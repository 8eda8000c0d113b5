"""A server that issues licenses to the Azure VMs of its customers, which prove their identity.

    python examples/license_check.py http://licenses.example.com:8000

requests a license as a customer's VM. The server creates a nonce. Azure signs the nonce with the ID
and the subscription of the VM, and the server verifies the signature. The server needs no account
in Azure, and the VM needs no secret.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import requests

from imds_identity.metadata import (
    AttestedDocumentError,
    MetadataClient,
    verify_attested_document,
)

if TYPE_CHECKING:
    from collections.abc import Collection

NONCE_SECONDS = 120.0
MAX_BODY = 64 * 1024


class LicenseServer(ThreadingHTTPServer):
    """Issues licenses to VMs of certain subscriptions.

    Args:
        port: the port to listen on; 0 for any.
        customers: the IDs of their subscriptions.
        options: passed to `verify_attested_document`.
    """

    def __init__(self, port: int, customers: Collection[str], **options: Any) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.customers = customers
        self.options = options
        self._nonces: dict[str, float] = {}

    def new_nonce(self) -> str:
        """Return a nonce for one request within two minutes."""
        now = time.monotonic()
        self._nonces = {nonce: end for nonce, end in self._nonces.items() if end > now}
        nonce = "".join(secrets.choice("0123456789") for _ in range(10))
        self._nonces[nonce] = now + NONCE_SECONDS
        return nonce

    def license(self, nonce: str, signature: str) -> dict[str, Any]:
        """Return a license for the VM that sent the proof.

        Raises:
            PermissionError: if the proof is not valid, or the VM does not belong to a customer.
        """
        if self._nonces.pop(nonce, 0.0) < time.monotonic():
            raise PermissionError("the nonce is unknown, already used, or expired")
        try:
            proof = verify_attested_document(signature, nonce=nonce, **self.options)
        except AttestedDocumentError as error:
            raise PermissionError(str(error)) from None
        if proof.subscription_id not in self.customers:
            raise PermissionError(f"subscription {proof.subscription_id} is not a customer")
        return {"vm": proof.vm_id, "until": proof.expires_on and proof.expires_on.isoformat()}


class _Handler(BaseHTTPRequestHandler):
    server: LicenseServer

    def do_GET(self) -> None:
        self._respond(200, {"nonce": self.server.new_nonce()})

    def do_POST(self) -> None:
        try:
            length = min(max(int(self.headers.get("Content-Length") or 0), 0), MAX_BODY)
            proof = json.loads(self.rfile.read(length))
            self._respond(200, self.server.license(str(proof["nonce"]), str(proof["signature"])))
        except PermissionError as error:
            self._respond(403, {"error": str(error)})
        except (ValueError, KeyError, TypeError):
            self._respond(400, {"error": "expected a JSON object with nonce and signature"})

    def _respond(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing."""


def fetch_license(server: str, client: MetadataClient) -> dict[str, Any]:
    """Request a license for this VM: fetch a nonce, have Azure sign it, and send the proof."""
    nonce = requests.get(server, timeout=30).json()["nonce"]
    proof = {"nonce": nonce, "signature": client.attested_signature(nonce=nonce)}
    response = requests.post(server, json=proof, timeout=30)
    if response.status_code != 200:
        raise PermissionError(response.json()["error"])
    issued: dict[str, Any] = response.json()
    return issued


if __name__ == "__main__":
    print(fetch_license(sys.argv[1], MetadataClient()))
