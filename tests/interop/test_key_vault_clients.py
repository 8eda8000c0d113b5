"""azure-keyvault-secrets, sync and aio, with this credential, as a VM and as an Arc server."""

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
    started = emulator_factory(request.param)
    for name, value in started.environment().items():
        monkeypatch.setenv(name, value)
    return started


def settings(emulator: Emulator) -> dict[str, Any]:
    directory = emulator.tokens_directory
    return {"arc_tokens_directory": str(directory)} if directory else {}


def client_settings(emulator: Emulator) -> dict[str, Any]:
    return {
        "vault_url": emulator.key_vault.url,
        "verify_challenge_resource": False,
        "connection_verify": emulator.key_vault.ca_file,
    }


def granted(emulator: Emulator) -> int:
    return sum(request.status == 200 for request in emulator.token_requests)


def test_a_revoked_token_is_replaced_by_the_sync_client(emulator: Emulator) -> None:
    credential = imds_identity.ManagedIdentityCredential(**settings(emulator))
    with SecretClient(credential=credential, **client_settings(emulator)) as client:
        assert client.get_secret("greeting").value == emulator.key_vault.secrets["greeting"]
        assert granted(emulator) == 1
        if emulator.profile == "vm":  # an Arc agent knows no way to skip its cache
            emulator.revoke_tokens()
            assert client.get_secret("greeting").value
            assert granted(emulator) == 2


def test_many_secrets_cost_the_async_client_one_token(emulator: Emulator) -> None:
    async def main() -> None:
        credential = imds_identity.aio.ManagedIdentityCredential(**settings(emulator))
        async with AsyncSecretClient(credential=credential, **client_settings(emulator)) as client:
            got = await asyncio.gather(*(client.get_secret("greeting") for _ in range(20)))
        assert {secret.value for secret in got} == {emulator.key_vault.secrets["greeting"]}

    asyncio.run(main())
    assert granted(emulator) == 1
