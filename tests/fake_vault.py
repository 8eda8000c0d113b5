"""A stub of HashiCorp Vault over TLS."""

from __future__ import annotations

import contextlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from fake_sites import serve
from imds_identity.emulator._pki.certificates import Authority, pem, server_context
from support import QuietHandler

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message
    from pathlib import Path

VAULT_TOKEN = "hvs.a-token-of-vault"
AUTH = {"client_token": VAULT_TOKEN, "lease_duration": 3600, "policies": ["default"]}


class FakeVault(ThreadingHTTPServer):
    """Responds to each login in the same way.

    Attributes:
        status: the status of the responses.
        body: their body.
        location: their Location header, if they have one.
        echoes: whether they contain the request's body, too.
        logins: path, header fields and parameters of each login.
        environment: the variables of Vault's clients.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.body: Any = {"auth": AUTH}
        self.location = ""
        self.echoes = False
        self.logins: list[tuple[str, Message, dict[str, str]]] = []
        self.environment: dict[str, str] = {}

    @classmethod
    @contextlib.contextmanager
    def running(cls, folder: Path) -> Iterator[FakeVault]:
        """Run the server; ``folder`` gets its certificate."""
        authority, certificates = Authority("fake Vault"), folder / "vault.pem"
        certificates.write_bytes(pem(authority.certificate))
        with contextlib.ExitStack() as stack:
            vault = cls()
            context = server_context(authority, folder, "127.0.0.1")
            vault.socket = context.wrap_socket(vault.socket, server_side=True)
            vault.environment = {
                "VAULT_ADDR": f"https://127.0.0.1:{serve(stack, vault)}",
                "VAULT_CACERT": str(certificates),
            }
            yield vault

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that do not trust the certificate."""


class _Handler(QuietHandler, BaseHTTPRequestHandler):
    server: FakeVault

    def do_POST(self) -> None:
        vault = self.server
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        vault.logins.append((self.path, self.headers, json.loads(sent)))
        body = json.dumps(vault.body).encode() + (sent if vault.echoes else b"")
        headers = {"Location": vault.location} if vault.location else {}
        self.respond(vault.status, body, headers=headers)
