"""The examples of instance metadata work with the emulator."""

from __future__ import annotations

import importlib.util
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from imds_identity.emulator import Emulator, Machine
from metadata_support import client_of, trust_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("zone", "domain", "rack"),
    [("2", "1", "westeurope/2/1"), ("", "0", "westeurope/-/0"), ("", "", "westeurope/-/-")],
)
def test_the_rack_of_a_machine_is_its_location(
    start_emulator: Callable[..., Emulator], zone: str, domain: str, rack: str
) -> None:
    machine = Machine(zone=zone, compute={"platformFaultDomain": domain})
    assert example("replica_placement").rack(client_of(start_emulator(machine=machine))) == rack


def test_replicas_are_spread_over_zones_and_then_fault_domains() -> None:
    spread = example("replica_placement").spread
    racks = {"a": "r/1/0", "b": "r/1/0", "c": "r/1/1", "d": "r/2/0", "e": "r/2/0"}
    assert spread(2, racks) == ["a", "d"]
    assert spread(3, racks) == ["a", "d", "c"]
    assert sorted(spread(9, racks)) == ["a", "b", "c", "d", "e"]


class TestLicenses:
    @pytest.fixture
    def emulator(self, start_emulator: Callable[..., Emulator]) -> Emulator:
        return start_emulator()

    @pytest.fixture
    def server(self, emulator: Emulator) -> Iterator[Any]:
        customers = {emulator.machine.subscription_id}
        server = example("license_check").LicenseServer(0, customers, **trust_arguments(emulator))
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield server
        server.shutdown()
        server.server_close()

    def test_a_machine_of_a_customer_receives_a_license(
        self, emulator: Emulator, server: Any
    ) -> None:
        received = example("license_check").fetch_license(server.url, client_of(emulator))
        assert received["vm"] == emulator.machine.vm_id

    def test_other_machines_are_refused(
        self, emulator: Emulator, server: Any, start_emulator: Callable[..., Emulator]
    ) -> None:
        fetch = example("license_check").fetch_license
        with pytest.raises(PermissionError, match="not"):
            fetch(server.url, client_of(start_emulator()))
        emulator.fault(category="attested", document="tampered", times=1)
        with pytest.raises(PermissionError, match="was modified"):
            fetch(server.url, client_of(emulator))
        server.customers = set()
        with pytest.raises(PermissionError, match="not a customer"):
            fetch(server.url, client_of(emulator))

    def test_a_proof_is_accepted_only_once(self, emulator: Emulator, server: Any) -> None:
        nonce = requests.get(server.url, timeout=10).json()["nonce"]
        signature = client_of(emulator).attested_signature(nonce=nonce)
        proof = {"nonce": nonce, "signature": signature}
        statuses = [requests.post(server.url, json=proof, timeout=10).status_code for _ in "ab"]
        assert statuses == [200, 403]
        assert requests.post(server.url, data=b"x", timeout=10).status_code == 400


@pytest.mark.parametrize("kind", ["Preempt", "Terminate"])
def test_a_worker_is_drained_before_its_machine_is_evicted(
    start_emulator: Callable[..., Emulator], kind: str
) -> None:
    emulator = start_emulator()
    emulator.schedule_event("Freeze")
    emulator.schedule_event("Preempt", resources=["another"])
    event = emulator.schedule_event(kind)
    drained: list[str] = []

    def drain() -> None:
        drained.append({each.event_id: each.status for each in emulator.events}[event])

    assert example("drain_on_preempt").drain_before_eviction(client_of(emulator), drain) == event
    assert drained == ["Scheduled"]
    assert {each.event_id: each.status for each in emulator.events}[event] == "Started"


def test_an_eviction_that_other_machines_share_is_not_approved(
    start_emulator: Callable[..., Emulator], capsys: pytest.CaptureFixture[str]
) -> None:
    emulator = start_emulator()
    event = emulator.schedule_event("Terminate", resources=[emulator.machine.name, "another"])
    drained: list[str] = []
    drain = example("drain_on_preempt").drain_before_eviction
    assert drain(client_of(emulator), lambda: drained.append("once")) == event
    assert drained == ["once"]
    assert {each.event_id: each.status for each in emulator.events}[event] == "Scheduled"
    assert "it also affects other machines" in capsys.readouterr().err


def test_a_report_contains_the_documents_without_secrets(
    start_emulator: Callable[..., Emulator],
) -> None:
    emulator = start_emulator(machine=Machine(user_data="cGFzc3dvcmQ="))
    report = example("support_report").report
    document = report(client_of(emulator))
    assert document["instance"]["compute"]["vmId"] == emulator.machine.vm_id
    assert document["publicAddresses"] == ["203.0.113.4", "203.0.113.10"]
    assert document["scheduledEvents"]["Events"] == []
    text = json.dumps(document)
    assert "cGFzc3dvcmQ=" not in text
    assert "ssh-ed25519" not in text
    hub = report(client_of(start_emulator("stack-hub", machine=Machine(environment="AzureStack"))))
    assert "not available on Azure Stack Hub" in hub["loadBalancer"]["error"]
    assert hub["instance"]["compute"]["azEnvironment"] == "AzureStack"
