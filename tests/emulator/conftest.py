"""What the emulator's tests share: one client and the ways to ask for a token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests

from emulator.support import TOKEN_PATH, VAULT, Ask, key_file
from imds_identity.emulator import Emulator, ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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
def get(http: requests.Session) -> Ask:
    """Asks an emulator for a metadata path, by default as a well-behaved client would."""

    def send(emulator: Emulator, path: str, /, *, headers: Any = None, **query: str) -> Any:
        query = {name.replace("api_version", "api-version"): text for name, text in query.items()}
        return http.get(emulator.endpoint + path, params=query, headers=headers, timeout=10)

    return send


@pytest.fixture
def ask(get: Ask) -> Ask:
    """Asks an emulator for a token as a VM's client does."""

    def send(emulator: Emulator, **query: Any) -> requests.Response:
        return get(
            emulator, TOKEN_PATH, **{"api_version": "2018-02-01", "resource": VAULT, **query}
        )

    return send


@pytest.fixture
def ask_arc(ask: Ask) -> Ask:
    """Asks an emulated Arc server for a token, passing its challenge."""

    def send(emulator: Emulator, **query: Any) -> requests.Response:
        query = {"api_version": "2020-06-01", **query}
        challenge = ask(emulator, **query)
        assert challenge.status_code == 401, challenge.text
        secret = key_file(challenge).read_text()
        return ask(emulator, headers={"Authorization": f"Basic {secret}"}, **query)

    return send


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
