"""Real processes with a shared cache: many at once, kills, forks and the command line."""

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
def emulator_with_limits(emulator_factory: Any, shared: str) -> tuple[Emulator, dict[str, str]]:
    """Return an emulator with the service's rate limits, and the environment of its clients."""
    emulator = emulator_factory(
        "vm", limits=True, latency=0.05, key_vault=False, resources=["https://*.example"]
    )
    environment = {**os.environ, **emulator.environment(), "IMDS_IDENTITY_CACHE": shared}
    return emulator, environment


def test_many_processes_and_threads_send_one_request(
    emulator_with_limits: tuple[Emulator, dict[str, str]],
) -> None:
    emulator, environment = emulator_with_limits
    assert run_concurrently(environment, processes=8, threads=4, resources=1) == [""] * 8
    assert [request.status for request in emulator.token_requests] == [200]


def test_many_processes_with_many_resources_are_not_throttled(
    emulator_with_limits: tuple[Emulator, dict[str, str]],
) -> None:
    emulator, environment = emulator_with_limits
    assert run_concurrently(environment, processes=6, threads=1, resources=6) == [""] * 6
    assert [request.status for request in emulator.token_requests] == [200] * 6


def test_processes_killed_at_any_moment_leave_the_cache_usable(
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
def test_child_forked_during_a_fetch_gets_a_token_after_its_parent_was_killed(
    emulator_with_limits: tuple[Emulator, dict[str, str]],
) -> None:
    emulator, environment = emulator_with_limits
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
    emulator_with_limits: tuple[Emulator, dict[str, str]],
) -> None:
    command = [sys.executable, "-c", PRINT_TOKEN_AND_HEAVY_MODULES, "token", VAULT]
    done = subprocess.run(
        command, env=emulator_with_limits[1], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[1:] == ["['http.client']"]
    assert len(emulator_with_limits[0].token_requests) == 1


def test_token_command_with_a_cached_token_neither_sends_a_request_nor_imports_http_client(
    emulator_with_limits: tuple[Emulator, dict[str, str]],
) -> None:
    emulator, environment = emulator_with_limits
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


def test_cache_command_shows_and_clears_records_without_tokens(
    emulator_with_limits: tuple[Emulator, dict[str, str]],
) -> None:
    _, environment = emulator_with_limits

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


def test_cache_command_reports_that_sharing_is_off() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "imds_identity", "cache", "show"],
        env={**os.environ, "IMDS_IDENTITY_CACHE": "off"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert "the shared token cache is off" in done.stdout


class TestPrecedenceOfSettings:
    """The constructor, then the environment, then the default."""

    def requests_of_two_credentials(
        self, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, **settings: Any
    ) -> int:
        from imds_identity._token_cache.process import process_token_cache

        ManagedIdentityCredential(**settings).get_token(VAULT)
        process_token_cache().clear()  # like a second process
        ManagedIdentityCredential(**settings).get_token(VAULT)
        return len(emulator.token_requests)

    def test_environment_turns_sharing_off(
        self, imds_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("IMDS_IDENTITY_CACHE", "off")
        assert self.requests_of_two_credentials(imds_emulator, monkeypatch) == 2

    def test_environment_selects_a_directory(
        self, imds_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, shared: str
    ) -> None:
        monkeypatch.setenv("IMDS_IDENTITY_CACHE", shared)
        assert self.requests_of_two_credentials(imds_emulator, monkeypatch) == 1

    def test_constructor_overrides_the_environment(
        self, imds_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, shared: str
    ) -> None:
        monkeypatch.setenv("IMDS_IDENTITY_CACHE", shared)
        assert self.requests_of_two_credentials(imds_emulator, monkeypatch, cache="off") == 2

    def test_empty_directory_name_is_refused(self) -> None:
        with pytest.raises(ValueError, match="directory or 'off'"):
            ManagedIdentityCredential(cache="")

    def test_cache_may_be_a_path_object(
        self, imds_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, shared: str
    ) -> None:
        assert self.requests_of_two_credentials(imds_emulator, monkeypatch, cache=Path(shared)) == 1

    def test_token_of_a_custom_transport_is_not_shared(
        self, imds_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, shared: str
    ) -> None:
        from azure.core.pipeline.transport import RequestsTransport

        monkeypatch.setenv("IMDS_IDENTITY_CACHE", shared)
        with RequestsTransport() as transport:
            assert (
                self.requests_of_two_credentials(imds_emulator, monkeypatch, transport=transport)
                == 2
            )
            assert not os.path.exists(shared)
