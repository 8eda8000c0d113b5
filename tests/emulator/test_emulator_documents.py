"""What the documentation says of the services, line by line, that clients were seen to rely on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from emulator.support import TOKEN_PATH, VAULT, claims_of, ran
from imds_identity.emulator import DEFAULT_USER_ASSIGNED, Emulator, Fault, Machine

if TYPE_CHECKING:
    from pathlib import Path

    import requests

    from emulator.support import Ask, Start

INSTANCE = "/metadata/instance"
EVENTS = "/metadata/scheduledevents"
NEWEST = "2025-04-07"


@pytest.mark.parametrize("value", ["True", "TRUE", "tRuE"])
def test_the_metadata_header_is_taken_in_any_case(
    started: Start, get: Ask, ask: Ask, value: str
) -> None:
    headers = {"Metadata": value}
    assert ask(started(), headers=headers).status_code == 200
    assert get(started(), INSTANCE, api_version=NEWEST, headers=headers).status_code == 200
    assert ask(started("arc"), headers=headers).status_code == 401


def test_the_metadata_header_must_say_true(started: Start, ask: Ask) -> None:
    assert ask(started(), headers={"Metadata": "yes"}).status_code == 400


def test_arc_spells_its_challenge_s_header_so(started: Start, ask: Ask) -> None:
    assert "Www-Authenticate" in list(ask(started("arc")).headers)


@pytest.mark.parametrize("path", [INSTANCE, EVENTS])
def test_the_first_version_of_all_is_one_of_instance_and_events(
    started: Start, get: Ask, path: str
) -> None:
    assert get(started(), path, api_version="2017-03-01").status_code == 200


def test_an_error_has_its_reason_phrase(started: Start, ask: Ask) -> None:
    emulator = started()
    assert ask(emulator, client_id="nobody").reason == "Bad Request"
    emulator.fault(status=429)
    assert ask(emulator).reason == "Too Many Requests"


def in_order(document: Any) -> bool:
    if isinstance(document, dict):
        return list(document) == sorted(document) and all(map(in_order, document.values()))
    return all(map(in_order, document)) if isinstance(document, list) else True


def test_keys_come_in_alphabetical_order(started: Start, get: Ask, ask: Ask) -> None:
    emulator = started()
    emulator.schedule_event()
    for path in (INSTANCE, EVENTS, "/metadata/loadbalancer"):
        assert in_order(get(emulator, path, api_version=NEWEST).json())
    assert in_order(ask(emulator, client_id=DEFAULT_USER_ASSIGNED.client_id).json())
    names = get(emulator, f"{INSTANCE}/compute", api_version=NEWEST, format="text").text.split()
    assert names == sorted(names)


@pytest.mark.parametrize("version", ["", "2099-01-01"])
def test_a_wrong_version_is_refused_with_where_to_read_on(
    started: Start, get: Ask, version: str
) -> None:
    error = get(started(), INSTANCE, api_version=version).json()["error"]
    assert error.endswith(". For more information refer to aka.ms/azureimds")


@pytest.mark.parametrize("path", [TOKEN_PATH, "/metadata/identity/info"])
def test_identity_speaks_json_only(started: Start, get: Ask, path: str) -> None:
    query = {"api_version": "2018-02-01", "resource": VAULT}
    assert get(started(), path, format="text", **query).status_code == 400
    assert get(started(), path, format="json", **query).status_code == 200


@pytest.mark.parametrize("parameter", ["msi_res_id", "mi_res_id"])
def test_a_resource_id_is_honoured_under_both_its_names(
    started: Start, ask: Ask, parameter: str
) -> None:
    body = ask(started(), **{parameter: DEFAULT_USER_ASSIGNED.resource_id}).json()
    assert body[parameter] == DEFAULT_USER_ASSIGNED.resource_id
    assert ask(started(), **{parameter: "/nobody"}).status_code == 400


@pytest.mark.parametrize(
    ("version", "fields"),
    [
        ("2019-01-01", set()),
        ("2019-04-01", {"Description"}),
        ("2019-08-01", {"Description", "EventSource"}),
        ("2020-07-01", {"Description", "EventSource", "DurationInSeconds"}),
    ],
)
def test_an_event_s_fields_came_one_by_one(
    started: Start, get: Ask, version: str, fields: set[str]
) -> None:
    emulator = started()
    emulator.schedule_event()
    [event] = get(emulator, EVENTS, api_version=version).json()["Events"]
    assert set(event) & {"Description", "EventSource", "DurationInSeconds"} == fields


@pytest.mark.parametrize(
    ("kind", "before", "since"),
    [("Preempt", "2017-08-01", "2017-11-01"), ("Terminate", "2017-11-01", "2019-01-01")],
)
def test_a_version_shows_no_type_of_event_that_came_later(
    started: Start, get: Ask, kind: str, before: str, since: str
) -> None:
    emulator = started()
    emulator.schedule_event(kind)
    assert get(emulator, EVENTS, api_version=before).json()["Events"] == []
    assert len(get(emulator, EVENTS, api_version=since).json()["Events"]) == 1


def test_an_event_names_its_machine_as_each_version_does(started: Start, get: Ask) -> None:
    emulator = started()
    emulator.schedule_event()
    names = {
        version: get(emulator, EVENTS, api_version=version).json()["Events"][0]["Resources"]
        for version in ("2017-03-01", "2017-08-01")
    }
    assert names == {"2017-03-01": ["_emulated-machine"], "2017-08-01": ["emulated-machine"]}


def test_an_instance_of_a_scale_set_says_so_everywhere(started: Start, get: Ask, ask: Ask) -> None:
    emulator = started(machine=Machine(scale_set="web"))
    emulator.schedule_event()
    compute = get(emulator, INSTANCE, api_version=NEWEST).json()["compute"]
    assert (compute["name"], compute["vmScaleSetName"]) == ("web_0", "web")
    assert compute["osProfile"]["computerName"] == "web000000"
    group = compute["virtualMachineScaleSet"]["id"]
    assert group.endswith("/providers/Microsoft.Compute/virtualMachineScaleSets/web")
    assert compute["resourceId"] == f"{group}/virtualMachines/0"
    assert claims_of(ask(emulator))["xms_mirid"] == compute["resourceId"]
    [event] = get(emulator, EVENTS, api_version=NEWEST).json()["Events"]
    assert event["Resources"] == ["web_0"]


def test_a_machine_of_a_flexible_scale_set_keeps_its_own_id(started: Start, get: Ask) -> None:
    emulator = started(machine=Machine(scale_set="web", name="web_1a2b3c"))
    compute = get(emulator, INSTANCE, api_version=NEWEST).json()["compute"]
    assert compute["resourceId"].endswith("/virtualMachines/web_1a2b3c")
    assert (compute["vmScaleSetName"], compute["placementGroupId"]) == ("web", "")


def test_one_machine_approves_the_events_of_others(
    started: Start, get: Ask, http: requests.Session
) -> None:
    emulator = started(machine=Machine(name="front"))
    event_id = emulator.schedule_event("Freeze", resources=["back-1", "back-2"])
    answer = http.post(
        emulator.endpoint + EVENTS,
        params={"api-version": "2020-07-01"},
        json={"StartRequests": [{"EventId": event_id}]},
    )
    assert answer.status_code == 200
    [event] = get(emulator, EVENTS, api_version="2020-07-01").json()["Events"]
    assert (event["EventStatus"], event["Resources"]) == ("Started", ["back-1", "back-2"])


def test_azure_stack_hub_leaves_empty_what_it_does_not_support(started: Start, get: Ask) -> None:
    emulator = started("stack-hub")
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


def test_an_arc_server_s_document_is_sparse(started: Start, get: Ask) -> None:
    document = get(started("arc"), INSTANCE, api_version=NEWEST).json()
    assert document["network"] == {}
    compute = document["compute"]
    assert compute["storageProfile"] == {}
    assert (compute["provider"], compute["vmSize"], compute["zone"]) == ("", "", "")


def test_a_windows_machine_has_a_windows_image_and_nothing_of_linux(
    started: Start, get: Ask
) -> None:
    emulator = started(machine=Machine(os_type="Windows"))
    compute = get(emulator, INSTANCE, api_version=NEWEST).json()["compute"]
    assert compute["offer"] == "WindowsServer"
    assert compute["storageProfile"]["imageReference"]["offer"] == "WindowsServer"
    assert compute["storageProfile"]["osDisk"]["osType"] == "Windows"
    assert compute["publicKeys"] == []
    assert compute["osProfile"]["disablePasswordAuthentication"] == ""


@pytest.mark.parametrize(
    "wrong", [{"os_type": "windows"}, {"name": 5}, {"tags": "a:b"}, {"zone": None}]
)
def test_a_machine_that_no_document_could_describe_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Machine(**wrong)


def test_a_renamed_machine_s_disk_is_renamed_with_it(started: Start, get: Ask) -> None:
    emulator = started(machine=Machine(name="other"))
    compute = get(emulator, INSTANCE, api_version=NEWEST).json()["compute"]
    disk = compute["storageProfile"]["osDisk"]
    assert disk["name"] == "other_OsDisk"
    assert disk["managedDisk"]["id"].endswith("/disks/other_OsDisk")


@pytest.mark.parametrize("field", ["tags", "tagsList"])
def test_tags_are_given_once_and_shown_twice(field: str) -> None:
    with pytest.raises(ValueError, match="give tags"):
        Machine(compute={field: "a:b"})


def test_two_machines_share_nothing() -> None:
    one, two = Machine(), Machine()
    one.network["interface"][0]["macAddress"] = "changed"
    assert two.network["interface"][0]["macAddress"] != "changed"


@pytest.mark.parametrize("balancer", [None, {}])
def test_a_machine_may_stand_behind_no_load_balancer(
    started: Start, get: Ask, balancer: Any
) -> None:
    emulator = started(machine=Machine(load_balancer=balancer))
    answer = get(emulator, "/metadata/loadbalancer", api_version=NEWEST)
    assert answer.status_code == 404


def test_a_fault_that_never_applies_is_refused() -> None:
    with pytest.raises(ValueError, match="times"):
        Fault(status=500, times=0)


def test_a_directory_that_cannot_be_written_is_an_error_at_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a file"
    file.touch()
    flags = ("--profile", "arc", "--port", "0", "--no-key-vault", "--no-admin")
    assert ran(*flags, "--tokens-directory", str(file)) == 1
    assert "a file" in capsys.readouterr().err
    with pytest.raises(OSError, match="proc"):
        Emulator("arc", tokens_directory="/proc/self", key_vault=False).start()


def test_cancelling_no_event_in_particular_says_what_is_missing(
    started: Start, http: requests.Session
) -> None:
    emulator = started(admin_port=0)
    answer = http.delete(f"{emulator.admin_url}/api/events")
    assert answer.status_code == 400
    assert "event_id" in json.dumps(answer.json())
