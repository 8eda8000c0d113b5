"""azure-keyvault-secrets with this credential, sync and async, on a VM and on an Arc server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from azure.keyvault.secrets import SecretClient
from azure.keyvault.secrets.aio import SecretClient as AsyncSecretClient

import imds_identity
import imds_identity.aio

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.interop


@pytest.fixture(params=["vm", "arc"])
def emulator(
    request: pytest.FixtureRequest,
    emulator_factory: Callable[..., Emulator],
    monkeypatch: pytest.MonkeyPatch,
) -> Emulator:
    emulator = emulator_factory(request.param)
    for name, value in emulator.environment().items():
        monkeypatch.setenv(name, value)
    return emulator


def credential_settings(emulator: Emulator) -> dict[str, Any]:
    directory = emulator.tokens_directory
    return {"arc_tokens_directory": str(directory)} if directory else {}


def client_settings(emulator: Emulator) -> dict[str, Any]:
    return {
        "vault_url": emulator.key_vault.url,
        "verify_challenge_resource": False,
        "connection_verify": emulator.key_vault.ca_file,
    }


def count_issued(emulator: Emulator) -> int:
    return sum(request.status == 200 for request in emulator.token_requests)


def test_sync_client_replaces_a_revoked_token(emulator: Emulator) -> None:
    credential = imds_identity.ManagedIdentityCredential(**credential_settings(emulator))
    with SecretClient(credential=credential, **client_settings(emulator)) as client:
        assert client.get_secret("greeting").value == emulator.key_vault.secrets["greeting"]
        assert count_issued(emulator) == 1
        if emulator.profile == "vm":  # the cache of an Arc agent cannot be bypassed
            emulator.revoke_tokens()
            assert client.get_secret("greeting").value
            assert count_issued(emulator) == 2


def test_async_client_reads_many_secrets_with_one_token(emulator: Emulator) -> None:
    async def main() -> None:
        credential = imds_identity.aio.ManagedIdentityCredential(**credential_settings(emulator))
        async with AsyncSecretClient(credential=credential, **client_settings(emulator)) as client:
            secrets = await asyncio.gather(*(client.get_secret("greeting") for _ in range(20)))
        assert {secret.value for secret in secrets} == {emulator.key_vault.secrets["greeting"]}

    asyncio.run(main())
    assert count_issued(emulator) == 1
