"""Async classes under trio, which they do not support, and the alternative that they name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import imds_identity
import imds_identity.aio
import imds_identity.httpx
import imds_identity.metadata.aio

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.interop
SCOPE = "https://vault.azure.net/.default"
trio: Any = pytest.importorskip("trio")


async def send_with_httpx() -> None:
    import httpx

    async with httpx.AsyncClient(auth=imds_identity.httpx.ManagedIdentityAuth(SCOPE)) as client:
        await client.get("https://localhost:9/")


@pytest.mark.parametrize(
    "call",
    [
        lambda: imds_identity.aio.ManagedIdentityCredential().get_token(SCOPE),
        lambda: imds_identity.metadata.aio.MetadataClient().instance(),
        lambda: anext(imds_identity.metadata.aio.MetadataClient().watch()),
        send_with_httpx,
    ],
)
def test_error_names_asyncio_and_trio(imds_emulator: Emulator, call: Callable[[], Any]) -> None:
    async def main() -> None:
        await call()

    with pytest.raises(RuntimeError, match=r"no running asyncio event loop.*trio\.to_thread"):
        trio.run(main)
    assert imds_emulator.requests == []


def test_sync_credential_works_in_a_thread(imds_emulator: Emulator) -> None:
    credential = imds_identity.ManagedIdentityCredential()
    assert trio.run(trio.to_thread.run_sync, credential.get_token, SCOPE).token
    assert len(imds_emulator.token_requests) == 1
