"""Fakes of the Azure services that documented code calls, and a proxy to them."""

from __future__ import annotations

import contextlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, cast

import jwt

from fake_clouds import OTHER_CLOUDS, PUBLIC_PATHS, Site, presented_token, response_with
from support import QuietHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TENANT = "https://login.windows.net/b7a2c51c-9d5e-4d0c-8a6a-5cf9a0c64fd1"


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
    **OTHER_CLOUDS,
}


def serve(stack: contextlib.ExitStack, server: ThreadingHTTPServer) -> int:
    """Run a server until the stack is closed; return its port."""
    stack.callback(server.server_close)
    threading.Thread(target=server.serve_forever, args=(0.01,)).start()
    stack.callback(server.shutdown)
    return server.server_address[1]


class Proxy(ThreadingHTTPServer):
    """A proxy that connects host names to local ports."""

    daemon_threads = True

    def __init__(self, ports: Mapping[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _TunnelHandler)
        self.ports = ports


class _TunnelHandler(QuietHandler, BaseHTTPRequestHandler):
    """Handles CONNECT (RFC 9110, section 9.3.6)."""

    def do_CONNECT(self) -> None:
        ports = cast("Proxy", self.server).ports
        name = self.path.partition(":")[0]
        if name not in ports:
            self.send_error(502, f"{name} is not faked")
            return
        self.send_response(200)
        self.end_headers()
        with socket.create_connection(("127.0.0.1", ports[name])) as service:
            reverse = threading.Thread(target=_copy, args=(service, self.connection), daemon=True)
            reverse.start()
            _copy(self.connection, service)
            reverse.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


class Sites(ThreadingHTTPServer):
    """Serves all of `SITES`; the Host header selects one.

    Attributes:
        on_request: called with the token of each request before the response.
        authorized: method, host and path of each request with a token for the service.
        unauthorized: method, host and path of all other requests.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _SiteHandler)
        self.on_request: Callable[[str], object] = lambda _: None
        self.authorized: list[tuple[str, str, str]] = []
        self.unauthorized: list[tuple[str, str, str]] = []


class _SiteHandler(QuietHandler, BaseHTTPRequestHandler):
    """Returns the site's response to requests with a token for that site."""

    def do_GET(self) -> None:
        server = cast("Sites", self.server)
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        host, path = self.headers["Host"].partition(":")[0], self.path.partition("?")[0]
        token = presented_token(self.headers, sent)
        server.on_request(token)
        if path not in PUBLIC_PATHS and _audience(token) != SITES[host].audience:
            server.unauthorized.append((self.command, host, self.path))
            challenge = {"WWW-Authenticate": f'Bearer authorization_uri="{TENANT}"'}
            self.respond(401, headers=challenge)
            return
        server.authorized.append((self.command, host, self.path))
        response = SITES[host].body
        response = response.get(path, response) if isinstance(response, dict) else response
        self.respond(200, *response_with(token, response))

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 - the base class's names


def _audience(token: str) -> str | None:
    """Return the audience of a token that has not expired."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False, "verify_exp": True})
    except jwt.InvalidTokenError:
        return None
    return str(claims["aud"]).rstrip("/")  # Azure's services accept both forms
