"""Async classes under an event loop that is not asyncio's, such as trio's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import imds_identity.aio
import imds_identity.metadata.aio
from imds_identity._platform.threads import running_loop

if TYPE_CHECKING:
    from collections.abc import Callable

SCOPE = "https://vault.azure.net/.default"


def next_change() -> Any:
    return anext(imds_identity.metadata.aio.MetadataClient(endpoint="http://127.0.0.1:9").watch())


@pytest.mark.parametrize(
    "call",
    [
        lambda: imds_identity.aio.ManagedIdentityCredential(source="imds").get_token(SCOPE),
        lambda: imds_identity.aio.ManagedIdentityCredential(source="imds").get_token_info(SCOPE),
        lambda: imds_identity.aio.ManagedIdentityCredential(
            source="imds", user_agent="x"
        ).get_token(SCOPE, claims='{"access_token": {}}'),
        lambda: imds_identity.metadata.aio.MetadataClient(endpoint="http://127.0.0.1:9").instance(),
        next_change,
    ],
)
def test_error_under_another_event_loop_names_asyncio_and_trio(
    monkeypatch: pytest.MonkeyPatch, call: Callable[[], Any]
) -> None:
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:9")
    with pytest.raises(
        RuntimeError, match=r"no running asyncio event loop.*trio\.to_thread"
    ) as caught:
        call().send(None)  # as any event loop does
    assert caught.value.__context__ is None


def test_running_loop_is_returned() -> None:
    import asyncio

    async def main() -> bool:
        return running_loop("f") is asyncio.get_running_loop()

    assert asyncio.run(main())
