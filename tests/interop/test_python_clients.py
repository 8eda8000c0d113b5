"""Other Python clients get tokens from the emulator."""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path
from typing import Any

import pytest
from interop_support import ARC_SETUP, VAULT, in_namespace

from imds_identity.emulator import DEFAULT_USER_ASSIGNED, Emulator

pytestmark = pytest.mark.interop


def test_azure_identity_on_a_vm(imds_emulator: Emulator) -> None:
    from azure.identity import ManagedIdentityCredential

    with ManagedIdentityCredential() as credential:
        assert credential.get_token(VAULT).token
    with ManagedIdentityCredential(client_id=DEFAULT_USER_ASSIGNED.client_id) as credential:
        assert credential.get_token_info(VAULT).token
    assert [request.status for request in imds_emulator.token_requests] == [200, 200]


def test_azure_identity_aio_on_a_vm(imds_emulator: Emulator) -> None:
    from azure.identity.aio import ManagedIdentityCredential

    async def main() -> None:
        async with ManagedIdentityCredential() as credential:
            assert (await credential.get_token(VAULT)).token

    asyncio.run(main())


def test_azure_identity_on_app_service(
    emulator_factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from azure.identity import ManagedIdentityCredential

    for name, value in emulator_factory("app-service").environment().items():
        monkeypatch.setenv(name, value)
    with ManagedIdentityCredential() as credential:
        assert credential.get_token(VAULT).token


def test_azure_identity_aio_on_app_service(
    emulator_factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from azure.identity.aio import ManagedIdentityCredential

    async def main() -> None:
        async with ManagedIdentityCredential() as credential:
            assert (await credential.get_token(VAULT)).token

    for name, value in emulator_factory("app-service").environment().items():
        monkeypatch.setenv(name, value)
    asyncio.run(main())


def test_this_package_on_app_service(
    emulator_factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import imds_identity

    emulator = emulator_factory("app-service")
    for name, value in emulator.environment().items():
        monkeypatch.setenv(name, value)
    user = imds_identity.ManagedIdentityCredential(client_id=DEFAULT_USER_ASSIGNED.client_id)
    assert imds_identity.ManagedIdentityCredential().get_token(VAULT).token
    assert user.get_token(VAULT).token
    assert user.get_token(VAULT, claims="{}").token
    assert len(emulator.token_requests) == 3


def test_msal_on_a_vm(imds_emulator: Emulator) -> None:
    msal = importlib.import_module("msal")
    requests = importlib.import_module("requests")

    with requests.Session() as session:
        client = msal.ManagedIdentityClient(
            msal.SystemAssignedManagedIdentity(), http_client=session
        )
        assert client.acquire_token_for_client(resource="https://vault.azure.net")["access_token"]


def test_azure_identity_and_msal_on_an_arc_server() -> None:
    """Both require the default tokens directory, so they run in a mount namespace."""
    script = Path(__file__).parent / "namespace_arc.py"
    output = in_namespace(["-m", "--propagation", "private"], ARC_SETUP, script, "python")
    assert output.split() == ["azure-identity", "azure-identity-aio", "msal", "imds-identity"]


@pytest.mark.parametrize("account", ["devstoreaccount1"])
def test_obstore(imds_emulator: Emulator, account: str) -> None:
    """obstore (Rust) gets a token, then fails to reach the storage service."""
    store = pytest.importorskip("obstore.store")
    azure = store.AzureStore(
        "container",
        account_name=account,
        msi_endpoint=f"{imds_emulator.endpoint}/metadata/identity/oauth2/token",
        endpoint="http://127.0.0.1:9",
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    obstore = importlib.import_module("obstore")
    with pytest.raises(Exception, match=r"127\.0\.0\.1"):
        list(obstore.list(azure))
    assert [request.status for request in imds_emulator.token_requests] == [200]
