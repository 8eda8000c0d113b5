"""The samples of Microsoft's documentation: requests, scripts and expected responses."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from emulator.support import claims_of
from imds_identity.emulator import Emulator, Machine, ManualClock

if TYPE_CHECKING:
    import requests

    from emulator.support import Send, Start

SAMPLES = Path(__file__).parent / "samples"
ARM = "https://management.azure.com/"
INSTANCE = "/metadata/instance"
EVENTS = "/metadata/scheduledevents"
TOKEN_SAMPLE = (
    "/metadata/identity/oauth2/token?api-version=2018-02-01"
    "&resource=https%3A%2F%2Fmanagement.azure.com%2F"
)
needs_shell = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in ("bash", "curl", "openssl")),
    reason="needs bash, curl and openssl",
)


def sample(name: str) -> Any:
    return json.loads((SAMPLES / f"{name}.json").read_text())


def machine_of(document: dict[str, Any]) -> Machine:
    """Return the machine that an instance document describes."""
    compute = dict(document["compute"])
    tags = dict(pair.split(":") for pair in compute.pop("tags").split(";") if pair)
    compute.pop("tagsList", None)
    return Machine(
        name=compute["name"],
        subscription_id=compute["subscriptionId"],
        resource_group=compute["resourceGroupName"],
        location=compute["location"],
        vm_id=compute["vmId"],
        vm_size=compute["vmSize"],
        os_type=compute["osType"],
        zone=compute["zone"],
        tags=tags,
        compute=compute,
        network=document["network"],
    )


@pytest.mark.parametrize(
    ("profile", "version", "name"),
    [
        ("vm", "2019-06-01", "vm-2019-06-01"),
        ("stack-hub", "2021-05-01", "stack-hub-2021-05-01"),
    ],
)
def test_instance_document_equals_the_sample(
    start_emulator: Start, get: Send, profile: str, version: str, name: str
) -> None:
    expected = sample(name)
    emulator = start_emulator(profile, machine=machine_of(expected))
    assert get(emulator, INSTANCE, api_version=version).json() == expected
    assert get(emulator, f"{INSTANCE}/compute", api_version=version).json() == expected["compute"]
    assert get(emulator, f"{INSTANCE}/network", api_version=version).json() == expected["network"]


@pytest.mark.parametrize(
    ("path", "version", "text"),
    [
        ("compute/vmId", "2017-08-01", "13f56399-bd52-4150-9748-7190aae1ff21"),
        ("compute/platformFaultDomain", "2017-08-01", "0"),
        ("compute/azEnvironment", "2018-10-01", "AzurePublicCloud"),
        ("compute/tags", "2018-10-01", "Department:IT;Environment:Prod;Role:WorkerRole"),
        ("network/interface/0/ipv4/ipAddress/0/publicIpAddress", "2017-08-01", "X.X.X.X"),
        ("network/interface/0", "2017-04-02", "ipv4/\nipv6/\nmacAddress"),
    ],
)
def test_leaf_is_available_as_text_only(
    start_emulator: Start, get: Send, path: str, version: str, text: str
) -> None:
    emulator = start_emulator(machine=machine_of(sample("vm-2019-06-01")))
    response = get(emulator, f"{INSTANCE}/{path}", api_version=version, format="text")
    assert (response.status_code, response.text) == (200, text)
    if "\n" not in text:
        assert get(emulator, f"{INSTANCE}/{path}", api_version=version).status_code == 400


def test_tags_are_available_as_a_list(start_emulator: Start, get: Send) -> None:
    emulator = start_emulator(machine=machine_of(sample("vm-2019-06-01")))
    response = get(emulator, f"{INSTANCE}/compute/tagsList", api_version="2019-06-04")
    assert response.json() == [
        {"name": "Department", "value": "IT"},
        {"name": "Environment", "value": "Prod"},
        {"name": "Role", "value": "WorkerRole"},
    ]


@pytest.mark.parametrize(
    ("newest", "listed"),
    [
        ("2018-10-01", ["2018-10-01", "2018-04-02", "2018-02-01"]),
        ("2020-10-01", ["2020-10-01", "2020-09-01", "2020-07-15"]),
    ],
)
def test_error_without_api_version_lists_the_newest_versions(
    start_emulator: Start, get: Send, newest: str, listed: list[str]
) -> None:
    response = get(start_emulator(newest_version=newest), INSTANCE)
    assert response.status_code == 400
    assert response.json() == {
        "error": "Bad request. api-version was not specified in the request. "
        "For more information refer to aka.ms/azureimds",
        "newest-versions": listed,
    }


def test_azure_stack_hub_has_its_documented_versions(start_emulator: Start, get: Send) -> None:
    versions = get(start_emulator("stack-hub"), "/metadata/versions").json()["apiVersions"]
    assert (versions[0], versions[-1], len(versions)) == ("2017-03-01", "2021-05-01", 25)


@pytest.mark.parametrize(
    "path", ["attested/document", "identity/oauth2/token", "loadbalancer", "scheduledevents"]
)
def test_azure_stack_hub_has_no_other_category(start_emulator: Start, get: Send, path: str) -> None:
    response = get(start_emulator("stack-hub"), f"/metadata/{path}", api_version="2021-05-01")
    assert response.status_code == 404


def test_disk_has_newer_fields_in_newer_versions_only(start_emulator: Start, get: Send) -> None:
    disk = sample("disk-2021-05-01")
    emulator = start_emulator(machine=Machine(compute={"storageProfile": {"dataDisks": [disk]}}))
    path = f"{INSTANCE}/compute/storageProfile/dataDisks/0"
    assert get(emulator, path, api_version="2021-05-01").json() == disk
    before = get(emulator, path, api_version="2021-03-01").json()
    assert set(disk) - set(before) == {
        "bytesPerSecondThrottle",
        "diskCapacityBytes",
        "isSharedDisk",
        "isUltraDisk",
        "opsPerSecondThrottle",
    }


def test_live_migration_of_two_machines_goes_as_in_the_sample(
    start_emulator: Start, get: Send, http: requests.Session, clock: ManualClock
) -> None:
    expected = sample("event-2020-07-01")
    emulator = start_emulator(machine=Machine(scale_set="WestNO"), clock=clock)

    def document() -> Any:
        return get(emulator, EVENTS, api_version="2020-07-01").json()

    first = document()
    assert first["Events"] == []
    event_id = emulator.schedule_event(
        "Freeze", resources=expected["Resources"], description=expected["Description"], duration=5
    )
    second = document()
    [event] = second["Events"]
    assert event.pop("NotBefore").endswith(" GMT")
    assert event == {**expected, "EventId": event_id, "EventStatus": "Scheduled"}
    body = f'{{"StartRequests": [{{"EventId": "{event_id}"}}]}}'
    url = f"{emulator.endpoint}{EVENTS}?api-version=2020-07-01"
    assert http.post(url, data=body).status_code == 200
    third = document()
    assert third["Events"] == [
        {**expected, "EventId": event_id, "EventStatus": "Started", "NotBefore": ""}
    ]
    clock.advance(600)
    fourth = document()
    assert fourth["Events"] == []
    steps = [each["DocumentIncarnation"] for each in (first, second, third, fourth)]
    assert steps == [steps[0] + number for number in range(4)]


# The requests of a VM's connectivity test: each must get the status 200.
@pytest.mark.parametrize(
    "query",
    [
        f"{INSTANCE}?api-version=2019-11-01&format=json",
        f"{INSTANCE}?api-version=2021-02-01",
        f"{INSTANCE}/compute/userData?api-version=2021-01-01&format=text",
        "/metadata/versions",
        TOKEN_SAMPLE,
        TOKEN_SAMPLE + "&mi_res_id={resource_id}",
        "/metadata/attested/document?api-version=2018-10-01&nonce=1234567890",
        "/metadata/loadbalancer?api-version=2020-10-01",
    ],
)
def test_vm_passes_the_connectivity_test(
    start_emulator: Start, http: requests.Session, query: str
) -> None:
    emulator = start_emulator()
    resource_id = getattr(emulator.identities[1], "resource_id", "")
    assert http.get(emulator.endpoint + query.format(resource_id=resource_id)).status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        f"{INSTANCE}?api-version=2019-03-11",
        "/metadata/attested/document?api-version=2019-03-11&nonce=1234576",
    ],
)
def test_azureimds_samples_succeed(
    start_emulator: Start, http: requests.Session, query: str
) -> None:
    response = http.get(start_emulator().endpoint + query, headers={"Metadata": "True"})
    assert response.status_code == 200
    if "nonce" in query:
        # The sample only looks for its nonce in the decoded document.
        assert b"1234576" in base64.b64decode(response.json()["signature"])


ARC_SAMPLE = """
ChallengeTokenPath=$(curl -s -D - -H Metadata:true "$ENDPOINT/metadata/identity/oauth2/token?\
api-version=2019-11-01&resource=https%3A%2F%2Fmanagement.azure.com" | grep Www-Authenticate \
| cut -d "=" -f 2 | tr -d "[:cntrl:]")
ChallengeToken=$(cat $ChallengeTokenPath)
if [ $? -ne 0 ]; then exit 1; fi
curl -s -H Metadata:true -H "Authorization: Basic $ChallengeToken" "$ENDPOINT/metadata/identity/\
oauth2/token?api-version=2019-11-01&resource=https%3A%2F%2Fmanagement.azure.com"
"""
ATTESTED_SAMPLE = """
curl --silent -H Metadata:True --noproxy "*" \
"$ENDPOINT/metadata/attested/document?api-version=2019-04-30" \
| sed 's/.*"signature":"//; s/".*//' > signature
base64 -d signature > decodedsignature
openssl pkcs7 -in decodedsignature -inform DER -out sign.pk7
openssl pkcs7 -in decodedsignature -inform DER -print_certs -out signer.pem
curl -s -o intermediate.cer \
"$(openssl x509 -in signer.pem -text -noout | grep " CA Issuers -" | awk -FURI: '{print $2}')"
openssl x509 -inform der -in intermediate.cer -out intermediate.pem
openssl smime -verify -in sign.pk7 -inform pem -noverify 2>verified
openssl verify -CAfile "$ROOT" -untrusted intermediate.pem signer.pem >&2
"""


def shell(script: str, directory: Path, emulator: Emulator, **variables: str) -> str:
    environment = {**os.environ, "ENDPOINT": emulator.endpoint, **variables}
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True, text=True, check=False, cwd=directory, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_shell
def test_arc_script_of_the_documentation_succeeds(start_emulator: Start, tmp_path: Path) -> None:
    response = json.loads(shell(ARC_SAMPLE, tmp_path, start_emulator("arc")))
    assert response["resource"] == "https://management.azure.com"
    assert response["token_type"] == "Bearer"


@needs_shell
def test_attested_document_script_of_the_documentation_succeeds(
    start_emulator: Start, tmp_path: Path
) -> None:
    emulator = start_emulator()
    content = shell(ATTESTED_SAMPLE, tmp_path, emulator, ROOT=emulator.attested_root_file)
    assert set(json.loads(content)) == {"nonce", "plan", "subscriptionId", "timeStamp", "vmId"}
    assert "successful" in (tmp_path / "verified").read_text()


def test_intermediate_url_may_end_with_a_line_feed(
    start_emulator: Start, http: requests.Session
) -> None:
    url = start_emulator().endpoint + "/emulator/attested/intermediate.cer"
    assert http.get(f"{url}%0A").content == http.get(url).content


def test_arc_server_passes_the_connectivity_test(
    start_emulator: Start, get: Send, request_arc_token: Send
) -> None:
    emulator = start_emulator("arc")
    assert get(emulator, INSTANCE, api_version="2019-11-01", format="json").status_code == 200
    assert (
        claims_of(request_arc_token(emulator, api_version="2019-11-01", resource=ARM))["aud"] == ARM
    )
