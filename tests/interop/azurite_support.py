"""Azurite, Microsoft's storage emulator, for tests."""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from interop_support import require_node, require_part

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ACCOUNT = "devstoreaccount1"
_PORTS = ("blob", "queue", "table")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def run_azurite(folder: Path) -> Iterator[dict[str, Any]]:
    """Run Azurite; yield the URLs of its services and its CA file. Skip if it is missing."""
    main = require_part("npm") / "npm/node_modules/azurite/dist/src/azurite.js"
    key, certificate = _certificate(folder)
    ports = {name: _free_port() for name in _PORTS}
    flags = [f"--{name}{what}" for name in _PORTS for what in ("Host", "Port")]
    values = [value for name in _PORTS for value in ("127.0.0.1", str(ports[name]))]
    process = subprocess.Popen(
        [require_node(), main, "--silent", "--inMemoryPersistence", "--skipApiVersionCheck",
         "--disableTelemetry", "--oauth", "basic", "--cert", certificate, "--key", key,
         *(word for pair in zip(flags, values, strict=True) for word in pair)],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for port in ports.values():
            wait_for_port(port, process)
        urls = {name: f"https://127.0.0.1:{port}/{_ACCOUNT}" for name, port in ports.items()}
        yield {**urls, "verify": str(certificate)}
    finally:
        process.terminate()
        process.wait(20)


def _certificate(folder: Path) -> tuple[Path, Path]:
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, certificate


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "azurite exited"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("azurite does not listen")
