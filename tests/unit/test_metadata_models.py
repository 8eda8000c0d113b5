"""Instance documents as typed objects."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity.metadata import ScaleSet, parse_instance
from imds_identity.metadata._models.compute import parse_tags
from imds_identity.metadata._models.load_balancer import LoadBalancer, public_ips
from imds_identity.metadata.errors import MalformedMetadataError, MetadataError

OPENAPI = Path(__file__).parents[1] / "openapi"
EXAMPLES = sorted(OPENAPI.glob("*/examples/*etInstanceMetadata.json"))

DOCUMENT: dict[str, Any] = {
    "compute": {
        "azEnvironment": "AzurePublicCloud",
        "isHostCompatibilityLayerVm": "false",
        "name": "vm-7",
        "physicalZone": "westeurope-AZ01",
        "plan": {"name": "", "product": "", "publisher": ""},
        "platformFaultDomain": "2",
        "platformSubFaultDomain": "",
        "publicKeys": [{"keyData": "ssh-ed25519 AAAA", "path": "/home/a/.ssh/authorized_keys"}],
        "securityProfile": {"secureBootEnabled": "true", "virtualTpmEnabled": "true"},
        "storageProfile": {
            "dataDisks": [
                {
                    "lun": "0",
                    "diskSizeGB": "1024",
                    "isUltraDisk": "true",
                    "diffDiskSettings": {"option": "Local"},
                }
            ],
            "osDisk": {
                "diskSizeGB": "30",
                "encryptionSettings": {
                    "enabled": "true",
                    "diskEncryptionKey": {
                        "sourceVault": {"id": "/vault"},
                        "secretUrl": "https://s",
                    },
                },
            },
            "resourceDisk": {"size": "16384"},
        },
        "tags": "a:b;c:d",
        "tagsList": [{"name": "a", "value": "b;c:d"}],
        "userData": "c2VjcmV0",
        "virtualMachineScaleSet": {"id": ""},
        "vmId": "02aab8a4-74ef-476e-8182-f6d2ba4166a6",
        "zone": "1",
        "newField": {"deep": ["1"]},
    },
    "network": {
        "interface": [
            {
                "ipv4": {
                    "ipAddress": [
                        {"privateIpAddress": "10.0.0.4", "publicIpAddress": "203.0.113.4"}
                    ],
                    "subnet": [{"address": "10.0.0.0", "prefix": "24"}],
                },
                "ipv6": {"ipAddress": []},
                "macAddress": "000D3A0000FE",
            }
        ]
    },
}


def test_strings_become_numbers_and_booleans() -> None:
    compute = parse_instance(DOCUMENT).compute
    assert compute.platform_fault_domain == 2
    assert compute.is_host_compatibility_layer_vm is False
    assert compute.security_profile.secure_boot_enabled is True
    assert compute.storage_profile.os_disk.disk_size_gb == 30
    assert compute.storage_profile.data_disks[0].lun == 0
    assert compute.storage_profile.data_disks[0].is_ultra_disk is True
    assert compute.storage_profile.data_disks[0].diff_disk_settings.option == "Local"
    assert compute.storage_profile.resource_disk.size == 16384
    assert compute.zone == "1"


def test_network_values_are_converted() -> None:
    (interface,) = parse_instance(DOCUMENT).network.interfaces
    assert interface.mac_address == "00:0d:3a:00:00:fe"
    assert interface.ipv4.ip_addresses[0].private_ip_address == "10.0.0.4"
    assert interface.ipv4.subnets[0].prefix == 24
    assert interface.ipv6.ip_addresses == ()


def test_empty_values_are_none_and_missing_objects_are_empty() -> None:
    compute = parse_instance(DOCUMENT).compute
    assert compute.platform_sub_fault_domain is None
    assert compute.plan.name is None
    assert not compute.plan
    assert not compute.virtual_machine_scale_set
    assert compute.storage_profile.os_disk.managed_disk.id is None
    assert compute.host_group.id is None
    assert compute.security_profile


def test_unknown_fields_and_the_raw_document_are_kept() -> None:
    given_document = copy.deepcopy(DOCUMENT)
    instance = parse_instance(given_document)
    assert instance.compute.extra == {"newField": {"deep": ["1"]}}
    assert instance.raw == DOCUMENT
    assert parse_instance(json.dumps(DOCUMENT)) == instance
    assert given_document == DOCUMENT


def test_a_compute_document_alone_is_accepted() -> None:
    instance = parse_instance(DOCUMENT["compute"])
    assert instance.compute == parse_instance(DOCUMENT).compute
    assert instance.raw == DOCUMENT["compute"]
    assert not instance.network


def test_the_sparse_document_of_an_arc_server_is_parsed() -> None:
    instance = parse_instance(
        {"compute": {"name": "pi", "provider": "", "storageProfile": {}}, "network": {}}
    )
    assert instance.compute.name == "pi"
    assert instance.compute.provider is None
    assert instance.network.interfaces == ()


def test_tags_come_from_the_unambiguous_list() -> None:
    assert parse_instance(DOCUMENT).compute.tags == {"a": "b;c:d"}


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("", {}),
        ("baz:bash;foo:bar", {"baz": "bash", "foo": "bar"}),
        ("url:http://x:80/", {"url": "http://x:80/"}),
        ("list:a;b;other:c", {"list": "a;b", "other": "c"}),
        ("empty:;x:y", {"empty": "", "x": "y"}),
        (";;", {}),
    ],
)
def test_tags_of_old_versions_are_parsed_from_text(text: str, tags: dict[str, str]) -> None:
    assert parse_tags(text) == tags
    assert parse_instance({"compute": {"tags": text}}).compute.tags == tags


def test_instances_can_be_pickled_and_hashed_and_their_repr_omits_user_data() -> None:
    instance = parse_instance(DOCUMENT)
    assert pickle.loads(pickle.dumps(instance)) == instance
    assert len({instance, parse_instance(copy.deepcopy(DOCUMENT))}) == 1
    assert "c2VjcmV0" not in repr(instance)
    assert instance.compute.user_data == "c2VjcmV0"
    assert instance.compute.user_data_bytes == b"secret"
    assert parse_instance({"userData": "?"}).compute.user_data_bytes is None
    assert parse_instance({"vmId": "a"}).compute.user_data_bytes is None


def test_asdict_has_typed_values_without_secrets_and_raw_documents() -> None:
    document = copy.deepcopy(DOCUMENT)
    document["compute"]["customData"] = "Y3VzdG9t"
    instance = parse_instance(document)
    for each in (instance, instance.compute):
        text = json.dumps(dataclasses.asdict(each))
        assert "02aab8a4" in text
        assert all(word not in text for word in ("c2VjcmV0", "Y3VzdG9t", "raw", "newField"))
    assert instance.compute.custom_data == "Y3VzdG9t"
    assert instance.compute.extra == {"newField": {"deep": ["1"]}}


def test_raw_documents_are_parts_of_one_document() -> None:
    instance = parse_instance(DOCUMENT)
    for each in (instance, pickle.loads(pickle.dumps(instance)), copy.deepcopy(instance)):
        assert each.compute.raw is each.raw["compute"]
        assert each.compute.storage_profile.raw is each.raw["compute"]["storageProfile"]


@pytest.mark.parametrize("name", ["userData", "newField", "name"])
def test_documents_with_other_values_are_not_equal(name: str) -> None:
    other = copy.deepcopy(DOCUMENT)
    other["compute"][name] = "other"
    assert parse_instance(other) != parse_instance(DOCUMENT)
    assert parse_instance(DOCUMENT) != parse_instance(DOCUMENT).compute


SET_ID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachineScaleSets/web"


@pytest.mark.parametrize(
    ("compute", "scale_set"),
    [
        ({"vmScaleSetName": "web"}, ScaleSet("web")),
        ({"virtualMachineScaleSet": {"id": SET_ID}}, ScaleSet("web", SET_ID)),
        (
            {"vmScaleSetName": "web", "virtualMachineScaleSet": {"id": SET_ID}},
            ScaleSet("web", SET_ID),
        ),
        ({"resourceId": f"{SET_ID}/virtualMachines/3"}, ScaleSet("web", SET_ID, "3")),
        (
            {"resourceId": f"{SET_ID}/virtualMachines/3", "vmScaleSetName": "web"},
            ScaleSet("web", SET_ID, "3"),
        ),
        ({"resourceId": SET_ID.replace("ScaleSets", "s"), "vmScaleSetName": ""}, None),
        ({"virtualMachineScaleSet": {"id": ""}}, None),
        ({}, None),
    ],
)
def test_the_scale_set_is_found_in_any_field(compute: Any, scale_set: ScaleSet | None) -> None:
    assert parse_instance({"compute": {"name": "a", **compute}}).compute.scale_set == scale_set


def test_instances_are_immutable() -> None:
    instance = parse_instance(DOCUMENT)
    with pytest.raises(AttributeError):
        instance.compute.name = "other"  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        instance.compute.raw = {}  # type: ignore[misc]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "neither compute nor network"),
        ({"loadbalancer": {}}, "neither compute nor network"),
        ([], "the document is a JSON list; expected an object"),
        ({"compute": ["x"]}, "/compute is a JSON list; expected an object"),
        (
            {"network": {"interface": {"x": 1}}},
            "/network/interface is a JSON dict; expected a list",
        ),
        ({"network": {"interface": ["x"]}}, "/network/interface/0 is a JSON str"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (None, "a JSON NoneType; expected an object"),
        ("", "not JSON"),
    ],
)
def test_a_wrong_structure_is_refused_with_its_path(document: Any, message: str) -> None:
    with pytest.raises(MalformedMetadataError, match=message):
        parse_instance(document)


def test_empty_values_of_any_type_are_accepted() -> None:
    rewritten = {
        "compute": {
            "name": "a",
            "publicKeys": {},
            "tagsList": {},
            "plan": [],
            "storageProfile": [],
        },
        "network": [],
    }
    instance = parse_instance("\ufeff" + json.dumps(rewritten))
    assert instance.compute.name == "a"
    assert instance.compute.public_keys == ()
    assert not instance.compute.plan
    assert not instance.network
    assert instance.raw == rewritten


@pytest.mark.parametrize("value", ["many", "", "1.5", "9" * 5000, True, None, [], {}, "٣"])
def test_a_leaf_that_cannot_be_converted_is_none(value: Any) -> None:
    instance = parse_instance({"compute": {"platformFaultDomain": value}})
    assert instance.compute.platform_fault_domain is None
    assert instance.compute.raw == {"platformFaultDomain": value}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parts[-3])
def test_every_published_example_is_parsed_without_loss(path: Path) -> None:
    document = json.loads(path.read_text())["responses"]["200"]["body"]
    instance = parse_instance(document)
    assert instance.raw == document
    assert instance.compute.extra == {}
    assert instance.compute.vm_id == document["compute"]["vmId"]
    assert instance.compute.tags == {"baz": "bash", "foo": "bar"}
    assert leaves(instance) >= len(set(flat(document["compute"]))) - 2  # the tags, twice


def flat(document: Any, path: str = "") -> list[str]:
    """Return the paths of all leaves that are not empty."""
    if isinstance(document, dict):
        return [leaf for name, value in document.items() for leaf in flat(value, f"{path}/{name}")]
    if isinstance(document, list):
        return [leaf for i, value in enumerate(document) for leaf in flat(value, f"{path}/{i}")]
    return [path] if document else []


def leaves(value: Any) -> int:
    """Return the number of typed leaves that are set."""
    if isinstance(value, tuple):
        return sum(map(leaves, value))
    names = [n for n in getattr(value, "__dataclass_fields__", ()) if n != "raw"]
    return sum(leaves(getattr(value, n)) for n in names) if names else value is not None


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
)

NAMES = st.sampled_from(
    [
        *("compute", "network", "interface", "ipv4", "tagsList", "tags", "plan", "storageProfile"),
        *("virtualMachineScaleSet", "id", "vmScaleSetName", "resourceId", "userData"),
    ]
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


SECRETS = st.dictionaries(st.sampled_from(["userData", "customData"]), st.just("hidden text"))


@given(JSON, SECRETS)
def test_any_document_is_parsed_or_refused(document: Any, secrets: dict[str, str]) -> None:
    if isinstance(document, dict) and isinstance(document.get("compute"), dict):
        document["compute"] |= secrets
    try:
        instance = parse_instance(document)
    except MetadataError:
        return
    assert instance.raw == document
    assert isinstance(instance.compute.tags, dict)
    assert pickle.loads(pickle.dumps(instance)) == instance
    assert "hidden text" not in json.dumps(dataclasses.asdict(instance))
    scale_set = instance.compute.scale_set
    assert scale_set is None or scale_set.name


def test_public_addresses_of_both_skus_are_returned() -> None:
    balancer = LoadBalancer.parse(
        {
            "publicIpAddresses": [
                {"frontendIpAddress": "203.0.113.10", "privateIpAddress": "10.0.0.4"},
                {"frontendIpAddress": "203.0.113.4", "privateIpAddress": "10.0.0.4"},
            ],
            "inboundRules": [{"frontendPort": 443, "backendPort": "8443", "protocol": "tcp"}],
        }
    )
    assert public_ips(parse_instance(DOCUMENT), balancer) == ("203.0.113.4", "203.0.113.10")
    assert public_ips(parse_instance({"network": {}}), LoadBalancer()) == ()
    assert balancer.inbound_rules[0].frontend_port == 443
    assert balancer.inbound_rules[0].backend_port == 8443
