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
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Any

from fake_programs import IMDS_IDENTITY, PIP, PYODBC, PYTHON, STAND_IN
from fake_sites import SITES, Proxy, Sites, started
from imds_identity.emulator import Emulator
from imds_identity.emulator._pki.certificates import Authority, pem, server_context

if TYPE_CHECKING:
    from typing_extensions import Self

VAULT = "my-vault.vault.azure.net"
SECRETS = {
    "db-password": "p4ss", "db": "p4ss", "greeting": "hello", "tls-key": "k3y",
    "settings": '{"app": {"password": "p4ss"}}',
}  # fmt: skip


class FakeAzure:
    """The world, while it is entered.

    Args:
        directory: an empty one, in which shell commands run.
        stand_ins: names of programs that note in `calls` how they were called.

    Attributes:
        emulator: the metadata service, and the vault.
        environment: the variables of programs that live in this world.
        sites: Azure's services but the vault.
        port_base: of emulators that are started in this world, in place of 16925.
    """

    def __init__(self, directory: Path, *stand_ins: str) -> None:
        self.port_base = _free_ports()
        self._directory = directory
        self._stand_ins = stand_ins
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.emulator = stack.enter_context(Emulator(secrets=SECRETS, allowed_hosts=[VAULT]))
            ports = {VAULT: int(self.emulator.key_vault.url.rpartition(":")[2])}
            ports.update(dict.fromkeys(SITES, self._serve_sites(stack)))
            proxy = started(stack, Proxy(ports))
            for name in self._stand_ins:
                self._write_program(name, STAND_IN)
            self._write_program("imds-identity", IMDS_IDENTITY)
            self._write_program("pip", PIP)
            self._write_program("python", PYTHON)
            (self._directory / "pyodbc.py").write_text(PYODBC)
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
        self.sites = Sites()
        authority = Authority("pretend Azure")
        context = server_context(authority, self._directory, "127.0.0.1", SITES)
        self.sites.socket = context.wrap_socket(self.sites.socket, server_side=True)
        vault = Path(self.emulator.key_vault.ca_file).read_bytes()
        (self._directory / "bundle.pem").write_bytes(vault + pem(authority.certificate))
        return started(stack, self.sites)

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
    """The first of three ports in a row that nobody has, none of which the system gives away."""
    while True:
        first = SystemRandom().randrange(20_000, 32_000)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + 3):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first
