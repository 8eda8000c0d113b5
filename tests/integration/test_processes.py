"""Real processes that share: many at once, kills, forks, and the command line's second call."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from concurrent_processes import kill_repeatedly, run_concurrently
from imds_identity import ManagedIdentityCredential

if TYPE_CHECKING:
    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX processes")

VAULT = "https://vault.azure.net"


@pytest.fixture
def shared(tmp_path: Path) -> str:
    return str(tmp_path / "shared")


@pytest.fixture
def limited(emulator_factory: Any, shared: str) -> tuple[Emulator, dict[str, str]]:
    """An emulator that keeps the service's limits, and the environment of its clients."""
    emulator = emulator_factory(
        "vm", limits=True, latency=0.05, key_vault=False, resources=["https://*.example"]
    )
    environment = {**os.environ, **emulator.environment(), "IMDS_IDENTITY_CACHE": shared}
    return emulator, environment


def test_a_crowd_of_processes_and_threads_makes_one_request(
    limited: tuple[Emulator, dict[str, str]],
) -> None:
    emulator, environment = limited
    assert run_concurrently(environment, processes=8, threads=4, resources=1) == [""] * 8
    assert [request.status for request in emulator.token_requests] == [200]


def test_a_crowd_with_many_resources_is_not_throttled(
    limited: tuple[Emulator, dict[str, str]],
) -> None:
    emulator, environment = limited
    assert run_concurrently(environment, processes=6, threads=1, resources=6) == [""] * 6
    assert [request.status for request in emulator.token_requests] == [200] * 6


def test_processes_killed_at_any_moment_leave_nothing_that_blocks_or_misleads(
    emulator_factory: Any, shared: str
) -> None:
    emulator = emulator_factory("vm", key_vault=False)
    environment = {**os.environ, **emulator.environment(), "IMDS_IDENTITY_CACHE": shared}
    assert kill_repeatedly(environment, 12, running=3, max_interval=0.02, seed=7) == 0
    done = subprocess.run(
        [sys.executable, "-m", "imds_identity", "token", VAULT],
        env=environment, capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    token = done.stdout.strip()
    key = jwt.PyJWKClient(emulator.jwks_url).get_signing_key_from_jwt(token)
    assert jwt.decode(token, key, algorithms=["RS256"], audience=VAULT)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_while_a_token_is_fetched_works_though_the_parent_is_killed(
    limited: tuple[Emulator, dict[str, str]],
) -> None:
    emulator, environment = limited
    emulator.fault(delay=0.5, times=1)
    script = """
import os, sys, threading, time
from imds_identity import ManagedIdentityCredential
credential = ManagedIdentityCredential()
fetch = lambda: credential.get_token("https://vault.azure.net")
threading.Thread(target=fetch, daemon=True).start()
time.sleep(0.2)
child = os.fork()
if child:
    os.kill(os.getpid(), 9)
print(credential.get_token("https://vault.azure.net").token.count("."), flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.strip() == "2", done.stderr


PRINT_TOKEN_AND_HEAVY_MODULES = """
import sys
from imds_identity.cli import main
main(sys.argv[1:])
heavy = ("requests", "azure.core", "msal", "filelock", "asyncio", "urllib3", "logging")
print([module for module in (*heavy, "http.client") if module in sys.modules])
"""


def test_token_command_imports_no_heavy_modules(
    limited: tuple[Emulator, dict[str, str]],
) -> None:
    command = [sys.executable, "-c", PRINT_TOKEN_AND_HEAVY_MODULES, "token", VAULT]
    done = subprocess.run(command, env=limited[1], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1:] == ["['http.client']"]
    assert len(limited[0].token_requests) == 1


def test_token_command_with_a_cached_token_neither_sends_a_request_nor_imports_http_client(
    limited: tuple[Emulator, dict[str, str]],
) -> None:
    emulator, environment = limited
    lines = [
        subprocess.run(
            [sys.executable, "-c", PRINT_TOKEN_AND_HEAVY_MODULES, "token", VAULT],
            env=environment, capture_output=True, text=True, check=True,
        ).stdout.splitlines()
        for _ in range(3)
    ]  # fmt: skip
    assert len({token for token, _ in lines}) == 1
    assert [loaded for _, loaded in lines[1:]] == ["[]", "[]"]
    assert len(emulator.token_requests) == 1


def test_the_cache_is_shown_and_cleared_without_a_token(
    limited: tuple[Emulator, dict[str, str]],
) -> None:
    _, environment = limited

    def run(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "imds_identity", *arguments],
            env=environment, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    token = run("token", VAULT).strip()
    shown = run("cache", "show")
    assert VAULT in shown
    assert "system-assigned identity" in shown
    assert "expires   in 23 h 59 min" in shown or "expires   in 24 h 00 min" in shown
    assert token not in shown
    assert "eyJ" not in shown
    assert run("cache", "clear").startswith("1 removed")
    assert run("cache", "show").startswith("0 in")


def test_the_cache_command_says_where_nothing_is_shared() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "imds_identity", "cache", "show"],
        env={**os.environ, "IMDS_IDENTITY_CACHE": "off"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "the shared token cache is off" in done.stderr


class TestWhatDecides:
    """The constructor, then the environment, then the default; a transport's are private."""

    def requests_of_two(
        self, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, **settings: Any
    ) -> int:
        import imds_identity._token_cache.process as provider

        ManagedIdentityCredential(**settings).get_token(VAULT)
        provider.process_token_cache().clear()  # as another process has nothing in its memory
        ManagedIdentityCredential(**settings).get_token(VAULT)
        return len(emulator.token_requests)

    def test_the_environment_turns_it_off(
        self, imds_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("IMDS_IDENTITY_CACHE", "off")
        assert self.requests_of_two(imds_emulator, monkeypatch) == 2

    def test_the_environment_names_a_directory(
        self, imds_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, shared: str
    ) -> None:
        monkeypatch.setenv("IMDS_IDENTITY_CACHE", shared)
        assert self.requests_of_two(imds_emulator, monkeypatch) == 1

    def test_the_constructor_has_the_last_word(
        self, imds_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, shared: str
    ) -> None:
        monkeypatch.setenv("IMDS_IDENTITY_CACHE", shared)
        assert self.requests_of_two(imds_emulator, monkeypatch, cache="off") == 2

    def test_an_empty_name_is_no_directory(self) -> None:
        with pytest.raises(ValueError, match="directory or 'off'"):
            ManagedIdentityCredential(cache="")

    def test_a_path_will_do(
        self, imds_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, shared: str
    ) -> None:
        assert self.requests_of_two(imds_emulator, monkeypatch, cache=Path(shared)) == 1

    def test_what_a_transport_brought_is_not_shared(
        self, imds_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, shared: str
    ) -> None:
        from azure.core.pipeline.transport import RequestsTransport

        monkeypatch.setenv("IMDS_IDENTITY_CACHE", shared)
        with RequestsTransport() as transport:
            assert self.requests_of_two(imds_emulator, monkeypatch, transport=transport) == 2
            assert not os.path.exists(shared)
