"""The metadata client against the emulator."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import requests

from imds_identity.emulator import Emulator, Machine
from imds_identity.metadata import MetadataClient, errors
from imds_identity.metadata.aio import MetadataClient as AsyncMetadataClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def started() -> Iterator[Callable[..., Emulator]]:
    running: list[Emulator] = []

    def start(profile: Any = "vm", **arguments: Any) -> Emulator:
        running.append(Emulator(profile, **{"key_vault": False, **arguments}))
        return running[-1].start()

    yield start
    for emulator in running:
        emulator.stop()


def client_of(emulator: Emulator, **arguments: Any) -> MetadataClient:
    return MetadataClient(endpoint=emulator.endpoint, **arguments)


def trust_in(emulator: Emulator) -> dict[str, Any]:
    """What it takes to verify the emulator's documents, whose issuer is at no public address."""
    url = f"{emulator.endpoint}/emulator/attested/intermediate.cer"
    issuer = requests.get(url, headers={"Metadata": "true"}, timeout=10).content
    return {
        "ca_file": emulator.attested_root_file,
        "intermediates": [issuer],
        "offline": True,
    }


def leaf_paths(document: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(document, str):
        yield path.lstrip("/"), document
        return
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for name, value in items:
        yield from leaf_paths(value, f"{path}/{name}")


@pytest.mark.parametrize("version", ["2017-04-02", "2019-06-01", "2021-05-01", None])
@pytest.mark.parametrize("profile", ["vm", "stack-hub", "arc"])
def test_all_leaf_paths_are_read(
    started: Callable[..., Emulator], profile: Any, version: Any
) -> None:
    client = client_of(started(profile), api_version=version)
    document = client.instance().raw
    paths = list(leaf_paths(document))
    assert len(paths) > 5
    assert all(client.get(path) == value for path, value in paths)
    assert client.get("/metadata/instance/compute") == document["compute"]
    with pytest.raises(errors.MetadataNotFoundError, match="there is no 'NAME'"):
        client.get("compute/NAME")


def test_one_fetch_feeds_all_the_parts(started: Callable[..., Emulator]) -> None:
    emulator = started(machine=Machine(tags={"a": "b;c:d"}))
    client = client_of(emulator)
    assert client.compute().vm_id == emulator.machine.vm_id
    assert client.network().interfaces[0].mac_address == "00:0d:3a:00:00:04"
    assert client.storage_profile().os_disk.disk_size_gb == 30
    assert client.tags() == {"a": "b;c:d"}
    assert len(emulator.requests) == 1
    client.tags(refresh=True)
    assert len(emulator.requests) == 2


def test_public_addresses_come_from_both_documents(started: Callable[..., Emulator]) -> None:
    client = client_of(started())
    assert client.public_ips() == ("203.0.113.4", "203.0.113.10")
    alone = client_of(started(machine=Machine(load_balancer=None)))
    assert not alone.load_balancer()
    assert alone.public_ips() == ("203.0.113.4",)


def test_what_the_service_knows_is_told(started: Callable[..., Emulator]) -> None:
    emulator = started()
    client = client_of(emulator)
    assert client.versions()[-1] == "2025-04-07"
    assert client.identity_info() == emulator.machine.tenant_id


def test_an_old_region_is_asked_by_what_it_knows(started: Callable[..., Emulator]) -> None:
    emulator = started(newest_version="2019-04-30")
    client = client_of(emulator)
    assert client.compute().resource_id
    client.instance(refresh=True)
    assert len(emulator.requests) == 3
    with pytest.raises(errors.NotOfferedError, match="loadbalancer came with 2020-10-01"):
        client.load_balancer()
    with pytest.raises(errors.UnsupportedVersionError):
        client_of(emulator, api_version="2021-02-01").instance()


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.load_balancer(),
        lambda client: client.attested_document(),
        lambda client: client.identity_info(),
    ],
    ids=["loadbalancer", "attested", "identity"],
)
def test_what_azure_stack_hub_lacks_has_an_error_of_its_own(
    started: Callable[..., Emulator], ask: Callable[[MetadataClient], Any]
) -> None:
    emulator = started("stack-hub", machine=Machine(environment="AzureStack"))
    with pytest.raises(errors.NotOfferedError, match="not available on Azure Stack Hub"):
        ask(client_of(emulator))


def test_an_attested_document_is_fetched_and_verified(started: Callable[..., Emulator]) -> None:
    emulator = started()
    client = client_of(emulator)
    proof = client.attested_document(**trust_in(emulator))
    assert proof.vm_id == emulator.machine.vm_id
    assert proof.nonce is not None
    assert len(proof.nonce) == 10
    with pytest.raises(errors.MissingIntermediateError):
        client.attested_document(nonce="abc", ca_file=emulator.attested_root_file)
    with pytest.raises(errors.UnknownRootError):
        client.attested_document(intermediates=trust_in(emulator)["intermediates"], offline=True)
    with pytest.raises(ValueError, match="letters and digits"):
        client.attested_document(nonce="a-b")


def test_scheduled_events_are_read_and_started(started: Callable[..., Emulator]) -> None:
    emulator = started()
    client = client_of(emulator)
    assert client.scheduled_events().events == ()
    event_id = emulator.schedule_event("Reboot")
    (event,) = client.scheduled_events().events
    assert event.event_id == event_id
    assert event.concerns(emulator.machine.name)
    client.start(event_id)
    assert client.scheduled_events().events[0].has_started
    with pytest.raises(errors.MetadataRefusedError):
        client.start("no-such-event")


def test_nothing_there_is_unavailable() -> None:
    client = MetadataClient(endpoint="http://127.0.0.1:9")
    with pytest.raises(errors.MetadataUnavailableError, match=r"http://127\.0\.0\.1:9"):
        client.instance()


def test_wrong_arguments_are_told_so() -> None:
    with pytest.raises(ValueError, match="api_version must look like"):
        MetadataClient(api_version="latest")
    with pytest.raises(ValueError, match="http or https URL"):
        MetadataClient(endpoint="169.254.169.254")


def test_the_service_of_this_machine_is_found(
    started: Callable[..., Emulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = started()
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", emulator.endpoint)
    assert MetadataClient().compute().vm_id == emulator.machine.vm_id


def test_coroutines_have_a_twin_with_the_same_methods(started: Callable[..., Emulator]) -> None:
    emulator = started()
    emulator.schedule_event("Freeze")

    async def ask() -> None:
        client = AsyncMetadataClient(endpoint=emulator.endpoint)
        assert (await client.compute()).vm_id == emulator.machine.vm_id
        assert await client.get("compute/vmId") == emulator.machine.vm_id
        assert len((await client.scheduled_events()).events) == 1
        proof = await client.attested_document(**trust_in(emulator))
        assert proof.vm_id == emulator.machine.vm_id

    asyncio.run(ask())
    public = {name for name in vars(MetadataClient) if not name.startswith("_")}
    assert public == {name for name in vars(AsyncMetadataClient) if not name.startswith("_")}
