"""A real PostgreSQL server whose clients use the password file of ``exec --pgpass``."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from interop_support import require_part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.interop

CLIENTS = Path(__file__).parent / "programs/postgresql_clients.py"
RULES = "local all postgres trust\nhost all all 127.0.0.1/32 scram-sha-256\n"


def as_postgres(*command: str | Path) -> None:
    """Run a program of PostgreSQL, which refuses to run as root."""
    change = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    subprocess.run([*change, *command], check=True, stdout=subprocess.DEVNULL, timeout=60)


def run_sql(port: int, sockets: Path, command: str) -> None:
    """Run SQL as the administrator."""
    as_postgres("psql", "-h", sockets, "-p", str(port), "-U", "postgres", "-c", command)


@contextmanager
def running_server(port: int, role: str = "web", *, tls_file: Path | None = None) -> Iterator[Path]:
    """Run a server with one role; yield the directory of its Unix socket.

    With ``tls_file``, which has a key and a certificate, it supports TLS.
    """
    programs = next(iter(Path("/usr/lib/postgresql").glob("*/bin")), None)
    if programs is None:
        pytest.skip("PostgreSQL is not installed: run make interop")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        if os.geteuid() == 0:
            shutil.chown(directory, "postgres", "postgres")
        data = directory / "data"
        as_postgres(programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync")
        (data / "pg_hba.conf").write_text(RULES)
        if tls_file is not None:
            for copy in (data / "server.key", data / "server.crt"):  # the default names
                copy.write_bytes(tls_file.read_bytes())
                copy.chmod(0o600)
                shutil.chown(copy, directory.owner())
        tls = "on" if tls_file is not None else "off"
        options = (
            f"-c ssl={tls} -p {port} -c listen_addresses=127.0.0.1 -k {directory} -c fsync=off"
        )
        as_postgres(
            programs / "pg_ctl", "-D", data, "-w", "-l", directory / "log", "-o", options, "start"
        )
        try:
            run_sql(port, directory, f'CREATE ROLE "{role}" LOGIN')
            yield directory
        finally:
            as_postgres(programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_clients_follow_the_token_over_its_expiry(
    emulator_factory: Callable[..., Emulator],
) -> None:
    python = require_part("postgresql") / "postgresql/bin/python"
    port = free_port()
    emulator = emulator_factory(token_lifetime=4)
    with running_server(port) as sockets:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "imds_identity", "exec"),
                *("--pgpass", f"127.0.0.1:{port}:postgres:web", "--cloud", "AzurePublicCloud"),
                *("--", python, CLIENTS, str(port), str(sockets)),
            ],
            env={**os.environ, **emulator.environment(), "PGSSLMODE": "disable"},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["web web web web"] * 3
