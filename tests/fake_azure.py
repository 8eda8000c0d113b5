"""A fake Azure in which documented code runs unchanged.

A proxy connects the host names of Azure's services to local servers, whose TLS certificates the
programs trust. The emulator is the metadata service. Programs that may not be installed are faked.
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

from fake_clouds import AUDIENCE
from fake_programs import IMDS_IDENTITY, PIP, PYODBC, PYTHON, RECORDING_PROGRAM
from fake_sites import SITES, Proxy, Sites, serve
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
    """Runs the fake services as a context manager.

    Args:
        directory: an empty directory, in which commands run.
        programs: names of fake programs that record their calls in `calls`.

    Attributes:
        emulator: the metadata service and the Key Vault.
        environment: the environment variables of the commands.
        sites: the other services of Azure.
        port_base: the first port of emulators that commands start, instead of 16925.
    """

    def __init__(self, directory: Path, *programs: str) -> None:
        self.port_base = _free_ports()
        self._directory = directory
        self._programs = programs
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.emulator = stack.enter_context(
                Emulator(secrets=SECRETS, allowed_hosts=[VAULT], resources=[AUDIENCE])
            )
            ports = {VAULT: int(self.emulator.key_vault.url.rpartition(":")[2])}
            ports.update(dict.fromkeys(SITES, self._serve_sites(stack)))
            proxy = serve(stack, Proxy(ports))
            for name in self._programs:
                self._write_program(name, RECORDING_PROGRAM)
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
        """Run shell commands until one fails; later calls see the variables that they export."""
        keep_exports = 'test ! -f .exported || . ./.exported; trap "export -p > .exported" EXIT'
        return self.run("sh", "-eu", "-c", f"{keep_exports}\n{commands}")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program until it exits, for at most five minutes."""
        return subprocess.run(
            command, cwd=self._directory, env={**os.environ, **self.environment},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a program in the background."""
        return subprocess.Popen(
            command, cwd=self._directory, env={**os.environ, **self.environment},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Return the calls of fake programs: argv, the resource of their token, and PASSWORD."""
        log = self._directory / "calls"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def _serve_sites(self, stack: contextlib.ExitStack) -> int:
        self.sites = Sites()
        authority = Authority("fake Azure")
        context = server_context(authority, self._directory, "127.0.0.1", SITES)
        self.sites.socket = context.wrap_socket(self.sites.socket, server_side=True)
        vault = Path(self.emulator.key_vault.ca_file).read_bytes()
        (self._directory / "bundle.pem").write_bytes(vault + pem(authority.certificate))
        return serve(stack, self.sites)

    def _variables(self, proxy: int) -> dict[str, str]:
        directory = str(self._directory)
        bundle = f"{directory}/bundle.pem"
        return {
            "AWS_CA_BUNDLE": bundle,
            "CURL_CA_BUNDLE": bundle,
            "HTTPS_PROXY": f"http://127.0.0.1:{proxy}",
            "IMDS_EMULATOR_PORT_BASE": str(self.port_base),
            "IMDS_IDENTITY_CACHE": f"{directory}/cache",
            "NO_PROXY": "127.0.0.1,localhost",
            "PATH": os.pathsep.join((directory, os.environ["PATH"])),
            "REQUESTS_CA_BUNDLE": bundle,
            "SSL_CERT_FILE": bundle,
            "XDG_RUNTIME_DIR": directory,
        }

    def _write_program(self, name: str, text: str) -> None:
        file = self._directory / name
        file.write_text(text.format(python=sys.executable, log=str(self._directory / "calls")))
        file.chmod(file.stat().st_mode | stat.S_IXUSR)


def _free_ports() -> int:
    """Return the first of three consecutive free ports below the ephemeral range."""
    while True:
        first = SystemRandom().randrange(20_000, 32_000)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + 3):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first
