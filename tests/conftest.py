"""Fixtures of all tests: a clean environment, an empty cache, fakes and an emulator."""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

import imds_identity
from imds_identity._shared_cache.rate_limit import METADATA_LIMITS
from imds_identity._token_cache.cache import TokenCache
from support import BackgroundQueue, FakeClock, ResponseFactory, ScriptedServer, no_jitter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imds_identity.emulator import Emulator

# Without bytecode, every worker and every process that a test starts would compile all modules.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A shell ignores Ctrl-C in its background jobs, and all programs that a test starts would, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline: the duration of an example depends on the load of the machine.
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


def pytest_collection_finish() -> None:
    """Let the garbage collector skip the collected tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _clean_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith(_HOST_VARIABLES):
            monkeypatch.delenv(name)
    # Tests must not send requests to the real address, which may be a real service in the cloud.
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:9")
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", "off")
    # The emulator's command keeps its keys there.
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))
    if sys.platform == "win32":  # the variables of App Service alone mean Container Instances there
        monkeypatch.setenv("IMDS_IDENTITY_ENDPOINT", "app-service")
    imds_identity.clear_cache()
    platform = sys.platform
    yield
    monkeypatch.setattr(sys, "platform", platform)  # a test may have changed it
    imds_identity.clear_cache()


@pytest.fixture(scope="session", autouse=True)
def _fast_metadata_requests() -> Iterator[None]:
    """Send metadata requests without a pause of a quarter second; the limiter has its own tests."""
    from imds_identity.metadata._requests import connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "METADATA_LIMITS", METADATA_LIMITS._replace(per_second=1000.0))
        yield


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
def start_emulator() -> Iterator[Callable[..., Emulator]]:
    """Start emulators, without a Key Vault by default."""
    from imds_identity.emulator import Emulator

    running: list[Emulator] = []

    def start(profile: Any = "vm", **arguments: Any) -> Emulator:
        running.append(Emulator(profile, **{"key_vault": False, **arguments}))
        return running[-1].start()

    yield start
    for emulator in running:
        emulator.stop()


@pytest.fixture
def run_cli(capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """Run the command line in this process; return its exit status, stdout and stderr."""
    from imds_identity.cli import main

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            status = main(list(arguments))
        except SystemExit as done:
            status = int(done.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    if not hasattr(signal, "pthread_sigmask"):
        yield run
        return
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield run
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)  # `serve` blocks signals until it ends


@pytest.fixture
def scripted_server() -> Iterator[ScriptedServer]:
    """Run a server with scripted responses."""
    with ScriptedServer.running() as server:
        yield server


@pytest.fixture
def other_server() -> Iterator[ScriptedServer]:
    """Run a second server with scripted responses."""
    with ScriptedServer.running() as server:
        yield server
