"""What every test stands on: a bare environment, an empty cache, a clock that is moved by hand."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

import imds_identity
from imds_identity._token_cache.cache import TokenCache
from support import BackgroundQueue, FakeClock, ResponseFactory, ScriptedServer, no_jitter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imds_identity.emulator import Emulator

# How long an example takes says how busy the machine is.
settings.register_profile("usual", deadline=None, max_examples=40)
settings.register_profile("thorough", deadline=None, max_examples=300)
settings.load_profile("usual")

_HOST_VARIABLES = (
    "IDENTITY_",
    "IMDS_",
    "MSI_",
    "AZURE_",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "http_proxy",
)


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith(_HOST_VARIABLES):
            monkeypatch.delenv(name)
    # No test asks the real address, which is somebody's service on a machine in a cloud.
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:9")
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", "off")
    imds_identity.clear_cache()
    yield
    imds_identity.clear_cache()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def responses(clock: FakeClock) -> ResponseFactory:
    return ResponseFactory(clock)


@pytest.fixture
def background() -> BackgroundQueue:
    return BackgroundQueue()


@pytest.fixture
def token_cache(clock: FakeClock, background: BackgroundQueue) -> TokenCache:
    return TokenCache(clock, no_jitter, background)


@pytest.fixture
def started() -> Iterator[Callable[..., Emulator]]:
    """Starts emulators without a Key Vault, unless one is asked for."""
    from imds_identity.emulator import Emulator

    running: list[Emulator] = []

    def start(profile: Any = "vm", **arguments: Any) -> Emulator:
        running.append(Emulator(profile, **{"key_vault": False, **arguments}))
        return running[-1].start()

    yield start
    for emulator in running:
        emulator.stop()


@pytest.fixture
def ran(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command line in this process; its exit status and what it wrote to both streams."""
    from imds_identity.cli import main

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            status = main(list(arguments))
        except SystemExit as done:
            status = int(done.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def service() -> Iterator[ScriptedServer]:
    """A service that answers as its script says."""
    with ScriptedServer.running() as server:
        yield server


@pytest.fixture
def other_service() -> Iterator[ScriptedServer]:
    """Another one."""
    with ScriptedServer.running() as server:
        yield server
