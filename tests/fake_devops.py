"""A fake of Azure Repos and Azure Artifacts: files for requests with an emulator's token."""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from fake_sites import Proxy, serve
from imds_identity.emulator._pki.certificates import Authority, pem, server_context
from imds_identity.metadata._services import AZURE_DEVOPS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imds_identity.emulator import Emulator

HOSTS = ("dev.azure.com", "pkgs.dev.azure.com")


class FakeDevOps(ThreadingHTTPServer):
    """Serves the files of a folder.

    Attributes:
        environment: the variables of programs that connect to it.
        accepted: scheme and user name of each request with a current token.
        refused: the number of other requests.
        uploaded: the bodies of POST requests.
    """

    def __init__(self, emulator: Emulator, files: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(files)))
        self.emulator = emulator
        self.environment: dict[str, str] = {}
        self.accepted: list[tuple[str, str]] = []
        self.refused = 0
        self.uploaded: list[bytes] = []

    @classmethod
    @contextlib.contextmanager
    def running(cls, emulator: Emulator, folder: Path) -> Iterator[FakeDevOps]:
        """Run the server and a proxy to it; ``folder/files`` has the files."""
        (folder / "files").mkdir(exist_ok=True)
        bundle, authority = folder / "bundle.pem", Authority("fake Azure DevOps")
        bundle.write_bytes(pem(authority.certificate))
        with contextlib.ExitStack() as stack:
            server = cls(emulator, folder / "files")
            context = server_context(authority, folder, "127.0.0.1", HOSTS)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            proxy = serve(stack, Proxy(dict.fromkeys(HOSTS, serve(stack, server))))
            server.environment = {
                **emulator.environment(),
                **dict.fromkeys(("HTTPS_PROXY", "https_proxy"), f"http://127.0.0.1:{proxy}"),
                "NO_PROXY": "127.0.0.1",
                **dict.fromkeys(("GIT_SSL_CAINFO", "PIP_CERT", "SSL_CERT_FILE"), str(bundle)),
                "REQUESTS_CA_BUNDLE": str(bundle),
                "IMDS_IDENTITY_CACHE": str(folder / "cache"),
            }
            yield server

    def accepts(self, authorization: str) -> bool:
        """Check and record the Authorization header of a request."""
        scheme, _, value = authorization.partition(" ")
        user, token = "", value
        if scheme == "Basic":
            user, _, token = base64.b64decode(value).decode().partition(":")
        current = [each for each in self.emulator.issued_tokens if each.resource == AZURE_DEVOPS][
            -1:
        ]
        if token and [each.value for each in current] == [token]:
            self.accepted.append((scheme, user))
            return True
        self.refused += 1
        return False


class _Handler(SimpleHTTPRequestHandler):
    server: FakeDevOps

    def do_GET(self) -> None:
        if self._is_authorized():
            if "/info/refs?" in self.path:
                self._run_git(b"")
            else:
                super().do_GET()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self._is_authorized():
            if self.path.endswith("/git-upload-pack"):
                self._run_git(body)
            else:
                self.server.uploaded.append(body)
                self._respond(200)

    def _run_git(self, body: bytes) -> None:
        """Respond as git's CGI program does; it prints the header fields and the content."""
        path, _, query = self.path.partition("?")
        variables = {
            "CONTENT_LENGTH": str(len(body)),
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROJECT_ROOT": self.directory,
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
        }
        done = subprocess.run(
            ["git", "http-backend"], input=body, env={**os.environ, **variables},
            capture_output=True, check=True,
        )  # fmt: skip
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = [line.partition(": ")[::2] for line in head.decode().split("\r\n")]
        self._respond(200, dict(fields), content)

    def _is_authorized(self) -> bool:
        if self.server.accepts(self.headers.get("Authorization", "")):
            return True
        self._respond(401, {"WWW-Authenticate": 'Basic realm="https://devops.example/"'})
        return False

    def _respond(
        self, status: int, fields: dict[str, str] | None = None, content: bytes = b""
    ) -> None:
        self.send_response(status)
        for name, value in {**(fields or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass
