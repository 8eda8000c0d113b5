from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from imds_identity.emulator import Machine

if TYPE_CHECKING:
    from emulator.support import Send, Start

PATH = "/metadata/instance"
NEWEST = "2025-11-15"


def test_document_is_complete_and_every_value_is_a_string(start_emulator: Start, get: Send) -> None:
    def check(element: Any) -> Any:
        if isinstance(element, dict):
            for value in element.values():
                check(value)
        elif isinstance(element, list):
            for value in element:
                check(value)
        else:
            assert isinstance(element, str)

    emulator = start_emulator(machine=Machine(name="n", tags={"a": "b;c", "d": "e:f"}, zone="3"))
    document = get(emulator, PATH, api_version=NEWEST).json()
    check(document)
    assert set(document) == {"compute", "network"}
    compute = document["compute"]
    assert compute["name"] == "n"
    assert compute["zone"] == "3"
    assert compute["tags"] == "a:b;c;d:e:f"
    assert compute["tagsList"] == [{"name": "a", "value": "b;c"}, {"name": "d", "value": "e:f"}]
    assert compute["resourceId"].endswith("/Microsoft.Compute/virtualMachines/n")


@pytest.mark.parametrize(
    ("field", "before", "since"),
    [
        ("vmId", None, "2017-04-02"),
        ("tags", "2017-04-02", "2017-08-01"),
        ("zone", "2017-10-01", "2017-12-01"),
        ("azEnvironment", "2018-04-02", "2018-10-01"),
        ("tagsList", "2019-06-01", "2019-06-04"),
        ("osProfile", "2020-06-01", "2020-07-15"),
        ("osProfile/disablePasswordAuthentication", "2020-09-01", "2020-10-01"),
        ("storageProfile/resourceDisk/size", "2021-01-01", "2021-02-01"),
        ("securityProfile/encryptionAtHost", "2021-10-01", "2021-11-01"),
        ("securityProfile/securityType", "2021-11-15", "2021-12-13"),
        ("physicalZone", "2023-07-01", "2023-11-15"),
    ],
)
def test_field_exists_since_its_version(
    start_emulator: Start, get: Send, field: Any, before: Any, since: Any
) -> None:
    emulator = start_emulator()
    path = f"{PATH}/compute/{field}"
    assert get(emulator, path, api_version=since, format="text").status_code == 200
    if before is not None:
        assert get(emulator, path, api_version=before, format="text").status_code == 404


def test_path_selects_an_element(start_emulator: Start, get: Send) -> None:
    emulator = start_emulator()
    path = f"{PATH}/network/interface/0/ipv4/ipAddress/0/publicIpAddress"
    response = get(emulator, path, api_version=NEWEST, format="text")
    assert response.text == "203.0.113.4"
    assert response.headers["Content-Type"].startswith("text/plain")
    branch = get(emulator, f"{PATH}/network/interface/0/ipv4/", api_version=NEWEST).json()
    assert set(branch) == {"ipAddress", "subnet"}


def test_branch_as_text_lists_its_names(start_emulator: Start, get: Send) -> None:
    emulator = start_emulator()
    assert get(emulator, PATH, api_version=NEWEST, format="text").text == "compute/\nnetwork/"
    path = f"{PATH}/network/interface"
    assert get(emulator, path, api_version=NEWEST, format="text").text == "0/"


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("/compute/vmId", {}, 400),
        ("/compute/vmid", {"format": "text"}, 404),
        ("/Compute", {}, 404),
        ("/network/interface/1", {}, 404),
        ("/network/interface/-1", {}, 404),
        ("/network/interface/²", {}, 404),
        ("/network/interface/" + "1" * 9000, {}, 404),
        ("/compute/vmId/deeper", {"format": "text"}, 404),
        ("", {"format": "xml"}, 400),
        ("", {"api_version": "2017-03-02"}, 400),
        ("", {"api_version": ""}, 400),
    ],
)
def test_invalid_path_or_parameter_gets_an_error(
    start_emulator: Start, get: Send, path: Any, query: Any, status: Any
) -> None:
    response = get(start_emulator(), PATH + path, **{"api_version": NEWEST, **query})
    assert response.status_code == status
    assert response.json()["error"]


def test_unknown_version_gets_the_documented_error(start_emulator: Start, get: Send) -> None:
    body = get(start_emulator(), PATH, api_version="2099-01-01").json()
    assert body["error"].startswith("Bad request. api-version ")
    assert body["newest-versions"] == ["2025-11-15", "2025-11-11", "2025-04-07"]


def test_missing_header_gets_the_documented_error(start_emulator: Start, get: Send) -> None:
    response = get(start_emulator(), PATH, api_version=NEWEST, headers={"Metadata": None})
    assert response.status_code == 400
    assert response.json() == {"error": "Bad request. Required metadata header not specified"}


def test_versions_requires_no_api_version(start_emulator: Start, get: Send) -> None:
    versions = get(start_emulator(), "/metadata/versions").json()["apiVersions"]
    assert versions[0] == "2017-03-01"
    assert versions[-1] == NEWEST
    assert versions == sorted(versions)


def test_stack_hub_has_two_categories_and_empty_fields(start_emulator: Start, get: Send) -> None:
    emulator = start_emulator("stack-hub")
    versions = get(emulator, "/metadata/versions").json()["apiVersions"]
    assert versions[-1] == "2021-05-01"
    compute = get(emulator, PATH, api_version="2021-05-01").json()["compute"]
    assert (compute["customData"], compute["zone"]) == ("", "")
    assert compute["plan"] == {"name": "", "product": "", "publisher": ""}
    for path in ("identity/oauth2/token", "identity/info", "attested/document", "loadbalancer"):
        response = get(emulator, f"/metadata/{path}", api_version="2021-05-01")
        assert response.status_code == 404


def test_a_data_disk_has_all_fields(start_emulator: Start, get: Send) -> None:
    disk = {"lun": "0", "managedDisk": {"id": "/d"}}
    machine = Machine(compute={"storageProfile": {"dataDisks": [disk]}})
    compute = get(start_emulator(machine=machine), PATH, api_version=NEWEST).json()["compute"]
    (found,) = compute["storageProfile"]["dataDisks"]
    assert len(found) == 14
    assert found["lun"] == "0"
    assert found["managedDisk"] == {"id": "/d", "storageAccountType": "Premium_LRS"}


def test_an_arc_server_has_little_to_say_about_its_image(start_emulator: Start, get: Send) -> None:
    compute = get(start_emulator("arc"), PATH, api_version=NEWEST).json()["compute"]
    assert [compute[name] for name in ("offer", "publisher", "sku", "zone")] == [""] * 4
    assert compute["publicKeys"] is None
    assert compute["securityProfile"]["secureBootEnabled"] == ""
    assert compute["osType"] == "linux"
    assert compute["version"].endswith("-generic")


def test_arc_server_has_an_instance_document(start_emulator: Start, get: Send) -> None:
    compute = get(start_emulator("arc"), PATH, api_version=NEWEST).json()["compute"]
    assert "/Microsoft.HybridCompute/machines/" in compute["resourceId"]


@pytest.mark.parametrize("part", ["compute", "network"])
def test_part_of_the_document_can_be_missing(start_emulator: Start, get: Send, part: str) -> None:
    emulator = start_emulator()
    emulator.fault(category="instance", document=f"without-{part}")
    other = {"compute": "network", "network": "compute"}[part]
    path = "/metadata/instance"
    assert set(get(emulator, path, api_version="2021-02-01").json()) == {other}
    assert get(emulator, f"{path}/{part}", api_version="2021-02-01").status_code == 404
    extended = get(emulator, path, api_version="2021-02-01", extended="true")
    assert extended.status_code == 500


def test_other_fields_of_the_document_can_be_set(start_emulator: Start, get: Send) -> None:
    machine = Machine(compute={"osProfile": {"adminUsername": "me"}, "sku": "own"})
    compute = get(start_emulator(machine=machine), PATH, api_version=NEWEST).json()["compute"]
    assert compute["sku"] == "own"
    assert compute["osProfile"]["adminUsername"] == "me"
    assert compute["osProfile"]["computerName"] == machine.name


@pytest.mark.parametrize(
    "invalid",
    [{"compute": {"osProfile": {"x": 1}}}, {"tags": {"a": 1}}, {"environment": "AzureMoonCloud"}],
)
def test_invalid_machine_is_rejected(invalid: Any) -> None:
    with pytest.raises(ValueError, match=r"string|environment"):
        Machine(**invalid)


def test_machine_with_and_without_load_balancer(start_emulator: Start, get: Send) -> None:
    path = "/metadata/loadbalancer"
    shown = get(start_emulator(), path, api_version="2020-10-01").json()["loadbalancer"]
    assert set(shown) == {"publicIpAddresses", "inboundRules", "outboundRules"}
    bare = start_emulator(machine=Machine(load_balancer=None))
    assert get(bare, path, api_version="2020-10-01").status_code == 404
    assert get(bare, path, api_version="2020-09-01").status_code == 400
    assert get(start_emulator(), path, api_version="2020-10-01", format="text").status_code == 400
