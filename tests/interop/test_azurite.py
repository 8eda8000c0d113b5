"""Azurite, Microsoft's storage emulator, accepts tokens from this credential."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import HttpResponseError
from azurite_support import run_azurite

import imds_identity
import imds_identity.aio

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imds_identity.emulator import Emulator

pytestmark = [
    pytest.mark.interop,
    # The storage clients close their async responses late.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with run_azurite(tmp_path_factory.mktemp("azurite")) as settings:
        yield settings


@pytest.mark.usefixtures("imds_emulator")
def test_sync_blob_client_lists_blobs(azurite: dict[str, Any]) -> None:
    from azure.storage.blob import BlobServiceClient

    credential = imds_identity.ManagedIdentityCredential()
    with BlobServiceClient(
        azurite["blob"], credential, connection_verify=azurite["verify"]
    ) as client:
        container = client.create_container("sync")
        container.upload_blob("a", b"1")
        container.upload_blob("b", b"2")
        assert [blob.name for blob in container.list_blobs()] == ["a", "b"]


def test_async_blob_client_lists_blobs_with_one_token_request(
    azurite: dict[str, Any], imds_emulator: Emulator
) -> None:
    from azure.storage.blob.aio import BlobServiceClient

    async def main() -> list[str]:
        credential = imds_identity.aio.ManagedIdentityCredential()
        async with BlobServiceClient(
            azurite["blob"], credential, connection_verify=azurite["verify"]
        ) as client:
            container = await client.create_container("async")
            await asyncio.gather(*(container.upload_blob(f"{n}", b"x") for n in range(5)))
            return [blob.name async for blob in container.list_blobs()]

    assert asyncio.run(main()) == ["0", "1", "2", "3", "4"]
    assert len(imds_emulator.token_requests) == 1


@pytest.mark.usefixtures("imds_emulator")
def test_queue_client_sends_and_receives_messages(azurite: dict[str, Any]) -> None:
    from azure.storage.queue import QueueServiceClient

    credential = imds_identity.ManagedIdentityCredential()
    with QueueServiceClient(
        azurite["queue"], credential=credential, connection_verify=azurite["verify"]
    ) as client:
        queue = client.create_queue("messages")
        queue.send_message("hello")
        assert [message.content for message in queue.receive_messages()] == ["hello"]


@pytest.mark.usefixtures("imds_emulator")
def test_table_client_reads_entities(azurite: dict[str, Any]) -> None:
    from azure.data.tables import TableServiceClient

    credential = imds_identity.ManagedIdentityCredential()
    with TableServiceClient(
        azurite["table"], credential=credential, connection_verify=azurite["verify"]
    ) as client:
        table = client.create_table("entities")
        table.create_entity({"PartitionKey": "p", "RowKey": "r", "value": 7})
        assert table.get_entity("p", "r")["value"] == 7


@pytest.mark.usefixtures("imds_emulator")
def test_a_token_for_another_service_is_refused(azurite: dict[str, Any]) -> None:
    from azure.storage.blob import BlobServiceClient

    class WrongResourceCredential(imds_identity.ManagedIdentityCredential):
        def get_token(self, *scopes: str, **kwargs: Any) -> Any:
            return super().get_token("https://vault.azure.net/.default")

        def get_token_info(self, *scopes: str, **kwargs: Any) -> Any:
            return super().get_token_info("https://vault.azure.net/.default")

    with (
        BlobServiceClient(
            azurite["blob"],
            WrongResourceCredential(),
            connection_verify=azurite["verify"],
            retry_total=0,
        ) as client,
        pytest.raises(HttpResponseError),
    ):
        list(client.list_containers())
