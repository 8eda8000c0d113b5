"""The Dockerfile: its image, if a container engine runs, and its commands without one."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from interop_support import REPOSITORY

from imds_identity import ManagedIdentityCredential
from imds_identity.emulator import EmulatorContainer

pytestmark = pytest.mark.interop
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()


def instruction(name: str) -> list[str]:
    return re.findall(rf"^{name} (.*)$", DOCKERFILE, re.MULTILINE)


def engine_runs() -> bool:
    docker = shutil.which("docker")
    return (
        docker is not None
        and not subprocess.run([docker, "info"], capture_output=True, check=False).returncode
    )


def free_ports() -> int:
    """Return the first of three consecutive free ports."""
    for base in range(21000, 22000, 3):
        try:
            for port in range(base, base + 3):
                with socket.socket() as one:
                    one.bind(("127.0.0.1", port))
        except OSError:
            continue
        return base
    pytest.fail("no three consecutive ports are free")


def check_served(port: int, host: str) -> None:
    """Request a token with the container's host name, and the admin page."""
    query = "api-version=2018-02-01&resource=https://vault.azure.net"
    url = f"http://127.0.0.1:{port}/metadata/identity/oauth2/token?{query}"
    response = requests.get(url, headers={"Metadata": "true", "Host": host}, timeout=10)
    assert response.json()["token_type"] == "Bearer"
    page = requests.get(f"http://127.0.0.1:{port + 2}/", timeout=10)
    assert "http://imds:" in page.text


def becomes_healthy(url: str) -> bool:
    for _ in range(200):
        try:
            return requests.get(url, timeout=1).status_code == 200
        except OSError:
            time.sleep(0.1)
    return False


@pytest.mark.skipif(not engine_runs(), reason="no container engine runs")
def test_image_serves_tokens() -> None:
    subprocess.run(["docker", "build", "-t", "imds-emulator-test", "."], cwd=REPOSITORY, check=True)
    base = free_ports()
    flags = [f"-p127.0.0.1:{base + offset}:{16925 + offset}" for offset in range(3)]
    command = ["docker", "run", "--rm", "-d", *flags, "imds-emulator-test"]
    container = subprocess.check_output(command, text=True).strip()
    try:
        assert becomes_healthy(f"http://127.0.0.1:{base}/health")
        check_served(base, "imds")
    finally:
        subprocess.run(["docker", "stop", container], check=True)


def test_testcontainers_has_what_the_emulator_calls() -> None:
    container = pytest.importorskip("testcontainers.core.container").DockerContainer
    signature = inspect.signature(container)
    signature.bind("image")
    inspect.signature(container.with_exposed_ports).bind(None, 1, 2, 3)
    inspect.signature(container.with_envs).bind(None, NAME="value")
    inspect.signature(container.exec).bind(None, ["cat", "file"])
    for name in ("start", "stop", "get_container_host_ip"):
        inspect.signature(getattr(container, name)).bind(None)
    inspect.signature(container.get_exposed_port).bind(None, 16925)


@pytest.mark.skipif(not engine_runs(), reason="no container engine runs")
def test_testcontainers_start_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("testcontainers")
    subprocess.run(["docker", "build", "-t", "imds-emulator-test", "."], cwd=REPOSITORY, check=True)
    with EmulatorContainer(image="imds-emulator-test") as emulator:
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        assert ManagedIdentityCredential().get_token("https://vault.azure.net/.default").token
        assert "BEGIN CERTIFICATE" in Path(emulator.key_vault_ca_file).read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX environment")
def test_dockerfile_commands_serve_tokens_in_an_empty_environment(tmp_path: Path) -> None:
    source, venv, state = tmp_path / "source", tmp_path / "venv", tmp_path / "state"
    for line in instruction("COPY"):
        *names, target = line.split()
        for name in names:
            destination = tmp_path / target.strip("/")
            destination.mkdir(parents=True, exist_ok=True)
            path = REPOSITORY / name
            if path.is_dir():
                shutil.copytree(path, destination, dirs_exist_ok=True)
            else:
                shutil.copy(path, destination)
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    environment = {"PATH": f"{venv}/bin:{os.environ['PATH']}", "HOME": str(tmp_path)}
    install, _, _ = instruction("RUN")[0].partition(" && ")
    subprocess.run(
        install.replace("/source", str(source)),
        shell=True,
        check=True,
        env={**os.environ, **environment},
    )
    environment |= dict(line.split("=", 1) for line in instruction("ENV"))
    base = free_ports()
    environment |= {"IMDS_EMULATOR_STATE": str(state), "IMDS_EMULATOR_PORT_BASE": str(base)}
    [entry], [check] = instruction("ENTRYPOINT"), instruction("HEALTHCHECK")
    with subprocess.Popen(json.loads(entry), env=environment, cwd=tmp_path) as process:
        try:
            assert becomes_healthy(f"http://127.0.0.1:{base}/health")
            command = json.loads(check[check.index("[") :].replace("16925", str(base)))
            subprocess.run(command, env=environment, check=True, timeout=20)
            check_served(base, "imds")
            assert (state / "key-vault-ca.pem").is_file()
        finally:
            process.terminate()
            process.wait(20)
    assert process.returncode == 0
