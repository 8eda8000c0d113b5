"""`EmulatorContainer`, with a stand-in for testcontainers that starts the emulator in a thread."""

from __future__ import annotations

import sys
from http.client import BadStatusLine
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from imds_identity import ManagedIdentityCredential
from imds_identity.emulator import Emulator, EmulatorContainer
from imds_identity.emulator._container.container import _settings

STATE = "/state/"


class FakeDockerContainer:
    """As much of testcontainers' DockerContainer as is used; its state directory is `state`."""

    state = Path()

    def __init__(self, image: str) -> None:
        self.image = image
        self.variables: dict[str, str] = {}
        self.ports: tuple[int, ...] = ()
        self.emulator: Emulator | None = None

    def with_exposed_ports(self, *ports: int) -> FakeDockerContainer:
        self.ports = ports
        return self

    def with_envs(self, **variables: str) -> FakeDockerContainer:
        self.variables |= variables
        return self

    def start(self) -> None:
        settings = _settings(self.variables)
        self.emulator = Emulator(
            settings.profile,
            identity_header=settings.identity_header,
            faults=settings.faults,
            identities=settings.identities,
            state=self.state,
            admin_port=0,
        ).start()

    def stop(self) -> None:
        assert self.emulator is not None
        self.emulator.stop()

    def get_container_host_ip(self) -> str:
        return "127.0.0.1"

    def get_exposed_port(self, port: int) -> int:
        assert self.emulator is not None
        urls = (self.emulator.endpoint, self.emulator.key_vault.url, self.emulator.admin_url)
        return urlsplit(urls[self.ports.index(port)]).port or 0

    def exec(self, command: list[str]) -> SimpleNamespace:
        program, path = command
        assert program == "cat"
        return SimpleNamespace(output=(self.state / path.removeprefix(STATE)).read_bytes())


@pytest.fixture(autouse=True)
def _testcontainers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(FakeDockerContainer, "state", tmp_path)
    module = ModuleType("testcontainers.core.container")
    module.DockerContainer = FakeDockerContainer  # type: ignore[attr-defined]
    for name in ("testcontainers", "testcontainers.core"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.parametrize("profile", ["vm", "app-service", "azure-ml"])
def test_credential_gets_a_token_from_the_container(
    monkeypatch: pytest.MonkeyPatch, profile: str
) -> None:
    for name in ("AZURE_POD_IDENTITY_AUTHORITY_HOST", "IMDS_IDENTITY_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    with EmulatorContainer(profile) as emulator:
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        assert ManagedIdentityCredential().get_token("https://vault.azure.net/.default").token
        assert [each["status"] for each in emulator.api("GET", "requests")["requests"]] == [200]
        with requests.Session() as session:
            session.trust_env = False
            url, ca_file = f"{emulator.key_vault_url}/secrets/x", emulator.key_vault_ca_file
            assert session.get(url, verify=ca_file, timeout=10).status_code == 401
    assert not Path(ca_file).exists()


def test_options_become_variables_of_the_container() -> None:
    emulator = EmulatorContainer(
        image="registry.example/emulator:1",
        fault=["status=500,times=1", "delay=1"],
        limits=False,
        user_assigned="one",
    )
    container = emulator.container
    assert container.image == "registry.example/emulator:1"
    variables = container.variables
    assert variables["IMDS_EMULATOR_FAULT"] == "status=500,times=1;delay=1"
    assert variables["IMDS_EMULATOR_LIMITS"] == "off"
    with emulator:
        assert len(emulator.api("GET", "faults")["faults"]) == 2
        assert emulator.api("POST", "faults", {"status": 429})["number"] == 3
        with pytest.raises(ValueError, match="Did you mean status"):
            emulator.api("POST", "faults", {"statsu": 429})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"falt": "status=500"}, TypeError, "no option 'falt'. Did you mean fault"),
        ({"fault": "statsu=500"}, ValueError, "Did you mean status"),
        ({"token_lifetime": "long"}, ValueError, "IMDS_EMULATOR_TOKEN_LIFETIME must be a whole"),
        ({"profile": "arc"}, ValueError, "use Emulator"),
    ],
)
def test_invalid_option_is_explained_before_the_start(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        EmulatorContainer(**options)


def test_missing_testcontainers_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "testcontainers.core.container", None)
    with pytest.raises(ModuleNotFoundError, match="pip install testcontainers"):
        EmulatorContainer()


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (ConnectionRefusedError("refused"), "after 0 s: refused"),
        (BadStatusLine("x"), "after 0 s: x"),
        (RuntimeError("it has exited"), "it has exited"),
    ],
)
def test_container_that_does_not_serve_is_stopped(
    monkeypatch: pytest.MonkeyPatch, problem: Exception, message: str
) -> None:
    monkeypatch.setattr("imds_identity.emulator._container.container._START_SECONDS", 0.0)
    monkeypatch.setattr("imds_identity.emulator._container.container._POLL_SECONDS", 0.0)
    emulator = EmulatorContainer()

    def fail(_port: int) -> int:
        raise problem

    monkeypatch.setattr(emulator.container, "get_exposed_port", fail)
    with pytest.raises((TimeoutError, RuntimeError), match=message):
        emulator.start()
    with pytest.raises(RuntimeError, match="not running"):
        _ = emulator.container.emulator.endpoint
