"""What docs/comparison.md says of other clients is so, of the versions that are installed here."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import azure.identity
import azure.identity._credentials.imds
import azure.identity.aio
import msal
import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError

import imds_identity
import imds_identity.aio
from support import RawServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_identity.emulator import Emulator

PAGE = (Path(__file__).parents[2] / "docs/comparison.md").read_text(encoding="utf-8")
SCOPE = "https://vault.azure.net/.default"
THEIRS: Any = azure.identity.ManagedIdentityCredential
OURS: Any = imds_identity.ManagedIdentityCredential
THREADS = 8


def msal_token() -> dict[str, Any]:
    client = msal.ManagedIdentityClient(
        msal.SystemAssignedManagedIdentity(), http_client=requests.Session()
    )
    token: dict[str, Any] = client.acquire_token_for_client(resource="https://vault.azure.net")
    return token


def at_once(call: Callable[[], object]) -> None:
    """Have many threads call at the same moment."""
    start = threading.Barrier(THREADS)

    def run() -> None:
        start.wait()
        call()

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("package", ["azure-identity", "msal"])
def test_the_page_names_the_versions_that_it_is_checked_with(package: str) -> None:
    major, minor, *_ = importlib.metadata.version(package).split(".")
    assert f"{package} {major}.{minor}" in PAGE


class TestRequests:
    def test_each_of_their_credentials_asks_anew(self, imds_emulator: Emulator) -> None:
        for _ in "ab":
            THEIRS().get_token(SCOPE)
        assert len(imds_emulator.token_requests) == 2
        for _ in "ab":
            msal_token()
        assert len(imds_emulator.token_requests) == 4
        for _ in "ab":
            OURS().get_token(SCOPE)
        assert len(imds_emulator.token_requests) == 5

    def test_each_of_their_threads_asks(self, imds_emulator: Emulator) -> None:
        imds_emulator.fault(delay=0.3)
        theirs, ours = THEIRS(), OURS()
        at_once(lambda: theirs.get_token(SCOPE))
        assert len(imds_emulator.token_requests) == THREADS
        at_once(lambda: ours.get_token(SCOPE))
        assert len(imds_emulator.token_requests) == THREADS + 1

    def test_each_of_their_tasks_asks(self, imds_emulator: Emulator) -> None:
        imds_emulator.fault(delay=0.3)

        async def tasks(credential: Any) -> None:
            async with credential:
                await asyncio.gather(*(credential.get_token(SCOPE) for _ in range(THREADS)))

        asyncio.run(tasks(azure.identity.aio.ManagedIdentityCredential()))
        assert len(imds_emulator.token_requests) == THREADS
        asyncio.run(tasks(imds_identity.aio.ManagedIdentityCredential()))
        assert len(imds_emulator.token_requests) == THREADS + 1

    @pytest.mark.skipif(sys.platform == "win32", reason="nothing is shared without a directory")
    @pytest.mark.parametrize(("package", "requests"), [("azure.identity", 2), ("imds_identity", 1)])
    def test_each_of_their_processes_asks(
        self, imds_emulator: Emulator, tmp_path: Path, monkeypatch: Any, package: str, requests: int
    ) -> None:
        tmp_path.chmod(0o700)
        monkeypatch.setenv("IMDS_IDENTITY_CACHE", str(tmp_path))
        program = f"from {package} import ManagedIdentityCredential as C; C().get_token({SCOPE!r})"
        for _ in "ab":
            subprocess.run([sys.executable, "-c", program], check=True)
        assert len(imds_emulator.token_requests) == requests


@pytest.mark.parametrize(
    "selector", [{"klient_id": "1234"}, {"identity_config": {"objekt_id": "1234"}}]
)
def test_a_misspelt_selector_gets_theirs_another_identity_s_token(
    imds_emulator: Emulator, selector: Any
) -> None:
    assert THEIRS(**selector).get_token(SCOPE)
    assert "client_id" not in imds_emulator.token_requests[-1].query
    assert "object_id" not in imds_emulator.token_requests[-1].query
    with pytest.raises((TypeError, ValueError)):
        OURS(**selector)


def test_their_caller_waits_for_a_refresh_and_for_its_retries(
    imds_emulator: Emulator, monkeypatch: Any
) -> None:
    credential = THEIRS(retry_backoff_factor=0.01)
    token = credential.get_token(SCOPE).token
    half_a_day_later = time.time() + 43_300
    monkeypatch.setattr(
        msal.managed_identity, "time", SimpleNamespace(time=lambda: half_a_day_later)
    )
    imds_emulator.fault(status=500)
    assert credential.get_token(SCOPE).token == token
    assert len(imds_emulator.token_requests) == 1 + 6


def test_their_retries_come_back_in_step() -> None:
    policy = azure.identity._credentials.imds.ImdsRetryPolicy(retry_backoff_factor=0.8)
    settings = {**policy.configure_retries({}), "backoff": 0.8, "history": ["one", "two"]}
    assert len({policy.get_backoff_time(settings) for _ in range(100)}) == 1


def test_where_an_answer_disagrees_with_itself_theirs_believes_the_later_end(
    imds_emulator: Emulator,
) -> None:
    now = int(time.time())
    said = {"access_token": "t", "expires_in": "86400", "expires_on": str(now + 600)}
    answer = {**said, "token_type": "Bearer", "resource": "https://vault.azure.net"}
    imds_emulator.fault(status=200, body=json.dumps(answer), content_type="application/json")
    assert THEIRS().get_token(SCOPE).expires_on > now + 86_000
    assert OURS().get_token(SCOPE).expires_on < now + 700


def test_theirs_asks_through_the_environment_s_proxy(
    imds_emulator: Emulator, monkeypatch: Any
) -> None:
    answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    with RawServer(answer) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        with pytest.raises(azure.identity.CredentialUnavailableError):
            THEIRS().get_token(SCOPE)
        assert "access_token" not in msal_token()
        assert len(proxy.requests) == 2
        assert OURS().get_token(SCOPE)
        assert len(proxy.requests) == 2
    assert len(imds_emulator.token_requests) == 1


def test_msal_with_a_session_of_requests_follows_redirects(monkeypatch: Any) -> None:
    answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    with RawServer(answer) as elsewhere:
        moved = (
            f"HTTP/1.1 302 Found\r\nLocation: {elsewhere.url}/x\r\n"
            "Content-Length: 0\r\nConnection: close\r\n\r\n"
        )
        with RawServer(moved.encode()) as service:
            monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", service.url)
            msal_token()
            assert len(elsewhere.requests) == 1
            for credential in (THEIRS(), OURS()):
                with pytest.raises(ClientAuthenticationError):
                    credential.get_token(SCOPE)
            assert len(elsewhere.requests) == 1


@pytest.mark.parametrize(("package", "works"), [("azure.identity", False), ("imds_identity", True)])
def test_their_async_credential_needs_aiohttp(
    imds_emulator: Emulator, package: str, works: bool
) -> None:
    assert imds_emulator
    program = (
        "import sys; sys.modules['aiohttp'] = None; import asyncio\n"
        f"from {package}.aio import ManagedIdentityCredential as C\n"
        f"async def main(): await C().get_token({SCOPE!r})\n"
        "asyncio.run(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert (done.returncode == 0) is works, done.stderr
    assert works or "aiohttp" in done.stderr
