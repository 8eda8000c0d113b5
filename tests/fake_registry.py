"""A stub of Azure Container Registry with one image; the emulator exchanges tokens for it.

https://distribution.github.io/distribution/spec/auth/token/
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import json
import ssl
import tarfile
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import jwt

from fake_sites import Proxy, serve
from imds_identity.emulator._pki.certificates import Authority, pem, server_context
from support import QuietHandler

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imds_identity.emulator import Emulator

REGISTRY = "my-registry.azurecr.io"
OTHER = "registry.example"
IMAGE = "my-image:1"
_USER = "00000000-0000-0000-0000-000000000000"
_ACCESS_TOKEN = "an-access-token-of-the-registry"


class FakeRegistry(ThreadingHTTPServer):
    """Serves an image to clients with a current refresh token, under two names.

    Attributes:
        environment: the variables of programs that connect to it.
        refresh_tokens: each refresh token that a client presented and that was accepted.
        refused: user name and password of all other attempts to sign in.
        pulled: the paths of requests for the image.
    """

    def __init__(self, emulator: Emulator) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.emulator = emulator
        self.environment: dict[str, str] = {}
        self.refresh_tokens: list[str] = []
        self.refused: list[str] = []
        self.pulled: list[str] = []
        self.image = _image()

    @classmethod
    @contextlib.contextmanager
    def running(cls, emulator: Emulator, folder: Path) -> Iterator[FakeRegistry]:
        """Run the server and a proxy to it; the emulator must allow the host `REGISTRY`."""
        bundle, authority = folder / "bundle.pem", Authority("fake registry")
        bundle.write_bytes(pem(authority.certificate))
        with contextlib.ExitStack() as stack:
            server = cls(emulator)
            names = (REGISTRY, OTHER)
            context = server_context(authority, folder, "127.0.0.1", names)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            proxy = serve(stack, Proxy(dict.fromkeys(names, serve(stack, server))))
            server.environment = {
                **emulator.environment(),
                **dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), str(bundle)),
                "HTTPS_PROXY": f"http://127.0.0.1:{proxy}",
                "NO_PROXY": "127.0.0.1",
                "IMDS_IDENTITY_CACHE": str(folder / "cache"),
            }
            yield server

    def exchange(self, form: bytes) -> bytes:
        """Let the emulator exchange a token."""
        vault = self.emulator.key_vault
        request = urllib.request.Request(f"{vault.url}/oauth2/exchange", form, {"Host": REGISTRY})
        context = ssl.create_default_context(cafile=vault.ca_file)
        handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
        with urllib.request.build_opener(*handlers).open(request, timeout=20) as response:
            return bytes(response.read())

    def accepts(self, user: str, password: str) -> bool:
        """Check and record a refresh token."""
        try:
            jwt.decode(
                password,
                audience=REGISTRY,
                options={"verify_signature": False, "verify_exp": True, "verify_aud": True},
            )
        except jwt.InvalidTokenError:
            self.refused.append(f"{user}:{password}")
            return False
        self.refresh_tokens.append(password)
        return user == _USER


class _Handler(QuietHandler, BaseHTTPRequestHandler):
    server: FakeRegistry

    def do_GET(self) -> None:
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        url = urlsplit(self.path)
        if url.path == "/oauth2/token":
            self._sign_in(*base64.b64decode(value).decode().partition(":")[::2])
        elif (scheme, value) != ("Bearer", _ACCESS_TOKEN):
            host = self.headers["Host"].partition(":")[0]
            challenge = f'Bearer realm="https://{host}/oauth2/token",service="{host}"'
            self.respond(401, headers={"WWW-Authenticate": challenge})
        elif url.path == "/v2/":
            self.respond(200, b"{}")
        else:
            self.server.pulled.append(url.path)
            content, kind = self.server.image[url.path.rpartition("/")[2]]
            self.respond(200, content, kind)

    do_HEAD = do_GET  # noqa: N815 - the base class's name

    def do_POST(self) -> None:
        form = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/oauth2/exchange":
            self.respond(200, self.server.exchange(form))
        else:
            self._sign_in("", parse_qs(form.decode()).get("refresh_token", [""])[0])

    def _sign_in(self, user: str, password: str) -> None:
        if self.server.accepts(user, password):
            self.respond(200, json.dumps({"access_token": _ACCESS_TOKEN}).encode())
        else:
            self.respond(401)


def _image() -> dict[str, tuple[bytes, str]]:
    """Return content and type of each part of an image by its reference."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("hello"))
    layer = tar.getvalue()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    parts = {}

    def add(content: bytes, kind: str) -> dict[str, object]:
        parts[_digest(content)] = content, kind
        return {"mediaType": kind, "digest": _digest(content), "size": len(content)}

    docker = "application/vnd.docker"
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{docker}.distribution.manifest.v2+json",
        "config": add(json.dumps(config).encode(), f"{docker}.container.image.v1+json"),
        "layers": [add(gzip.compress(layer, mtime=0), f"{docker}.image.rootfs.diff.tar.gzip")],
    }
    content = json.dumps(manifest).encode()
    parts[IMAGE.partition(":")[2]] = parts[_digest(content)] = content, str(manifest["mediaType"])
    return parts


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
