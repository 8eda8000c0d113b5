"""Azure's services, as far as documented code asks them, and the proxy that leads to them."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import jwt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TENANT = "https://login.windows.net/b7a2c51c-9d5e-4d0c-8a6a-5cf9a0c64fd1"


class Site(NamedTuple):
    """One of Azure's services: whose tokens it takes, and what it says to all who bring one.

    What it says may depend on the path: then it is a dict by paths.
    """

    audience: str
    answer: Any


SITES = {
    "management.azure.com": Site(
        "https://management.azure.com",
        {"value": [{"subscriptionId": "5a7e", "displayName": "Production"}]},
    ),
    "my-resource.openai.azure.com": Site(
        "https://cognitiveservices.azure.com",
        {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello."}}]},
    ),
    "my-cluster.hcp.westeurope.azmk8s.io": Site(
        "6dae42f8-4368-4678-94ff-3960e28e3630",
        {
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
            "/api/v1": {
                "kind": "APIResourceList",
                "groupVersion": "v1",
                "resources": [
                    {"name": "nodes", "kind": "Node", "namespaced": False, "verbs": ["list"]}
                ],
            },
            "/api/v1/nodes": {
                "kind": "NodeList",
                "apiVersion": "v1",
                "items": [{"kind": "Node", "apiVersion": "v1", "metadata": {"name": "node-1"}}],
            },
        },
    ),
    "account.blob.core.windows.net": Site("https://storage.azure.com", {}),
}


def started(stack: contextlib.ExitStack, server: ThreadingHTTPServer) -> int:
    """Let a server serve until the stack is closed; its port."""
    stack.callback(server.server_close)
    threading.Thread(target=server.serve_forever, args=(0.01,)).start()
    stack.callback(server.shutdown)
    return server.server_address[1]


class Proxy(ThreadingHTTPServer):
    """Leads connections to names to ports of this machine."""

    daemon_threads = True

    def __init__(self, ports: Mapping[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.ports = ports


class _Tunnel(BaseHTTPRequestHandler):
    """What a proxy does for CONNECT (RFC 9110, section 9.3.6)."""

    def do_CONNECT(self) -> None:
        ports = cast("Proxy", self.server).ports
        name = self.path.partition(":")[0]
        if name not in ports:
            self.send_error(502, f"{name} is not in this world")
            return
        self.send_response(200)
        self.end_headers()
        with socket.create_connection(("127.0.0.1", ports[name])) as service:
            back = threading.Thread(target=_copy, args=(service, self.connection), daemon=True)
            back.start()
            _copy(self.connection, service)
            back.join()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


class Sites(ThreadingHTTPServer):
    """All of `SITES`, told apart by the Host field.

    Attributes:
        on_request: called with the token of each request, while its sender waits.
        granted: method, host and path of each request that had a token for the service.
        refused: those of the others.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.on_request: Callable[[str], object] = lambda _: None
        self.granted: list[tuple[str, str, str]] = []
        self.refused: list[tuple[str, str, str]] = []


class _Answer(BaseHTTPRequestHandler):
    """Answers whoever brings a token for the very service that it asks."""

    def do_GET(self) -> None:
        server = cast("Sites", self.server)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        host = self.headers["Host"].partition(":")[0]
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        server.on_request(token)
        granted = scheme == "Bearer" and _audience(token) == SITES[host].audience
        (server.granted if granted else server.refused).append((self.command, host, self.path))
        answer = SITES[host].answer
        answer = answer.get(self.path.partition("?")[0], answer)
        body = json.dumps(answer).encode() if granted else b""
        self.send_response(200 if granted else 401)
        if not granted:
            self.send_header("WWW-Authenticate", f'Bearer authorization_uri="{TENANT}"')
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 - the base class's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def _audience(token: str) -> str | None:
    try:
        audience = jwt.decode(token, options={"verify_signature": False})["aud"]
    except jwt.InvalidTokenError:
        return None
    return str(audience).rstrip("/")  # as Azure's services take it
