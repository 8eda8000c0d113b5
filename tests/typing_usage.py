"""Type checkers check this program, and nothing runs it: the types of the public API."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import requests
from azure.keyvault.secrets import SecretClient
from azure.keyvault.secrets.aio import SecretClient as AsyncSecretClient

import imds_identity
import imds_identity.aio
from imds_identity.metadata import AttestedDocument, MetadataClient, aio
from imds_identity.telemetry import PrometheusTextFile

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from azure.core.credentials import SupportsTokenInfo, TokenCredential
    from azure.core.credentials_async import AsyncSupportsTokenInfo, AsyncTokenCredential


def clients() -> None:
    credential = imds_identity.ManagedIdentityCredential(identity_config={"object_id": "o"})
    SecretClient("https://v.vault.azure.net", credential)
    AsyncSecretClient("https://v.vault.azure.net", imds_identity.aio.ManagedIdentityCredential())
    requests.get("https://x", auth=imds_identity.ManagedIdentityAuth("s", client_id="c"), timeout=1)


def keywords(transport: object) -> None:
    imds_identity.ManagedIdentityCredential(
        transport=transport,
        retry_total=0,
        connection_timeout=1,
        headers={"X-One": "1"},
        cache=False,
        arc_tokens_directory=Path("/tokens"),
        on_event=PrometheusTextFile(Path("/metrics/a.prom")),
    )
    imds_identity.ManagedIdentityCredential("a-client-id")  # type: ignore[call-arg]
    imds_identity.ManagedIdentityCredential(client_idd="x")  # type: ignore[call-arg]
    imds_identity.aio.ManagedIdentityCredential(retry_total="3")  # type: ignore[arg-type]


async def metadata_clients(client: aio.MetadataClient) -> None:
    size: str | None = MetadataClient().compute(timeout=2, retry=False, max_age=60).vm_size
    document: AttestedDocument = await client.attested_document(timeout=2, offline=True, nonce="1")
    MetadataClient().versions(refresh=True)  # type: ignore[call-arg]
    await client.tags(timeouts=2)  # type: ignore[call-arg]
    await client.attested_document(offline="yes")  # type: ignore[arg-type]
    del size, document


def protocols() -> None:
    credential: TokenCredential = imds_identity.ManagedIdentityCredential()
    with_info: SupportsTokenInfo = imds_identity.ManagedIdentityCredential()
    async_credential: AsyncTokenCredential = imds_identity.aio.ManagedIdentityCredential()
    async_with_info: AsyncSupportsTokenInfo = imds_identity.aio.ManagedIdentityCredential()
    provider: Callable[[], str] = imds_identity.get_bearer_token_provider(credential, "s")
    async_provider: Callable[[], Awaitable[str]] = imds_identity.aio.get_bearer_token_provider(
        async_credential, "s"
    )
    del with_info, async_with_info, provider, async_provider


def errors() -> str:
    try:
        return imds_identity.ManagedIdentityCredential().get_token("s").token
    except imds_identity.CredentialUnavailableError as error:
        return f"{error.message} {error.status_code} {error.attempts} {error.seconds}"
