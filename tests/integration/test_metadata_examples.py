"""The examples of instance metadata work with the emulator."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from imds_identity.cli.events import add_arguments
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

    def test_other_machines_are_refused(self, emulator: Emulator, server: Any) -> None:
        fetch = example("license_check").fetch_license
        emulator.fault(category="attested", document="unknown-root", times=1)
        with pytest.raises(PermissionError, match="is not signed by"):
            fetch(server.url, client_of(emulator))
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


def test_the_inventory_has_a_line_for_this_machine(
    start_emulator: Callable[..., Emulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(user_data="cGFzc3dvcmQ=", scale_set="web", tags={"team": "a;b"})
    emulator = start_emulator(machine=machine)
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", emulator.endpoint)
    (line,) = example("inventory").records([])
    assert line["vm_id"] == emulator.machine.vm_id
    assert line["scale_set"]["name"] == "web"
    assert line["tags"] == {"team": "a;b"}
    assert line["public_ips"] == ["203.0.113.4", "203.0.113.10"]
    assert "cGFzc3dvcmQ=" not in json.dumps(line)


def test_the_inventory_has_a_line_for_each_saved_document(
    start_emulator: Callable[..., Emulator], tmp_path: Path
) -> None:
    emulator = start_emulator()
    whole, old = tmp_path / "whole.json", tmp_path / "old.json"
    whole.write_text(json.dumps(client_of(emulator).instance().raw))
    old.write_text(json.dumps(client_of(emulator, api_version="2017-04-02").compute().raw))
    lines = list(example("inventory").records([str(whole), str(old)]))
    assert [line["vm_id"] for line in lines] == [emulator.machine.vm_id] * 2
    assert [line["public_ips"] for line in lines] == [None, None]
    assert [len(line["private_ips"]) for line in lines] == [1, 0]


def test_scheduled_events_are_exported_for_prometheus(
    start_emulator: Callable[..., Emulator], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    emulator = start_emulator()
    own = emulator.schedule_event("Reboot")
    other = emulator.schedule_event("Freeze", resources=['a"b'])
    file = tmp_path / "events.prom"
    exporter = example("scheduled_events_prometheus").Exporter(client_of(emulator), str(file))
    exporter.poll()
    text = file.read_text()
    event = "azure_scheduled_event_not_before_seconds"
    (sample,) = re.findall(rf'^{event}{{id="{own}",(.*)}} ([0-9.]+)$', text, re.MULTILINE)
    assert sample[0] == 'type="Reboot",status="Scheduled",source="Platform",own="true"'
    assert float(sample[1]) > 1_700_000_000
    assert f'id="{other}",type="Freeze",status="Scheduled",source="Platform",own="false"' in text
    assert text.endswith("azure_scheduled_events_up 1\n")
    emulator.fault(category="scheduledevents", status=500, times=1)
    exporter.poll()
    assert file.read_text() == text.replace("_up 1", "_up 0")
    assert "HTTP 500" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [file]
    escape = example("scheduled_events_prometheus")._escape
    assert escape('a"b\\c\n') == r"a\"b\\c\n"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_units_are_valid(tmp_path: Path) -> None:
    paths = [path for path in EXAMPLES.glob("*/*") if path.suffix in (".service", ".socket")]
    for path in paths:
        program = "/usr/local/bin/imds-identity"  # which is not installed here
        (tmp_path / path.name).write_text(path.read_text("utf-8").replace(program, "/bin/sh"))
    command = ["systemd-analyze", "verify", *(str(tmp_path / path.name) for path in paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    problems = done.stderr.splitlines()  # it may also report units of this machine
    assert len(paths) == 5
    assert [line for line in problems if any(path.name in line for path in paths)] == []


def test_flags_of_commands_for_events_are_valid() -> None:
    unit = (EXAMPLES / "systemd/imds-identity-events.service").read_text("utf-8")
    (line,) = re.findall(r"ExecStart=/usr/local/bin/imds-identity events (.*)", unit)
    pod = (EXAMPLES / "kubernetes/drain.yaml").read_text("utf-8")
    in_pod = re.findall(r"^            - (--[a-z].*)$", pod, re.MULTILINE)
    for flags in (shlex.split(line), in_pod):
        parser = argparse.ArgumentParser(allow_abbrev=False)
        add_arguments(parser)
        arguments = parser.parse_args([*flags, "--dry-run"])
        assert arguments.follow
        assert arguments.approve == "own"
        assert arguments.hook_timeout == 300


@pytest.mark.skipif(sys.platform == "win32", reason="requires a POSIX shell")
class TestDrainOfNode:
    """The hook for Kubernetes, with a program in place of kubectl."""

    STUB = """#!/bin/sh
echo "$@" >> "$CALLS"
case "$*" in
*unschedulable*) printf %s "$CORDONED" ;;
*annotations*) printf %s "$MARKED" ;;
"drain "*) exit "$DRAIN_STATUS" ;;
"get "*) exit 9 ;;
esac
"""

    @pytest.fixture
    def drain(self, tmp_path: Path) -> Callable[..., tuple[int, list[str]]]:
        (tmp_path / "kubectl").write_text(self.STUB)
        (tmp_path / "kubectl").chmod(0o755)
        calls = tmp_path / "calls"

        def run(kind: str, change: str, **variables: str) -> tuple[int, list[str]]:
            calls.write_text("")
            defaults = {"CORDONED": "", "MARKED": "", "DRAIN_STATUS": "0", "CALLS": str(calls)}
            event = {"IMDS_EVENT_TYPE": kind, "IMDS_EVENT_CHANGE": change, "IMDS_EVENT_ID": "E1"}
            path = f"{tmp_path}:{os.environ['PATH']}"
            environment = {**defaults, **event, "NODE_NAME": "n1", "PATH": path, **variables}
            script = str(EXAMPLES / "kubernetes/drain.sh")
            done = subprocess.run(["sh", script], env=environment, check=False)
            return done.returncode, calls.read_text().splitlines()

        return run

    @pytest.mark.parametrize("change", ["scheduled", "started"])
    def test_node_is_cordoned_and_drained_before_an_event(self, drain: Any, change: str) -> None:
        status, calls = drain("Reboot", change)
        assert status == 0
        assert [call.split()[0] for call in calls] == ["get", "annotate", "cordon", "drain"]
        assert "--timeout=240s" in calls[-1]
        status, calls = drain("Preempt", change)
        assert "--grace-period=15 --timeout=20s" in calls[-1]

    def test_a_failed_drain_is_not_approved(self, drain: Any) -> None:
        assert drain("Redeploy", "scheduled", DRAIN_STATUS="1")[0] == 1

    def test_a_pause_of_seconds_drains_nothing(self, drain: Any) -> None:
        assert drain("Freeze", "scheduled") == (0, [])

    def test_node_is_uncordoned_afterwards_if_this_script_cordoned_it(self, drain: Any) -> None:
        status, calls = drain("Reboot", "gone", MARKED="E1")
        assert status == 0
        assert [call.split()[0] for call in calls] == ["get", "uncordon", "annotate"]
        for marked in ("", "E2"):
            status, calls = drain("Reboot", "gone", MARKED=marked)
            assert (status, len(calls)) == (0, 1)
        status, calls = drain("Reboot", "scheduled", CORDONED="true")
        assert [call.split()[0] for call in calls] == ["get", "cordon", "drain"]

    def test_nothing_is_changed_if_the_cluster_does_not_respond(
        self, drain: Any, tmp_path: Path
    ) -> None:
        (tmp_path / "kubectl").write_text('#!/bin/sh\necho "$@" >> "$CALLS"; exit 1\n')
        for change in ("scheduled", "gone"):
            status, calls = drain("Reboot", change)
            assert (status, len(calls)) == (1, 1)

    def test_manifest_contains_the_script(self) -> None:
        kustomization = (EXAMPLES / "kubernetes/kustomization.yaml").read_text()
        assert "- drain.sh" in kustomization
        assert "- drain.yaml" in kustomization


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
