"""docs/comparison.md is correct for the installed versions of other clients."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import re
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
AzureIdentityCredential: Any = azure.identity.ManagedIdentityCredential
ImdsIdentityCredential: Any = imds_identity.ManagedIdentityCredential
THREADS = 8


def get_msal_token() -> dict[str, Any]:
    client = msal.ManagedIdentityClient(
        msal.SystemAssignedManagedIdentity(), http_client=requests.Session()
    )
    token: dict[str, Any] = client.acquire_token_for_client(resource="https://vault.azure.net")
    return token


def call_concurrently(call: Callable[[], object]) -> None:
    """Call from many threads at the same moment."""
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
def test_page_names_the_installed_versions(package: str) -> None:
    major, minor, *_ = importlib.metadata.version(package).split(".")
    assert f"{package} {major}.{minor}" in PAGE


def test_page_names_tests_of_this_file() -> None:
    names = re.findall(r"`(test_\w+)`", PAGE)
    assert len(names) > 8
    assert not [name for name in names if f"def {name}(" not in Path(__file__).read_text("utf-8")]


class TestRequests:
    def test_each_credential_of_other_clients_sends_a_request(
        self, imds_emulator: Emulator
    ) -> None:
        for _ in "ab":
            AzureIdentityCredential().get_token(SCOPE)
        assert len(imds_emulator.token_requests) == 2
        for _ in "ab":
            get_msal_token()
        assert len(imds_emulator.token_requests) == 4
        for _ in "ab":
            ImdsIdentityCredential().get_token(SCOPE)
        assert len(imds_emulator.token_requests) == 5

    def test_each_thread_sends_a_request_with_azure_identity(self, imds_emulator: Emulator) -> None:
        imds_emulator.fault(delay=0.3)
        theirs, ours = AzureIdentityCredential(), ImdsIdentityCredential()
        call_concurrently(lambda: theirs.get_token(SCOPE))
        assert len(imds_emulator.token_requests) == THREADS
        call_concurrently(lambda: ours.get_token(SCOPE))
        assert len(imds_emulator.token_requests) == THREADS + 1

    def test_each_task_sends_a_request_with_azure_identity(self, imds_emulator: Emulator) -> None:
        imds_emulator.fault(delay=0.3)

        async def tasks(credential: Any) -> None:
            async with credential:
                await asyncio.gather(*(credential.get_token(SCOPE) for _ in range(THREADS)))

        asyncio.run(tasks(azure.identity.aio.ManagedIdentityCredential()))
        assert len(imds_emulator.token_requests) == THREADS
        asyncio.run(tasks(imds_identity.aio.ManagedIdentityCredential()))
        assert len(imds_emulator.token_requests) == THREADS + 1

    @pytest.mark.skipif(sys.platform == "win32", reason="the shared cache needs POSIX")
    @pytest.mark.parametrize(("package", "requests"), [("azure.identity", 2), ("imds_identity", 1)])
    def test_each_process_sends_a_request_with_azure_identity(
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
def test_azure_identity_ignores_a_misspelled_selector(
    imds_emulator: Emulator, selector: Any
) -> None:
    assert AzureIdentityCredential(**selector).get_token(SCOPE)
    assert "client_id" not in imds_emulator.token_requests[-1].query
    assert "object_id" not in imds_emulator.token_requests[-1].query
    with pytest.raises((TypeError, ValueError)):
        ImdsIdentityCredential(**selector)


def test_caller_of_azure_identity_waits_for_a_refresh_and_its_retries(
    imds_emulator: Emulator, monkeypatch: Any
) -> None:
    credential = AzureIdentityCredential(retry_backoff_factor=0.01)
    token = credential.get_token(SCOPE).token
    half_a_day_later = time.time() + 43_300
    monkeypatch.setattr(
        msal.managed_identity, "time", SimpleNamespace(time=lambda: half_a_day_later)
    )
    imds_emulator.fault(status=500)
    assert credential.get_token(SCOPE).token == token
    assert len(imds_emulator.token_requests) == 1 + 6


def test_retries_of_azure_identity_have_no_jitter() -> None:
    policy = azure.identity._credentials.imds.ImdsRetryPolicy(retry_backoff_factor=0.8)
    settings = {**policy.configure_retries({}), "backoff": 0.8, "history": ["one", "two"]}
    assert len({policy.get_backoff_time(settings) for _ in range(100)}) == 1


def test_azure_identity_uses_the_later_of_two_contradicting_expiry_times(
    imds_emulator: Emulator,
) -> None:
    now = int(time.time())
    expiry = {"access_token": "t", "expires_in": "86400", "expires_on": str(now + 600)}
    body = {**expiry, "token_type": "Bearer", "resource": "https://vault.azure.net"}
    imds_emulator.fault(status=200, body=json.dumps(body), content_type="application/json")
    assert AzureIdentityCredential().get_token(SCOPE).expires_on > now + 86_000
    assert ImdsIdentityCredential().get_token(SCOPE).expires_on < now + 700


def test_azure_identity_and_msal_use_the_proxy_of_the_environment(
    imds_emulator: Emulator, monkeypatch: Any
) -> None:
    response = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    with RawServer(response) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        with pytest.raises(azure.identity.CredentialUnavailableError):
            AzureIdentityCredential().get_token(SCOPE)
        assert "access_token" not in get_msal_token()
        assert len(proxy.requests) == 2
        assert ImdsIdentityCredential().get_token(SCOPE)
        assert len(proxy.requests) == 2
    assert len(imds_emulator.token_requests) == 1


def test_msal_with_a_requests_session_follows_redirects(monkeypatch: Any) -> None:
    response = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    with RawServer(response) as target:
        redirect = (
            f"HTTP/1.1 302 Found\r\nLocation: {target.url}/x\r\n"
            "Content-Length: 0\r\nConnection: close\r\n\r\n"
        )
        with RawServer(redirect.encode()) as service:
            monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", service.url)
            get_msal_token()
            assert len(target.requests) == 1
            for credential in (AzureIdentityCredential(), ImdsIdentityCredential()):
                with pytest.raises(ClientAuthenticationError):
                    credential.get_token(SCOPE)
            assert len(target.requests) == 1


@pytest.mark.parametrize(("package", "works"), [("azure.identity", False), ("imds_identity", True)])
def test_async_credential_of_azure_identity_needs_aiohttp(
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
