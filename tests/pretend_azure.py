"""A world in which documented code runs as it is written, though Azure is not there.

The names of Azure's services lead to servers of this machine, over TLS that its programs trust;
the metadata service is the emulator; and programs that are not installed have stand-ins.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jwt

from imds_identity.emulator import Emulator
from imds_identity.emulator._pki.certificates import Authority, pem, server_context

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from typing_extensions import Self

VAULT = "my-vault.vault.azure.net"
SECRETS = {
    "db-password": "p4ss", "db": "p4ss", "greeting": "hello", "tls-key": "k3y",
    "settings": '{"app": {"password": "p4ss"}}',
}  # fmt: skip


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

# What runs until somebody stops it is stopped once it has said that it serves.
_IMDS_IDENTITY = """#!{python}
import subprocess, sys
command = [sys.executable, "-m", "imds_identity", *sys.argv[1:]]
if sys.argv[1] not in ("serve", "emulator") or {{"--print-env", "--help"}} & {{*sys.argv}}:
    sys.exit(subprocess.run(command).returncode)
with subprocess.Popen(command, stderr=subprocess.PIPE) as serving:
    said = serving.stderr.readline()
    serving.terminate()
    said += serving.stderr.read()
sys.stderr.buffer.write(said)
sys.exit(0 if serving.returncode in (0, -15, 143) else 1)
"""

# What is installed already is not installed again, but an extra must be one that there is.
_PIP = """#!{python}
import re, sys
from importlib.metadata import metadata
extras = {{*metadata("imds-identity").get_all("Provides-Extra")}}
for given in sys.argv[2:]:
    named = re.fullmatch(r"imds-identity(?:\\[(.*)\\])?", given)
    if named and not {{*filter(None, (named[1] or "").split(","))}} <= extras:
        sys.exit(f"there is no {{given}}")
"""

# The interpreter of the tests, by the name that pages call it.
_PYTHON = """#!/bin/sh
exec {python} "$@"
"""

# A driver whose database looks at the token and at nothing else.
_PYODBC = """
import base64, json, struct

class Connection:
    def __init__(self, text, attrs_before):
        packed = attrs_before[1256]
        size, = struct.unpack("<I", packed[:4])
        assert len(packed) == 4 + size, "the length is wrong"
        claims = packed[4:].decode("utf-16-le").split(".")[1]
        self.claims = json.loads(base64.urlsafe_b64decode(claims + "=="))
        assert self.claims["aud"] == "https://database.windows.net", self.claims
        forbidden = ("uid=", "pwd=", "authentication=", "trusted_connection=")
        assert not any(word in text.lower() for word in forbidden), text

    __enter__ = lambda self: self
    __exit__ = lambda self, *_: None
    execute = lambda self, _: self
    fetchone = lambda self: (self.claims["oid"],)

connect = Connection
"""

# What other programs do with a token endpoint of their own, as App Service documents it.
_STAND_IN = """#!{python}
import json, os, sys, urllib.request
said = {{"argv": [os.path.basename(sys.argv[0]), *sys.argv[1:]], "resource": None}}
said["password"] = os.environ.get("PASSWORD")
if "IDENTITY_ENDPOINT" in os.environ:
    url = os.environ["IDENTITY_ENDPOINT"]
    url += "?api-version=2019-08-01&resource=https://management.azure.com/"
    headers = {{"X-IDENTITY-HEADER": os.environ["IDENTITY_HEADER"]}}
    answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers))
    said["resource"] = json.load(answer)["resource"]
with open({log!r}, "a") as log:
    log.write(json.dumps(said) + "\\n")
"""


class PretendAzure:
    """The world, while it is entered.

    Args:
        directory: an empty one, in which shell commands run.
        stand_ins: names of programs that note in `calls` how they were called.

    Attributes:
        emulator: the metadata service, and the vault.
        environment: the variables of programs that live in this world.
        seen: method, host and path of each request that one of `SITES` has granted.
        refused: those that had no token for the service.
        port_base: of emulators that are started in this world, in place of 16925.
        on_request: called with the token of each such request, while its sender waits.
    """

    def __init__(self, directory: Path, *stand_ins: str) -> None:
        self.seen: list[tuple[str, str, str]] = []
        self.refused: list[tuple[str, str, str]] = []
        self.on_request: Callable[[str], object] = lambda _: None
        self.port_base = _free_ports()
        self._directory = directory
        self._stand_ins = stand_ins
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.emulator = stack.enter_context(Emulator(secrets=SECRETS, allowed_hosts=[VAULT]))
            ports = {VAULT: int(self.emulator.key_vault.url.rpartition(":")[2])}
            ports.update(dict.fromkeys(SITES, self._serve_sites(stack)))
            proxy = _started(stack, _Proxy(ports))
            for name in self._stand_ins:
                self._write_program(name, _STAND_IN)
            self._write_program("imds-identity", _IMDS_IDENTITY)
            self._write_program("pip", _PIP)
            self._write_program("python", _PYTHON)
            (self._directory / "pyodbc.py").write_text(_PYODBC)
            self.environment = {**self.emulator.environment(), **self._variables(proxy)}
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def shell(self, commands: str) -> subprocess.CompletedProcess[str]:
        """Run commands of a shell, until one fails; what they export holds for those of later."""
        kept = 'test ! -f .exported || . ./.exported; trap "export -p > .exported" EXIT'
        return self.run("sh", "-eu", "-c", f"{kept}\n{commands}")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, at most five minutes."""
        return subprocess.run(
            command, cwd=self._directory, env={**os.environ, **self.environment},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a program that runs beside others."""
        return subprocess.Popen(
            command, cwd=self._directory, env={**os.environ, **self.environment},
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    @property
    def calls(self) -> list[dict[str, Any]]:
        """How stand-ins were called: argv, the resource they had a token for, and PASSWORD."""
        log = self._directory / "calls"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def _serve_sites(self, stack: contextlib.ExitStack) -> int:
        authority = Authority("pretend Azure")
        server = _Sites(("127.0.0.1", 0), _Handler)
        context = server_context(authority, self._directory, "127.0.0.1", SITES)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.world = self
        vault = Path(self.emulator.key_vault.ca_file).read_bytes()
        (self._directory / "bundle.pem").write_bytes(vault + pem(authority.certificate))
        return _started(stack, server)

    def _variables(self, proxy: int) -> dict[str, str]:
        here = str(self._directory)
        bundle = f"{here}/bundle.pem"
        return {
            "CURL_CA_BUNDLE": bundle,
            "HTTPS_PROXY": f"http://127.0.0.1:{proxy}",
            "IMDS_EMULATOR_PORT_BASE": str(self.port_base),
            "IMDS_IDENTITY_CACHE": f"{here}/cache",
            "NO_PROXY": "127.0.0.1,localhost",
            "PATH": os.pathsep.join((here, os.environ["PATH"])),
            "REQUESTS_CA_BUNDLE": bundle,
            "SSL_CERT_FILE": bundle,
            "XDG_RUNTIME_DIR": here,
        }

    def _write_program(self, name: str, text: str) -> None:
        file = self._directory / name
        file.write_text(text.format(python=sys.executable, log=str(self._directory / "calls")))
        file.chmod(file.stat().st_mode | stat.S_IXUSR)


def _free_ports() -> int:
    """The first of three ports in a row that nobody has."""
    for _ in range(100):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            first = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
            for port in (first + 1, first + 2):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return int(first)
    raise AssertionError("no three ports in a row are free")


def _started(stack: contextlib.ExitStack, server: ThreadingHTTPServer) -> int:
    """Let a server serve until the stack is closed; its port."""
    stack.callback(server.server_close)
    threading.Thread(target=server.serve_forever, args=(0.01,)).start()
    stack.callback(server.shutdown)
    return server.server_address[1]


class _Proxy(ThreadingHTTPServer):
    """Leads connections to names to ports of this machine."""

    daemon_threads = True

    def __init__(self, ports: Mapping[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.ports = ports


class _Tunnel(BaseHTTPRequestHandler):
    """What a proxy does for CONNECT (RFC 9110, section 9.3.6)."""

    def do_CONNECT(self) -> None:
        ports = self.server.ports  # type: ignore[attr-defined]
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


class _Sites(ThreadingHTTPServer):
    world: PretendAzure


class _Handler(BaseHTTPRequestHandler):
    """Answers whoever brings a token for the very service that it asks."""

    def do_GET(self) -> None:
        world = self.server.world  # type: ignore[attr-defined]
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        host = self.headers["Host"].partition(":")[0]
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        world.on_request(token)
        granted = scheme == "Bearer" and _audience(token) == SITES[host].audience
        (world.seen if granted else world.refused).append((self.command, host, self.path))
        answer = SITES[host].answer
        answer = answer.get(self.path.partition("?")[0], answer)
        body = json.dumps(answer).encode() if granted else b""
        self.send_response(200 if granted else 401)
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
