"""Documented behavior of the services that clients rely on."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from emulator.support import TOKEN_PATH, VAULT, claims_of, run_command
from imds_identity.emulator import DEFAULT_USER_ASSIGNED, Emulator, Fault, Machine

if TYPE_CHECKING:
    from pathlib import Path

    import requests

    from emulator.support import Send, Start

INSTANCE = "/metadata/instance"
EVENTS = "/metadata/scheduledevents"
NEWEST = "2025-11-15"


@pytest.mark.parametrize("value", ["True", "TRUE", "tRuE"])
def test_metadata_header_is_case_insensitive(
    start_emulator: Start, get: Send, request_token: Send, value: str
) -> None:
    headers = {"Metadata": value}
    assert request_token(start_emulator(), headers=headers).status_code == 200
    assert get(start_emulator(), INSTANCE, api_version=NEWEST, headers=headers).status_code == 200
    assert request_token(start_emulator("arc"), headers=headers).status_code == 401


def test_metadata_header_must_be_true(start_emulator: Start, request_token: Send) -> None:
    assert request_token(start_emulator(), headers={"Metadata": "yes"}).status_code == 400


def test_arc_challenge_header_has_its_capitalization(
    start_emulator: Start, request_token: Send
) -> None:
    assert "Www-Authenticate" in list(request_token(start_emulator("arc")).headers)


@pytest.mark.parametrize("path", [INSTANCE, EVENTS])
def test_instance_and_events_support_the_first_api_version(
    start_emulator: Start, get: Send, path: str
) -> None:
    assert get(start_emulator(), path, api_version="2017-03-01").status_code == 200


def test_error_has_its_reason_phrase(start_emulator: Start, request_token: Send) -> None:
    emulator = start_emulator()
    assert request_token(emulator, client_id="unknown").reason == "Bad Request"
    emulator.fault(status=429)
    assert request_token(emulator).reason == "Too Many Requests"


def in_order(document: Any) -> bool:
    if isinstance(document, dict):
        return list(document) == sorted(document) and all(map(in_order, document.values()))
    return all(map(in_order, document)) if isinstance(document, list) else True


def test_keys_are_in_alphabetical_order(
    start_emulator: Start, get: Send, request_token: Send
) -> None:
    emulator = start_emulator()
    emulator.schedule_event()
    for path in (INSTANCE, EVENTS, "/metadata/loadbalancer"):
        assert in_order(get(emulator, path, api_version=NEWEST).json())
    assert in_order(request_token(emulator, client_id=DEFAULT_USER_ASSIGNED.client_id).json())
    names = get(emulator, f"{INSTANCE}/compute", api_version=NEWEST, format="text").text.split()
    assert names == sorted(names)


@pytest.mark.parametrize("version", ["", "2099-01-01"])
def test_version_error_links_to_the_documentation(
    start_emulator: Start, get: Send, version: str
) -> None:
    error = get(start_emulator(), INSTANCE, api_version=version).json()["error"]
    assert error.endswith(". For more information refer to aka.ms/azureimds")


@pytest.mark.parametrize("path", [TOKEN_PATH, "/metadata/identity/info"])
def test_identity_category_supports_json_only(start_emulator: Start, get: Send, path: str) -> None:
    query = {"api_version": "2018-02-01", "resource": VAULT}
    assert get(start_emulator(), path, format="text", **query).status_code == 400
    assert get(start_emulator(), path, format="json", **query).status_code == 200


@pytest.mark.parametrize("parameter", ["msi_res_id", "mi_res_id"])
def test_both_parameters_for_a_resource_id_are_supported(
    start_emulator: Start, request_token: Send, parameter: str
) -> None:
    body = request_token(start_emulator(), **{parameter: DEFAULT_USER_ASSIGNED.resource_id}).json()
    assert body[parameter] == DEFAULT_USER_ASSIGNED.resource_id
    assert request_token(start_emulator(), **{parameter: "/unknown"}).status_code == 400


@pytest.mark.parametrize(
    ("version", "fields"),
    [
        ("2019-01-01", set()),
        ("2019-04-01", {"Description"}),
        ("2019-08-01", {"Description", "EventSource"}),
        ("2020-07-01", {"Description", "EventSource", "DurationInSeconds"}),
    ],
)
def test_event_has_the_fields_of_the_api_version(
    start_emulator: Start, get: Send, version: str, fields: set[str]
) -> None:
    emulator = start_emulator()
    emulator.schedule_event()
    [event] = get(emulator, EVENTS, api_version=version).json()["Events"]
    assert set(event) & {"Description", "EventSource", "DurationInSeconds"} == fields


@pytest.mark.parametrize(
    ("event_type", "before", "since"),
    [("Preempt", "2017-08-01", "2017-11-01"), ("Terminate", "2017-11-01", "2019-01-01")],
)
def test_version_lists_no_newer_event_types(
    start_emulator: Start, get: Send, event_type: str, before: str, since: str
) -> None:
    emulator = start_emulator()
    emulator.schedule_event(event_type)
    assert get(emulator, EVENTS, api_version=before).json()["Events"] == []
    assert len(get(emulator, EVENTS, api_version=since).json()["Events"]) == 1


def test_machine_name_in_an_event_depends_on_the_version(start_emulator: Start, get: Send) -> None:
    emulator = start_emulator()
    emulator.schedule_event()
    names = {
        version: get(emulator, EVENTS, api_version=version).json()["Events"][0]["Resources"]
        for version in ("2017-03-01", "2017-08-01")
    }
    assert names == {"2017-03-01": ["_emulated-machine"], "2017-08-01": ["emulated-machine"]}


def test_scale_set_instance_is_consistent_everywhere(
    start_emulator: Start, get: Send, request_token: Send
) -> None:
    emulator = start_emulator(machine=Machine(scale_set="web"))
    emulator.schedule_event()
    compute = get(emulator, INSTANCE, api_version=NEWEST).json()["compute"]
    assert (compute["name"], compute["vmScaleSetName"]) == ("web_0", "web")
    assert compute["osProfile"]["computerName"] == "web000000"
    group = compute["virtualMachineScaleSet"]["id"]
    assert group.endswith("/providers/Microsoft.Compute/virtualMachineScaleSets/web")
    assert compute["resourceId"] == f"{group}/virtualMachines/0"
    assert claims_of(request_token(emulator))["xms_mirid"] == compute["resourceId"]
    [event] = get(emulator, EVENTS, api_version=NEWEST).json()["Events"]
    assert event["Resources"] == ["web_0"]


def test_machine_of_a_flexible_scale_set_has_its_own_resource_id(
    start_emulator: Start, get: Send
) -> None:
    emulator = start_emulator(machine=Machine(scale_set="web", name="web_1a2b3c"))
    compute = get(emulator, INSTANCE, api_version=NEWEST).json()["compute"]
    assert compute["resourceId"].endswith("/virtualMachines/web_1a2b3c")
    assert (compute["vmScaleSetName"], compute["placementGroupId"]) == ("web", "")


def test_machine_can_approve_events_of_other_machines(
    start_emulator: Start, get: Send, http: requests.Session
) -> None:
    emulator = start_emulator(machine=Machine(name="front"))
    event_id = emulator.schedule_event("Freeze", resources=["back-1", "back-2"])
    response = http.post(
        emulator.endpoint + EVENTS,
        params={"api-version": "2020-07-01"},
        json={"StartRequests": [{"EventId": event_id}]},
    )
    assert response.status_code == 200
    [event] = get(emulator, EVENTS, api_version="2020-07-01").json()["Events"]
    assert (event["EventStatus"], event["Resources"]) == ("Started", ["back-1", "back-2"])


def test_unsupported_fields_are_empty_on_azure_stack_hub(start_emulator: Start, get: Send) -> None:
    emulator = start_emulator("stack-hub")
    assert set(emulator.environment()) == {"IMDS_IDENTITY_CACHE"}
    compute = get(emulator, INSTANCE, api_version="2021-05-01").json()["compute"]
    assert compute["azEnvironment"] == "AzureStack"
    assert compute["plan"] == {"name": "", "product": "", "publisher": ""}
    assert compute["osProfile"]["disablePasswordAuthentication"] == ""
    assert compute["storageProfile"]["resourceDisk"]["size"] == ""
    security = compute["securityProfile"]
    assert (security["secureBootEnabled"], security["virtualTpmEnabled"]) == ("", "")
    for name in ("customData", "isHostCompatibilityLayerVm", "priority", "zone"):
        assert compute[name] == ""


def test_document_of_an_arc_server_is_sparse(start_emulator: Start, get: Send) -> None:
    document = get(start_emulator("arc"), INSTANCE, api_version=NEWEST).json()
    assert document["network"] == {}
    compute = document["compute"]
    assert compute["storageProfile"] == {}
    assert (compute["provider"], compute["vmSize"], compute["zone"]) == ("", "", "")


def test_windows_machine_has_a_windows_image_and_no_linux_fields(
    start_emulator: Start, get: Send
) -> None:
    emulator = start_emulator(machine=Machine(os_type="Windows"))
    compute = get(emulator, INSTANCE, api_version=NEWEST).json()["compute"]
    assert compute["offer"] == "WindowsServer"
    assert compute["storageProfile"]["imageReference"]["offer"] == "WindowsServer"
    assert compute["storageProfile"]["osDisk"]["osType"] == "Windows"
    assert compute["publicKeys"] == []
    assert compute["osProfile"]["disablePasswordAuthentication"] == ""


@pytest.mark.parametrize(
    "invalid", [{"os_type": "windows"}, {"name": 5}, {"tags": "a:b"}, {"zone": None}]
)
def test_machine_with_an_invalid_attribute_is_rejected(invalid: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(invalid))):
        Machine(**invalid)


def test_disk_is_named_after_the_machine(start_emulator: Start, get: Send) -> None:
    emulator = start_emulator(machine=Machine(name="other"))
    compute = get(emulator, INSTANCE, api_version=NEWEST).json()["compute"]
    disk = compute["storageProfile"]["osDisk"]
    assert disk["name"] == "other_OsDisk"
    assert disk["managedDisk"]["id"].endswith("/disks/other_OsDisk")


@pytest.mark.parametrize("field", ["tags", "tagsList"])
def test_compute_cannot_include_tags(field: str) -> None:
    with pytest.raises(ValueError, match="set tags"):
        Machine(compute={field: "a:b"})


def test_machines_do_not_share_documents() -> None:
    one, two = Machine(), Machine()
    one.network["interface"][0]["macAddress"] = "changed"
    assert two.network["interface"][0]["macAddress"] != "changed"


@pytest.mark.parametrize("balancer", [None, {}])
def test_machine_without_load_balancer_gets_404(
    start_emulator: Start, get: Send, balancer: Any
) -> None:
    emulator = start_emulator(machine=Machine(load_balancer=balancer))
    response = get(emulator, "/metadata/loadbalancer", api_version=NEWEST)
    assert response.status_code == 404
    assert response.json()["error"] == (
        "No load balancer metadata is found. Please check if your VM is using any non-basic SKU "
        "load balancer and retry later."
    )


@pytest.mark.parametrize(
    ("profile", "server"),
    [("vm", r"IMDS/150\.870\.65\.[0-9]+"), ("arc", "himds"), ("app-service", "Kestrel")],
)
def test_server_header_is_that_of_the_real_service(
    start_emulator: Start, request_token: Send, profile: str, server: str
) -> None:
    found = request_token(start_emulator(profile)).headers["Server"]
    assert re.fullmatch(server, found)


def test_fault_that_never_applies_is_rejected() -> None:
    with pytest.raises(ValueError, match="times"):
        Fault(status=500, times=0)


def test_tokens_directory_without_write_access_is_an_error_at_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a file"
    file.touch()
    flags = ("--profile", "arc", "--port", "0", "--no-key-vault", "--no-admin")
    assert run_command(*flags, "--tokens-directory", str(file)) == 1
    assert "a file" in capsys.readouterr().err
    with pytest.raises(OSError, match="proc"):
        Emulator("arc", tokens_directory="/proc/self", key_vault=False).start()


def test_canceling_without_an_event_id_is_explained(
    start_emulator: Start, http: requests.Session
) -> None:
    emulator = start_emulator(admin_port=0)
    response = http.delete(f"{emulator.admin_url}/api/events")
    assert response.status_code == 400
    assert "event_id" in json.dumps(response.json())
