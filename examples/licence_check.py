"""A server that gives licences to the Azure VMs of its customers, which prove who they are.

    python examples/licence_check.py http://licences.example.com:8000

asks as a customer's VM. The server hands out a nonce, the VM has Azure sign it together with the
VM's id and subscription, and the server believes Azure's signature and nothing else that it is
sent. It needs no account in Azure, and the VM no secret.
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
LARGEST = 64 * 1024


class LicenceServer(ThreadingHTTPServer):
    """Gives licences to VMs of certain subscriptions.

    Args:
        port: to listen on; 0 is any.
        customers: the ids of their subscriptions.
        options: go to `verify_attested_document`.
    """

    def __init__(self, port: int, customers: Collection[str], **options: Any) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.customers = customers
        self.options = options
        self._nonces: dict[str, float] = {}

    def new_nonce(self) -> str:
        """A nonce that is good for one request, for two minutes."""
        now = time.monotonic()
        self._nonces = {nonce: end for nonce, end in self._nonces.items() if end > now}
        nonce = "".join(secrets.choice("0123456789") for _ in range(10))
        self._nonces[nonce] = now + NONCE_SECONDS
        return nonce

    def licence(self, nonce: str, signature: str) -> dict[str, Any]:
        """A licence for the VM that has proven itself.

        Raises:
            PermissionError: if it has not, or is no customer's.
        """
        if self._nonces.pop(nonce, 0.0) < time.monotonic():
            raise PermissionError("the nonce was not given out, or is used or too old")
        try:
            proof = verify_attested_document(signature, nonce=nonce, **self.options)
        except AttestedDocumentError as error:
            raise PermissionError(str(error)) from None
        if proof.subscription_id not in self.customers:
            raise PermissionError(f"subscription {proof.subscription_id} is no customer's")
        return {"vm": proof.vm_id, "until": proof.expires_on.isoformat()}


class _Handler(BaseHTTPRequestHandler):
    server: LicenceServer

    def do_GET(self) -> None:
        self._answer(200, {"nonce": self.server.new_nonce()})

    def do_POST(self) -> None:
        try:
            length = min(max(int(self.headers.get("Content-Length") or 0), 0), LARGEST)
            said = json.loads(self.rfile.read(length))
            self._answer(200, self.server.licence(str(said["nonce"]), str(said["signature"])))
        except PermissionError as error:
            self._answer(403, {"error": str(error)})
        except (ValueError, KeyError, TypeError):
            self._answer(400, {"error": "a JSON object with nonce and signature was due"})

    def _answer(self, status: int, said: dict[str, Any]) -> None:
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing is logged here."""


def fetch_licence(server: str, client: MetadataClient) -> dict[str, Any]:
    """What the VM does: asks for a nonce, has it signed, and sends that for a licence."""
    nonce = requests.get(server, timeout=30).json()["nonce"]
    proof = {"nonce": nonce, "signature": client.attested_signature(nonce=nonce)}
    answer = requests.post(server, json=proof, timeout=30)
    if answer.status_code != 200:
        raise PermissionError(answer.json()["error"])
    licence: dict[str, Any] = answer.json()
    return licence


if __name__ == "__main__":
    print(fetch_licence(sys.argv[1], MetadataClient()))
