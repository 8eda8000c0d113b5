"""Fixtures for the emulator's tests: emulators, a client and token requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests

from emulator.support import TOKEN_PATH, VAULT, Send, key_file
from imds_identity.emulator import Emulator, ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


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
def get(http: requests.Session) -> Send:
    """A function that gets a metadata path from an emulator."""

    def send(emulator: Emulator, path: str, /, *, headers: Any = None, **query: str) -> Any:
        query = {name.replace("api_version", "api-version"): text for name, text in query.items()}
        return http.get(emulator.endpoint + path, params=query, headers=headers, timeout=10)

    return send


@pytest.fixture
def request_token(get: Send) -> Send:
    """A function that requests a token like a client on a VM."""

    def send(emulator: Emulator, **query: Any) -> requests.Response:
        version = "2020-06-01" if emulator.profile == "arc" else "2018-02-01"
        query = {"api_version": version, "resource": VAULT, **query}
        return get(emulator, TOKEN_PATH, **query)

    return send


@pytest.fixture
def request_arc_token(request_token: Send) -> Send:
    """A function that requests a token from an Arc server, including the challenge."""

    def send(emulator: Emulator, **query: Any) -> requests.Response:
        challenge = request_token(emulator, **query)
        assert challenge.status_code == 401, challenge.text
        secret = key_file(challenge).read_text()
        return request_token(emulator, headers={"Authorization": f"Basic {secret}"}, **query)

    return send


@pytest.fixture
def no_default_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command have no directory for its state, like a user without a home directory."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))


@pytest.fixture
def start_emulator() -> Iterator[Callable[..., Emulator]]:
    """A function that starts an emulator, by default without a Key Vault."""
    running: list[Emulator] = []

    def start(profile: Any = "vm", **arguments: Any) -> Emulator:
        emulator = Emulator(profile, **{"key_vault": False, **arguments})
        running.append(emulator)
        return emulator.start()

    yield start
    for emulator in running:
        emulator.stop()
