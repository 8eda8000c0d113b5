"""What the emulator's tests share: one client and the ways to ask for a token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from imds_identity.emulator import Emulator, ManualClock

VAULT = "https://vault.azure.net"
TokenRequest = Callable[..., requests.Response]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_800_000_000.0)


@pytest.fixture
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Metadata"] = "true"
        yield session


@pytest.fixture
def get(http: requests.Session) -> Callable[..., requests.Response]:
    """Asks an emulator for a metadata path, by default as a well-behaved client would."""

    def send(emulator: Emulator, path: str, /, *, headers: Any = None, **query: str) -> Any:
        query = {name.replace("api_version", "api-version"): text for name, text in query.items()}
        return http.get(emulator.endpoint + path, params=query, headers=headers, timeout=10)

    return send


@pytest.fixture
def ask(get: Callable[..., requests.Response]) -> TokenRequest:
    """Asks an emulator for a token as a VM's client does."""
    path = "/metadata/identity/oauth2/token"

    def send(emulator: Emulator, **query: Any) -> requests.Response:
        return get(emulator, path, **{"api_version": "2018-02-01", "resource": VAULT, **query})

    return send


@pytest.fixture
def ask_arc(ask: TokenRequest) -> TokenRequest:
    """Asks an emulated Arc server for a token, passing its challenge."""

    def send(emulator: Emulator, **query: Any) -> requests.Response:
        query = {"api_version": "2020-06-01", **query}
        challenge = ask(emulator, **query)
        assert challenge.status_code == 401, challenge.text
        secret = key_file(challenge).read_text()
        return ask(emulator, headers={"Authorization": f"Basic {secret}"}, **query)

    return send


def key_file(challenge: requests.Response) -> Path:
    scheme, _, path = challenge.headers["WWW-Authenticate"].partition("=")
    assert scheme == "Basic realm"
    return Path(path)


@pytest.fixture(name="key_file")
def _key_file() -> Callable[[requests.Response], Path]:
    return key_file


@pytest.fixture
def started() -> Iterator[Callable[..., Emulator]]:
    """Starts emulators without a Key Vault, unless one is asked for."""
    running: list[Emulator] = []

    def start(profile: Any = "vm", **arguments: Any) -> Emulator:
        emulator = Emulator(profile, **{"key_vault": False, **arguments})
        running.append(emulator)
        return emulator.start()

    yield start
    for emulator in running:
        emulator.stop()
