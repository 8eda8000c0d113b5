"""The metadata client with the emulator."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import os
import pickle
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import requests

from imds_identity.emulator import Emulator, Machine
from imds_identity.metadata import MetadataClient, errors
from imds_identity.metadata.aio import MetadataClient as AsyncMetadataClient
from metadata_support import client_of, trust_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def leaf_paths(document: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(document, str):
        yield path.lstrip("/"), document
        return
    # Azure Arc's agent has null in place of a list.
    items = document.items() if isinstance(document, dict) else enumerate(document or ())
    for name, value in items:
        yield from leaf_paths(value, f"{path}/{name}")


SCALE_SET = {
    "name": "pool_3",
    "resourceId": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/"
    "virtualMachineScaleSets/pool/virtualMachines/3",
    "vmScaleSetName": "pool",
    "virtualMachineScaleSet": {"id": "/subscriptions/s/.../virtualMachineScaleSets/pool"},
    "platformFaultDomain": "2",
    "platformSubFaultDomain": "1",
    "storageProfile": {
        "dataDisks": [
            {"lun": "0", "diskSizeGB": "1024", "isSharedDisk": "false", "name": "first"},
            {"lun": "1", "managedDisk": {"id": "/d", "storageAccountType": "UltraSSD_LRS"}},
        ]
    },
}
KINDS: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "a VM of 2017": ("vm", "2017-04-02", {}),
    "a VM of 2017-12": ("vm", "2017-12-01", {}),
    "a VM of today": ("vm", None, {}),
    "a scale set": ("vm", None, SCALE_SET),
    "Azure Stack Hub": ("stack-hub", None, {"azEnvironment": "AzureStack"}),
    "an Azure Arc server": ("arc", None, {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_leaf_can_be_read_by_its_path(
    start_emulator: Callable[..., Emulator], kind: str
) -> None:
    profile, version, compute = KINDS[kind]
    emulator = start_emulator(profile, machine=Machine(compute=compute))
    client = client_of(emulator, api_version=version)
    document = client.instance().raw
    paths = list(leaf_paths(document))
    assert len(paths) > (12 if version else 5)
    assert all(client.get(path) == value for path, value in paths)
    assert client.get("/metadata/instance/compute") == document["compute"]
    with pytest.raises(errors.MetadataNotFoundError, match="there is no 'NAME'"):
        client.get("compute/NAME")
    # The service has the same paths and values.
    for path, value in random.Random(kind).sample(paths, 5):
        query = {"api-version": version or "2021-02-01", "format": "text"}
        url = f"{emulator.endpoint}/metadata/instance/{path}"
        response = requests.get(url, params=query, headers={"Metadata": "true"}, timeout=10)
        assert response.status_code == 404 or response.text == value


@pytest.mark.parametrize("kind", KINDS)
def test_every_leaf_has_a_typed_field(start_emulator: Callable[..., Emulator], kind: str) -> None:
    profile, version, compute = KINDS[kind]
    emulator = start_emulator(profile, machine=Machine(compute=compute))
    instance = client_of(emulator, api_version=version).instance()
    assert list(extras(instance)) == []


def extras(node: Any, path: str = "") -> Iterator[str]:
    """Yield the fields of a document without a typed field."""
    if isinstance(node, tuple):
        for index, item in enumerate(node):
            yield from extras(item, f"{path}/{index}")
    elif dataclasses.is_dataclass(node):
        yield from (f"{path}/{name}" for name in getattr(node, "extra", {}))
        for each in dataclasses.fields(node):
            if each.name != "raw":
                yield from extras(getattr(node, each.name), f"{path}/{each.name}")


def test_one_request_provides_all_parts(start_emulator: Callable[..., Emulator]) -> None:
    emulator = start_emulator(machine=Machine(tags={"a": "b;c:d"}))
    client = client_of(emulator)
    assert client.compute().vm_id == emulator.machine.vm_id
    assert client.network().interfaces[0].mac_address == "00:0d:3a:00:00:04"
    assert client.storage_profile().os_disk.disk_size_gb == 30
    assert client.tags() == {"a": "b;c:d"}
    assert len(emulator.requests) == 1
    client.tags(refresh=True)
    assert len(emulator.requests) == 2


def test_public_addresses_come_from_both_documents(start_emulator: Callable[..., Emulator]) -> None:
    client = client_of(start_emulator())
    assert client.public_ips() == ("203.0.113.4", "203.0.113.10")
    without = client_of(start_emulator(machine=Machine(load_balancer=None)))
    assert not without.load_balancer()
    assert without.public_ips() == ("203.0.113.4",)
    hub = client_of(start_emulator("stack-hub", machine=Machine(environment="AzureStack")))
    assert hub.public_ips() == ("203.0.113.4",)


@pytest.mark.parametrize("nonce", ["d2hhdC1h_Ym9y-ZS1hLW5vbmNlLTEy", "~" * 64, " "])
def test_the_service_decides_about_a_nonce(
    start_emulator: Callable[..., Emulator], nonce: str
) -> None:
    emulator = start_emulator()
    document = client_of(emulator).attested_document(nonce=nonce, **trust_arguments(emulator))
    assert document.nonce == nonce


def test_concurrent_threads_share_one_request(start_emulator: Callable[..., Emulator]) -> None:
    emulator = start_emulator()
    client = client_of(emulator)
    with ThreadPoolExecutor(20) as threads:
        found = list(threads.map(lambda _: client.compute().vm_id, range(50)))
    assert set(found) == {emulator.machine.vm_id}
    assert len(emulator.requests) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_that_was_forked_during_a_request_can_send_requests(
    start_emulator: Callable[..., Emulator],
) -> None:
    emulator = start_emulator()
    client = client_of(emulator)
    emulator.fault(category="instance", delay=0.5, times=1)
    requesting = threading.Thread(target=client.instance)
    requesting.start()
    lock = client._cache._lock._locks[os.getpid()]
    while lock.acquire(blocking=False):
        lock.release()
    child = os.fork()
    if not child:
        os._exit(0 if client.compute().vm_id == emulator.machine.vm_id else 1)
    requesting.join(20)
    assert os.waitpid(child, 0)[1] == 0


def test_versions_and_tenant_are_returned(start_emulator: Callable[..., Emulator]) -> None:
    emulator = start_emulator()
    client = client_of(emulator)
    assert client.versions()[-1] == "2025-11-15"
    assert client.identity_info() == emulator.machine.tenant_id


def test_an_old_version_is_negotiated(start_emulator: Callable[..., Emulator]) -> None:
    emulator = start_emulator(newest_version="2019-04-30")
    client = client_of(emulator)
    assert client.compute().resource_id
    client.instance(refresh=True)
    assert len(emulator.requests) == 3
    with pytest.raises(errors.UnsupportedOnHostError, match="loadbalancer requires 2020-10-01"):
        client.load_balancer()
    with pytest.raises(errors.UnsupportedVersionError):
        client_of(emulator, api_version="2021-02-01").instance()


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.load_balancer(),
        lambda client: client.attested_document(),
        lambda client: client.identity_info(),
        lambda client: client.scheduled_events(),
        lambda client: client.start("A"),
    ],
    ids=["loadbalancer", "attested", "identity", "events", "approval"],
)
def test_unsupported_categories_on_azure_stack_hub_raise(
    start_emulator: Callable[..., Emulator], call: Callable[[MetadataClient], Any]
) -> None:
    emulator = start_emulator("stack-hub", machine=Machine(environment="AzureStack"))
    with pytest.raises(errors.UnsupportedOnHostError, match="not available on Azure Stack Hub"):
        call(client_of(emulator))


def test_unsupported_categories_on_azure_arc_raise(
    start_emulator: Callable[..., Emulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = start_emulator("arc")
    for name, value in emulator.environment().items():
        monkeypatch.setenv(name, value)
    client = MetadataClient()
    assert client.compute().name == emulator.machine.name
    for call in (client.load_balancer, client.scheduled_events, client.attested_document):
        with pytest.raises(errors.UnsupportedOnHostError, match="not available on Azure Arc"):
            call()
    assert client.public_ips() == ()
    assert client.identity_info() == emulator.machine.tenant_id
    compute = client.compute()
    assert (compute.os_type, compute.publisher, compute.public_keys) == ("linux", None, ())
    assert client.instance() is client.instance()  # the document is whole without a network


@pytest.mark.parametrize("part", ["compute", "network"])
def test_a_partial_document_is_requested_again(
    start_emulator: Callable[..., Emulator], part: str
) -> None:
    emulator = start_emulator()
    emulator.fault(category="instance", document=f"without-{part}", times=1)
    client = client_of(emulator)
    assert client.instance().compute.vm_id == emulator.machine.vm_id
    assert client.network().interfaces
    assert [request.query.get("extended") for request in emulator.requests] == [None, "true"]
    emulator.fault(category="instance", document=f"without-{part}")
    with pytest.raises(errors.MetadataRefusedError, match="HTTP 500"):
        client.instance(refresh=True, retry=False)


def test_an_event_is_approved_with_an_old_version(start_emulator: Callable[..., Emulator]) -> None:
    emulator = start_emulator(newest_version="2019-08-15")
    client_of(emulator).start(emulator.schedule_event("Reboot"))
    assert emulator.events[0].status == "Started"


def test_scheduled_events_are_fetched_and_started(start_emulator: Callable[..., Emulator]) -> None:
    emulator = start_emulator()
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


def test_proxies_and_redirects_are_not_followed(
    start_emulator: Callable[..., Emulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = start_emulator()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    client = client_of(emulator)
    assert client.compute().vm_id == emulator.machine.vm_id
    elsewhere = start_emulator()
    emulator.fault(category="instance", status=302, headers={"Location": elsewhere.endpoint})
    with pytest.raises(errors.MetadataUnavailableError, match="redirect"):
        client.instance(refresh=True)
    assert elsewhere.requests == []


def test_a_client_is_pickled_as_its_settings() -> None:
    client = MetadataClient(endpoint="http://127.0.0.1:9", api_version="2021-02-01")
    copy = pickle.loads(pickle.dumps(client))
    assert copy._fetcher.endpoint.base == "http://127.0.0.1:9"
    assert copy._fetcher.endpoint.pinned_version == "2021-02-01"


def test_a_change_is_returned_after_the_next_request(
    start_emulator: Callable[..., Emulator],
) -> None:
    emulator = start_emulator()
    changes = iter(client_of(emulator).watch())
    emulator.schedule_event("Freeze")
    next(changes)
    requested = len(emulator.requests)
    event_id = emulator.schedule_event("Preempt")
    assert next(changes).event.event_id == event_id
    assert len(emulator.requests) - requested == 1


def test_an_unused_port_raises_unavailable() -> None:
    client = MetadataClient(endpoint="http://127.0.0.1:9")
    with pytest.raises(errors.MetadataUnavailableError, match=r"http://127\.0\.0\.1:9"):
        client.instance()


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="api_version must look like"):
        MetadataClient(api_version="latest")
    with pytest.raises(ValueError, match="http or https URL"):
        MetadataClient(endpoint="169.254.169.254")
    wrong: Any
    for wrong in (5, "", b"http://127.0.0.1"):
        with pytest.raises(ValueError, match="endpoint must be an http or https URL"):
            MetadataClient(endpoint=wrong)
    for wrong in (20210201, dt.date(2021, 2, 1), ""):
        with pytest.raises(ValueError, match="api_version must look like"):
            MetadataClient(api_version=wrong)
    for wrong in (5, "", "a\n", "a" * 65, "ü"):
        with pytest.raises(ValueError, match="nonce must be 1 to 64 printable ASCII"):
            MetadataClient(endpoint="http://127.0.0.1:9").attested_document(nonce=wrong)


def test_messages_omit_a_password_in_the_endpoint() -> None:
    client = MetadataClient(endpoint="http://user:hunter2@127.0.0.1:9")
    with pytest.raises(errors.MetadataUnavailableError) as caught:
        client.instance()
    assert "hunter2" not in str(caught.value)


def test_the_endpoint_comes_from_the_environment(
    start_emulator: Callable[..., Emulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = start_emulator()
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", emulator.endpoint)
    assert MetadataClient().compute().vm_id == emulator.machine.vm_id


def test_the_asynchronous_client_has_the_same_methods(
    start_emulator: Callable[..., Emulator],
) -> None:
    emulator = start_emulator()
    emulator.schedule_event("Freeze")

    async def call() -> None:
        client = AsyncMetadataClient(endpoint=emulator.endpoint)
        assert (await client.compute()).vm_id == emulator.machine.vm_id
        assert await client.get("compute/vmId") == emulator.machine.vm_id
        assert len((await client.scheduled_events()).events) == 1
        proof = await client.attested_document(**trust_arguments(emulator))
        assert proof.vm_id == emulator.machine.vm_id

    asyncio.run(call())
    public = {name for name in vars(MetadataClient) if not name.startswith("_")}
    assert public == {name for name in vars(AsyncMetadataClient) if not name.startswith("_")}
