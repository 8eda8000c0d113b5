"""The exchanges of the metadata categories, stepped by hand; versions and clouds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._core.failure import Failure, Malformed, Refused, Unavailable
from imds_identity._http.exchange import Pause, ReadFailed, Send
from imds_identity.metadata import cloud_named, stack_hub_cloud
from imds_identity.metadata._models.compute import Compute
from imds_identity.metadata._models.parsing import from_json
from imds_identity.metadata._requests import exchanges
from imds_identity.metadata._requests.exchanges import Service
from imds_identity.metadata._requests.failures import NotFound, NotOffered, UnknownVersion
from imds_identity.metadata._requests.versions import KNOWN, checked, known_to, newest_of_both
from support import ExchangeDriver, FakeClock, ResponseFactory, no_jitter

BASE = "http://169.254.169.254"
SERVICE = Service(BASE, no_jitter)
COMPLAINT = {
    "error": "Bad request. api-version is invalid or not supported in this region",
    "newest-versions": ["2021-02-01", "2021-01-01", "2020-12-01"],
}
CATEGORIES = ["instance", "loadbalancer", "attested", "identity", "events", "versions", "approval"]


def fresh(index: int) -> ExchangeDriver:
    again: list[Any] = [
        exchanges.instance(SERVICE),
        exchanges.load_balancer(SERVICE),
        exchanges.attested(SERVICE, "1"),
        exchanges.identity_info(SERVICE),
        exchanges.events(SERVICE, first=False),
        exchanges.versions(SERVICE),
        exchanges.start_events(SERVICE, body=b"{}"),
    ]
    return ExchangeDriver(again[index])


def test_the_instance_is_asked_for_by_the_newest_version(responses: ResponseFactory) -> None:
    stepped = ExchangeDriver(exchanges.instance(SERVICE))
    request = stepped.step.request
    assert request.url == f"{BASE}/metadata/instance?api-version=2025-04-07"
    assert request.headers == {"Metadata": "true"}
    answer = stepped.finish(responses.json(200, {"compute": {}}))
    assert answer == ({"compute": {}}, "2025-04-07")


def test_the_newest_version_that_both_know_is_used_and_told(responses: ResponseFactory) -> None:
    stepped = ExchangeDriver(exchanges.instance(SERVICE))
    step = stepped.respond(responses.json(400, COMPLAINT))
    assert step.request.url.endswith("?api-version=2021-02-01")
    assert stepped.finish(responses.json(200, {})).version == "2021-02-01"
    remembered = ExchangeDriver(exchanges.instance(SERVICE, "2021-02-01"))
    assert remembered.step.request.url.endswith("?api-version=2021-02-01")


def test_a_complaint_that_lists_nothing_asks_for_the_versions(responses: ResponseFactory) -> None:
    stepped = ExchangeDriver(exchanges.attested(SERVICE, "7"))
    step = stepped.respond(responses.json(400, {"error": "Bad request. api-version is invalid"}))
    assert step.request.url == f"{BASE}/metadata/versions"
    step = stepped.respond(
        responses.json(200, {"apiVersions": ["2019-06-01", "2020-06-01", "x", 3]})
    )
    assert "?api-version=2020-06-01&nonce=7" in step.request.url


def test_where_the_newest_ones_are_all_unknown_the_others_are_asked_for(
    responses: ResponseFactory,
) -> None:
    stepped = ExchangeDriver(exchanges.instance(SERVICE))
    strange = {**COMPLAINT, "newest-versions": ["2022-03-01", "2022-02-01"]}
    assert stepped.respond(responses.json(400, strange)).request.url == f"{BASE}/metadata/versions"
    listed = {"apiVersions": ["2021-01-01", "2022-02-01", "2022-03-01"]}
    step = stepped.respond(responses.json(200, listed))
    assert step.request.url.endswith("?api-version=2021-01-01")


def test_an_explicit_version_is_never_changed(responses: ResponseFactory) -> None:
    pinned = ExchangeDriver(exchanges.instance(SERVICE._replace(pinned="2024-03-15"), "2021-02-01"))
    assert pinned.step.request.url.endswith("?api-version=2024-03-15")
    with pytest.raises(UnknownVersion, match="api-version is invalid"):
        pinned.respond(responses.json(400, COMPLAINT))


def test_a_version_is_agreed_on_once_only(responses: ResponseFactory) -> None:
    stepped = ExchangeDriver(exchanges.instance(SERVICE))
    stepped.respond(responses.json(400, COMPLAINT))
    with pytest.raises(UnknownVersion):
        stepped.respond(responses.json(400, COMPLAINT))


def test_a_category_that_is_newer_than_the_service_is_not_offered(
    responses: ResponseFactory,
) -> None:
    stepped = ExchangeDriver(exchanges.load_balancer(SERVICE))
    old = {**COMPLAINT, "newest-versions": ["2019-03-11"]}
    with pytest.raises(NotOffered, match="up to 2019-03-11, and loadbalancer came with 2020-10-01"):
        stepped.respond(responses.json(400, old))


@pytest.mark.parametrize("index", range(len(CATEGORIES)), ids=CATEGORIES)
@pytest.mark.parametrize("status", [410, 429, 500, 503])
def test_what_passes_is_asked_again(responses: ResponseFactory, index: int, status: int) -> None:
    stepped = fresh(index)
    first = stepped.step.request
    assert isinstance(stepped.respond(responses.error(status)), Pause)
    step = stepped.respond(None)
    assert isinstance(step, Send)
    assert step.request is first


@pytest.mark.parametrize("index", [0, 2, 3, 4, 5, 6])
def test_a_404_is_final(responses: ResponseFactory, index: int) -> None:
    with pytest.raises(NotFound, match="answered 404"):
        fresh(index).respond(responses.error(404))


def test_a_404_of_the_load_balancer_is_no_load_balancer(responses: ResponseFactory) -> None:
    answer = ExchangeDriver(exchanges.load_balancer(SERVICE)).finish(responses.error(404))
    assert not answer.document
    assert answer.document.public_ip_addresses == ()


def test_the_load_balancer_s_document_is_read(responses: ResponseFactory) -> None:
    said = {"loadbalancer": {"publicIpAddresses": [{"frontendIpAddress": "203.0.113.10"}]}}
    answer = ExchangeDriver(exchanges.load_balancer(SERVICE)).finish(responses.json(200, said))
    assert answer.document.public_ip_addresses[0].frontend_ip_address == "203.0.113.10"


def test_an_attested_document_is_its_signature(responses: ResponseFactory) -> None:
    stepped = ExchangeDriver(exchanges.attested(SERVICE, "a b"))
    assert stepped.step.request.url.endswith("&nonce=a%20b")
    said = {"encoding": "pkcs7", "signature": "MII"}
    assert stepped.finish(responses.json(200, said)).document == "MII"
    without = ExchangeDriver(exchanges.attested(SERVICE, None))
    assert "nonce" not in without.step.request.url
    with pytest.raises(Malformed, match="no signature in the encoding pkcs7"):
        without.respond(responses.json(200, {**said, "encoding": "jws"}))


def test_the_tenant_of_the_identities_is_told(responses: ResponseFactory) -> None:
    stepped = ExchangeDriver(exchanges.identity_info(SERVICE))
    assert "/metadata/identity/info?api-version=" in stepped.step.request.url
    assert stepped.finish(responses.json(200, {"tenantId": "t"})).document == "t"


def test_the_first_answer_of_scheduled_events_may_take_130_s() -> None:
    assert ExchangeDriver(exchanges.events(SERVICE, first=True)).step.request.seconds == 130
    later = ExchangeDriver(exchanges.events(SERVICE, first=False)).step.request
    assert later.seconds < 30
    assert later.url.endswith("/metadata/scheduledevents?api-version=2020-07-01")


def test_scheduled_events_have_versions_of_their_own(responses: ResponseFactory) -> None:
    stepped = ExchangeDriver(exchanges.events(SERVICE, first=False))
    old = {**COMPLAINT, "newest-versions": ["2019-11-01", "2019-08-15", "2019-06-04"]}
    stepped.respond(responses.json(400, old))
    assert stepped.respond(responses.error(404)).request.url.endswith("?api-version=2019-08-01")


def test_a_poll_of_scheduled_events_neither_waits_nor_takes_a_failure_for_no_events(
    responses: ResponseFactory,
) -> None:
    def poll() -> ExchangeDriver:
        return ExchangeDriver(exchanges.events(SERVICE, first=False, retry=False))

    assert poll().finish(responses.json(200, {"Events": []})).document == {"Events": []}
    for outcome in (
        ReadFailed("reset"),
        responses.error(410),
        responses.error(500),
        responses.error(404),
        responses.raw(204),
        responses.raw(200, ""),
        responses.raw(200, "<html>"),
    ):
        with pytest.raises(Failure):
            poll().respond(outcome)


def test_approval_is_posted(responses: ResponseFactory) -> None:
    stepped = ExchangeDriver(exchanges.start_events(SERVICE, body=b'{"StartRequests": []}'))
    request = stepped.step.request
    assert request.method == "POST"
    assert request.body == b'{"StartRequests": []}'
    assert stepped.finish(responses.raw(200)) == (None, "2020-07-01")
    with pytest.raises(Refused, match="answered 400 for scheduledevents"):
        fresh(6).respond(responses.error(400))
    with pytest.raises(Refused, match=r"answered 403 .*Something else may answer"):
        fresh(6).respond(responses.error(403))


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirect_is_not_followed(responses: ResponseFactory, status: int) -> None:
    with pytest.raises(Unavailable, match="redirect"):
        fresh(0).respond(responses.raw(status, location="http://elsewhere/"))


def test_throttling_names_itself(responses: ResponseFactory) -> None:
    stepped = fresh(0)
    with pytest.raises(Refused, match=r"answered 429 .*five requests a second") as caught:
        stepped.respond(responses.error(429, retry_after="120"))
    assert caught.value.retry_after == 120


@given(
    index=st.integers(0, 5),
    status=st.sampled_from([200, 200, 400]),
    body=st.binary(max_size=40)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["newest-versions", "apiVersions", "error", "loadbalancer", "tenantId"]
                ),
                inner,
                max_size=3,
            )
        ),
        max_leaves=6,
    ).map(lambda value: json.dumps(value).encode()),
)
def test_whatever_a_hostile_service_says_ends_in_an_answer_or_a_failure(
    index: int, status: int, body: bytes
) -> None:
    responses = ResponseFactory(FakeClock())
    stepped = fresh(index)
    try:
        for _ in range(3):
            stepped.respond(responses.raw(status, body))
    except (StopIteration, Failure):
        return
    raise AssertionError("it goes on and on")


@pytest.mark.parametrize("index", range(6), ids=CATEGORIES[:6])
@pytest.mark.parametrize("said", ["[" * 100_000, '{"a":' * 300 + "1" + "}" * 300])
def test_json_that_is_nested_without_end_is_refused(
    responses: ResponseFactory, index: int, said: str
) -> None:
    with pytest.raises(Malformed):
        fresh(index).respond(responses.raw(200, said))


def test_json_is_read_to_a_depth_that_no_document_has() -> None:
    deepest = "[" * 100 + "]" * 100
    assert json.dumps(from_json(deepest)) == deepest
    with pytest.raises(Malformed, match="deeper than 100 levels"):
        from_json(f"[{deepest}]")


def test_the_newest_version_of_both_sides() -> None:
    assert newest_of_both(KNOWN, ["2099-01-01", "2021-12-13", "2020-06-01"]) == "2021-12-13"
    assert newest_of_both(KNOWN, ["2099-01-01"]) == "2025-04-07"
    assert newest_of_both(KNOWN, ["2022-01-01"]) == "2021-12-13"
    assert newest_of_both(known_to("attested"), ["2017-08-01"]) is None
    assert newest_of_both(KNOWN, []) is None
    assert newest_of_both(KNOWN, [None, "latest", 3]) is None
    assert checked("2021-12-13") == "2021-12-13"
    with pytest.raises(ValueError, match="must look like"):
        checked("latest")


def test_known_versions_are_those_of_the_published_list() -> None:
    published = Path(__file__).parents[3] / "shared/reference/imds-openapi/2023-07-01/examples"
    if not published.exists():
        pytest.skip("needs the published OpenAPI files")
    document = json.loads((published / "GetVersions.json").read_text())
    listed = document["responses"]["200"]["body"]["apiVersions"]
    assert list(KNOWN[: len(listed)]) == listed
    assert list(KNOWN) == sorted(KNOWN)


@pytest.mark.parametrize(
    ("environment", "manager", "vault"),
    [
        ("AzurePublicCloud", "https://management.azure.com", "vault.azure.net"),
        ("AZUREPUBLICCLOUD", "https://management.azure.com", "vault.azure.net"),
        (
            "AzureUSGovernmentCloud",
            "https://management.usgovcloudapi.net",
            "vault.usgovcloudapi.net",
        ),
        ("AZURECHINACLOUD", "https://management.chinacloudapi.cn", "vault.azure.cn"),
        ("AzureGermanCloud", "https://management.microsoftazure.de", "vault.microsoftazure.de"),
    ],
)
def test_a_cloud_is_known_by_its_name_in_any_case(
    environment: str, manager: str, vault: str
) -> None:
    cloud = Compute.parse({"azEnvironment": environment}).cloud
    assert cloud == cloud_named(environment)
    assert cloud is not None
    assert cloud.resource_manager == manager
    assert cloud.resource_manager_scope == f"{manager}/.default"
    assert cloud.key_vault_suffix == vault
    assert cloud.storage_scope == "https://storage.azure.com/.default"


def test_a_stack_hub_s_endpoints_are_its_operator_s() -> None:
    compute = Compute.parse({"azEnvironment": "AZURESTACK"})
    assert compute.is_stack_hub
    assert compute.cloud is None
    with pytest.raises(ValueError, match="stack_hub_cloud"):
        cloud_named("AzureStack")
    with pytest.raises(ValueError, match="no cloud of Azure"):
        cloud_named("Azure")
    hub = stack_hub_cloud("east", "stack.contoso.com", "https://login.microsoftonline.com/")
    assert hub.resource_manager == "https://management.east.stack.contoso.com"
    assert hub.key_vault_suffix == "vault.east.stack.contoso.com"
    assert hub.attestation_domain is None
    with pytest.raises(ValueError, match="region must be a DNS name"):
        stack_hub_cloud("a/b", "c", "https://x")
    with pytest.raises(ValueError, match="https URL"):
        stack_hub_cloud("a", "c", "http://x")
