"""The exchanges of the metadata categories, step by step; API versions and clouds."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._core.failure import Failure, Malformed, Refused, Unavailable
from imds_identity._http.exchange import ConnectFailed, Pause, ReadFailed, Send
from imds_identity.metadata import cloud_named, stack_hub_cloud
from imds_identity.metadata._models.compute import Compute
from imds_identity.metadata._models.parsing import from_json
from imds_identity.metadata._requests import exchanges
from imds_identity.metadata._requests.endpoint import ServiceEndpoint
from imds_identity.metadata._requests.failures import (
    ElementNotFound,
    UnsupportedOnHost,
    UnsupportedVersion,
)
from imds_identity.metadata._requests.versions import (
    KNOWN_VERSIONS,
    newest_common_version,
    validated_version,
    versions_of,
)
from support import ExchangeDriver, FakeClock, ResponseFactory, no_jitter

BASE = "http://169.254.169.254"
ENDPOINT = ServiceEndpoint(BASE, no_jitter)
VERSION_ERROR = {
    "error": "Bad request. api-version is invalid or not supported in this region",
    "newest-versions": ["2021-02-01", "2021-01-01", "2020-12-01"],
}
WHOLE = {"compute": {"name": "vm-7"}, "network": {"interface": [{"macAddress": "0"}]}}
CATEGORIES = ["instance", "loadbalancer", "attested", "identity", "events", "versions", "approval"]


def driver_of(index: int) -> ExchangeDriver:
    exchange: list[Any] = [
        exchanges.instance(ENDPOINT),
        exchanges.load_balancer(ENDPOINT),
        exchanges.attested(ENDPOINT, nonce="1"),
        exchanges.identity_info(ENDPOINT),
        exchanges.events(ENDPOINT, first=False),
        exchanges.versions(ENDPOINT),
        exchanges.start_events(ENDPOINT, body=b"{}"),
    ]
    return ExchangeDriver(exchange[index])


@pytest.mark.parametrize("index", range(len(CATEGORIES)), ids=CATEGORIES)
def test_three_refused_connections_show_that_there_is_no_service(index: int) -> None:
    driver, pauses = driver_of(index), []
    with pytest.raises(Unavailable):
        while True:
            pauses.append(driver.respond(ConnectFailed("refused")).seconds)
            driver.respond(None)
    assert pauses == [0.5, 1]


def test_the_instance_is_requested_with_the_newest_version(responses: ResponseFactory) -> None:
    driver = ExchangeDriver(exchanges.instance(ENDPOINT))
    request = driver.step.request
    assert request.url == f"{BASE}/metadata/instance?api-version=2025-11-15"
    assert request.headers == {"Metadata": "true"}
    found = driver.finish(responses.json(200, WHOLE))
    assert found == (WHOLE, "2025-11-15")


def test_the_newest_common_version_is_used_and_returned(responses: ResponseFactory) -> None:
    driver = ExchangeDriver(exchanges.instance(ENDPOINT))
    step = driver.respond(responses.json(400, VERSION_ERROR))
    assert step.request.url.endswith("?api-version=2021-02-01")
    assert driver.finish(responses.json(200, WHOLE))[1] == "2021-02-01"
    remembered = ExchangeDriver(exchanges.instance(ENDPOINT, "2021-02-01"))
    assert remembered.step.request.url.endswith("?api-version=2021-02-01")


def test_a_version_error_without_a_list_makes_the_client_fetch_the_versions(
    responses: ResponseFactory,
) -> None:
    driver = ExchangeDriver(exchanges.attested(ENDPOINT, nonce="7"))
    step = driver.respond(responses.json(400, {"error": "Bad request. api-version is invalid"}))
    assert step.request.url == f"{BASE}/metadata/versions"
    step = driver.respond(
        responses.json(200, {"apiVersions": ["2019-06-01", "2020-06-01", "x", 3]})
    )
    assert "?api-version=2020-06-01&nonce=7" in step.request.url


def test_all_versions_are_fetched_if_the_newest_are_unknown(
    responses: ResponseFactory,
) -> None:
    driver = ExchangeDriver(exchanges.instance(ENDPOINT))
    unknown = {**VERSION_ERROR, "newest-versions": ["2022-03-01", "2022-02-01"]}
    assert driver.respond(responses.json(400, unknown)).request.url == f"{BASE}/metadata/versions"
    listed = {"apiVersions": ["2021-01-01", "2022-02-01", "2022-03-01"]}
    step = driver.respond(responses.json(200, listed))
    assert step.request.url.endswith("?api-version=2021-01-01")


def test_a_pinned_version_is_never_changed(responses: ResponseFactory) -> None:
    pinned = ExchangeDriver(
        exchanges.instance(replace(ENDPOINT, pinned_version="2024-03-15"), "2021-02-01")
    )
    assert pinned.step.request.url.endswith("?api-version=2024-03-15")
    with pytest.raises(UnsupportedVersion, match="api-version is invalid"):
        pinned.respond(responses.json(400, VERSION_ERROR))


def test_a_version_is_negotiated_only_once(responses: ResponseFactory) -> None:
    driver = ExchangeDriver(exchanges.instance(ENDPOINT))
    driver.respond(responses.json(400, VERSION_ERROR))
    with pytest.raises(UnsupportedVersion):
        driver.respond(responses.json(400, VERSION_ERROR))


def test_a_category_that_is_newer_than_the_service_is_unsupported(
    responses: ResponseFactory,
) -> None:
    driver = ExchangeDriver(exchanges.load_balancer(ENDPOINT))
    old = {**VERSION_ERROR, "newest-versions": ["2019-03-11"]}
    with pytest.raises(
        UnsupportedOnHost, match="up to 2019-03-11, but loadbalancer requires 2020-10-01"
    ):
        driver.respond(responses.json(400, old))


@pytest.mark.parametrize("index", range(len(CATEGORIES)), ids=CATEGORIES)
@pytest.mark.parametrize("status", [410, 429, 500, 503])
def test_a_transient_error_is_retried(responses: ResponseFactory, index: int, status: int) -> None:
    driver = driver_of(index)
    first = driver.step.request
    assert isinstance(driver.respond(responses.error(status)), Pause)
    step = driver.respond(None)
    assert isinstance(step, Send)
    assert step.request is first


@pytest.mark.parametrize("index", [0, 2, 3, 4, 5, 6])
def test_a_404_is_final(responses: ResponseFactory, index: int) -> None:
    driver = driver_of(index)
    with pytest.raises(ElementNotFound, match="HTTP 404"):
        if isinstance(driver.respond(responses.error(404)), Send):  # for the supported versions
            driver.respond(responses.error(404))


@pytest.mark.parametrize(
    "body",
    [
        WHOLE | {"compute": {}},
        {"compute": WHOLE["compute"]},
        {"network": WHOLE["network"]},
        WHOLE | {"network": {}},
        WHOLE | {"network": {"interface": []}},
        WHOLE | {"compute": None},
        {},
    ],
)
def test_a_partial_instance_document_is_requested_again_as_cloud_init_does(
    responses: ResponseFactory, body: Any
) -> None:
    driver = ExchangeDriver(exchanges.instance(ENDPOINT, "2021-02-01"))
    step = driver.respond(responses.json(200, body))
    assert step.request.url.endswith("/instance?api-version=2021-02-01&extended=true")
    assert isinstance(driver.respond(responses.error(500)), Pause)
    driver.respond(None)
    assert driver.finish(responses.json(200, WHOLE)) == (WHOLE, "2021-02-01")


def test_a_service_without_that_parameter_returns_the_partial_document(
    responses: ResponseFactory,
) -> None:
    part = {"compute": {"name": "vm-7"}}
    driver = ExchangeDriver(exchanges.instance(ENDPOINT, "2021-02-01"))
    driver.respond(responses.json(200, part))
    driver.respond(responses.error(400))
    supported = responses.json(200, {"apiVersions": ["2021-02-01"]})
    assert driver.finish(supported) == (part, "2021-02-01")
    driver = ExchangeDriver(exchanges.instance(ENDPOINT, "2021-02-01"))
    driver.respond(responses.json(200, part))
    assert driver.finish(responses.json(200, part)) == (part, "2021-02-01")


def test_the_document_of_azure_arc_is_whole_without_a_network(responses: ResponseFactory) -> None:
    arc = "/subscriptions/s/resourceGroups/g/providers/Microsoft.HybridCompute/machines/pi"
    document = {"compute": {"name": "pi", "resourceId": arc}, "network": {}}
    driver = ExchangeDriver(exchanges.instance(ENDPOINT))
    assert driver.finish(responses.json(200, document))[0] == document


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, {"error": "Not found. Invalid version requested"}),
        (400, "BAD REQUEST"),
        (400, ""),
        (404, ""),
    ],
)
def test_an_error_without_versions_makes_the_client_fetch_them(
    responses: ResponseFactory, status: int, body: Any
) -> None:
    driver = ExchangeDriver(exchanges.instance(ENDPOINT))
    refused = responses.raw(status, json.dumps(body) if isinstance(body, dict) else body)
    assert driver.respond(refused).request.url == f"{BASE}/metadata/versions"
    step = driver.respond(responses.json(200, {"apiVersions": ["2021-02-01", "2020-06-01"]}))
    assert step.request.url.endswith("?api-version=2021-02-01")
    assert driver.finish(responses.json(200, WHOLE)) == (WHOLE, "2021-02-01")


def test_an_error_that_the_version_does_not_cause_is_final(responses: ResponseFactory) -> None:
    driver = ExchangeDriver(exchanges.attested(ENDPOINT, nonce="a-b"))
    driver.respond(responses.raw(400, "BAD REQUEST"))
    with pytest.raises(Refused, match="HTTP 400 for attested: BAD REQUEST"):
        driver.respond(responses.json(200, {"apiVersions": list(KNOWN_VERSIONS)}))


def test_versions_in_words_are_used_as_azure_arc_lists_them(responses: ResponseFactory) -> None:
    text = "Unsupported api-version 2025-11-15. Supported are 2019-11-01 2020-06-01 2021-02-01"
    driver = ExchangeDriver(exchanges.instance(ENDPOINT))
    step = driver.respond(responses.json(400, {"error": text}))
    assert step.request.url.endswith("?api-version=2021-02-01")


def test_a_service_that_lists_no_versions_is_asked_for_widespread_ones(
    responses: ResponseFactory,
) -> None:
    refused = {"error": "Not found. Invalid version requested"}
    driver = ExchangeDriver(exchanges.instance(ENDPOINT))
    driver.respond(responses.json(404, refused))
    tried = [driver.respond(responses.error(404)).request.url[-10:]]
    tried += [driver.respond(responses.json(404, refused)).request.url[-10:] for _ in range(2)]
    assert tried == ["2021-02-01", "2019-06-01", "2017-03-01"]
    with pytest.raises(UnsupportedVersion, match="Invalid version requested"):
        driver.respond(responses.json(404, refused))


def test_a_version_that_only_the_service_knows_can_be_pinned(responses: ResponseFactory) -> None:
    driver = ExchangeDriver(exchanges.instance(replace(ENDPOINT, pinned_version="2031-01-01")))
    assert driver.step.request.url.endswith("?api-version=2031-01-01")
    assert driver.finish(responses.json(200, WHOLE)) == (WHOLE, "2031-01-01")


NO_BALANCER = "No load balancer metadata is found. Please check if your VM is using a non-basic SKU"


def test_only_one_404_for_the_load_balancer_means_that_there_is_none(
    responses: ResponseFactory,
) -> None:
    none = responses.json(404, {"error": NO_BALANCER})
    balancer, _ = ExchangeDriver(exchanges.load_balancer(ENDPOINT)).finish(none)
    assert not balancer
    assert balancer.public_ip_addresses == ()


@pytest.mark.parametrize(
    "text",
    [
        "Load balancer metadata is not available right now. Please retry later",
        "The load balancer API is not currently available",
    ],
)
def test_an_unavailable_load_balancer_document_is_requested_again(
    responses: ResponseFactory, text: str
) -> None:
    driver = ExchangeDriver(exchanges.load_balancer(ENDPOINT))
    assert isinstance(driver.respond(responses.json(404, {"error": text})), Pause)
    driver.respond(None)
    document = {"loadbalancer": {"publicIpAddresses": [{"frontendIpAddress": "203.0.113.10"}]}}
    assert driver.finish(responses.json(200, document))[0]


@pytest.mark.parametrize("text", ["API is not found", "anything"])
def test_another_404_for_the_load_balancer_is_an_error(
    responses: ResponseFactory, text: str
) -> None:
    driver = ExchangeDriver(exchanges.load_balancer(ENDPOINT))
    driver.respond(responses.json(404, {"error": text}))
    with pytest.raises(Refused, match=f"{text}.*does not mean that there is none") as caught:
        driver.respond(responses.json(200, {"apiVersions": list(KNOWN_VERSIONS)}))
    assert caught.value.status == 404


def test_ipv6_addresses_of_the_load_balancer_are_valid(responses: ResponseFactory) -> None:
    document = {
        "loadbalancer": {
            "inboundRules": [{"frontendIpAddress": "[2001:db8::1]", "privateIpAddress": "[::2]"}],
            "publicIpAddresses": [{"frontendIpAddress": "203.0.113.10"}],
        }
    }
    driver = ExchangeDriver(exchanges.load_balancer(ENDPOINT))
    balancer, _ = driver.finish(responses.json(200, document))
    assert str(ip_address(balancer.inbound_rules[0].frontend_ip_address or "")) == "2001:db8::1"
    assert balancer.inbound_rules[0].private_ip_address == "::2"
    assert balancer.public_ip_addresses[0].frontend_ip_address == "203.0.113.10"


def test_the_load_balancer_document_is_parsed(responses: ResponseFactory) -> None:
    document = {"loadbalancer": {"publicIpAddresses": [{"frontendIpAddress": "203.0.113.10"}]}}
    balancer, _ = ExchangeDriver(exchanges.load_balancer(ENDPOINT)).finish(
        responses.json(200, document)
    )
    assert balancer.public_ip_addresses[0].frontend_ip_address == "203.0.113.10"


def test_the_exchange_for_an_attested_document_returns_its_signature(
    responses: ResponseFactory,
) -> None:
    driver = ExchangeDriver(exchanges.attested(ENDPOINT, nonce="a b"))
    assert driver.step.request.url.endswith("&nonce=a%20b")
    document = {"encoding": "pkcs7", "signature": "MII"}
    assert driver.finish(responses.json(200, document))[0] == "MII"
    without = ExchangeDriver(exchanges.attested(ENDPOINT, nonce=None))
    assert "nonce" not in without.step.request.url
    with pytest.raises(Malformed, match="no signature in the encoding pkcs7"):
        without.respond(responses.json(200, {**document, "encoding": "jws"}))


def test_the_tenant_of_the_identities_is_returned(responses: ResponseFactory) -> None:
    driver = ExchangeDriver(exchanges.identity_info(ENDPOINT))
    assert "/metadata/identity/info?api-version=" in driver.step.request.url
    assert driver.finish(responses.json(200, {"tenantId": "t"}))[0] == "t"


def test_the_first_request_for_scheduled_events_has_a_timeout_of_130_s() -> None:
    assert ExchangeDriver(exchanges.events(ENDPOINT, first=True)).step.request.seconds == 130
    later = ExchangeDriver(exchanges.events(ENDPOINT, first=False)).step.request
    assert later.seconds < 30
    assert later.url.endswith("/metadata/scheduledevents?api-version=2020-07-01")


def test_scheduled_events_are_never_requested_with_names_in_an_old_form(
    responses: ResponseFactory,
) -> None:
    driver = ExchangeDriver(exchanges.events(ENDPOINT, first=False))
    old = {**VERSION_ERROR, "newest-versions": ["2017-04-02", "2017-03-01"]}
    with pytest.raises(UnsupportedOnHost, match="scheduledevents requires 2017-08-01"):
        driver.respond(responses.json(400, old))


def test_scheduled_events_have_separate_versions(responses: ResponseFactory) -> None:
    driver = ExchangeDriver(exchanges.events(ENDPOINT, first=False))
    old = {**VERSION_ERROR, "newest-versions": ["2019-11-01", "2019-08-15", "2019-06-04"]}
    driver.respond(responses.json(400, old))
    assert driver.respond(responses.error(404)).request.url.endswith("?api-version=2019-08-01")


def test_a_poll_of_scheduled_events_neither_retries_nor_mistakes_a_failure_for_no_events(
    responses: ResponseFactory,
) -> None:
    def poll() -> ExchangeDriver:
        return ExchangeDriver(exchanges.events(replace(ENDPOINT, retry=False), first=False))

    assert poll().finish(responses.json(200, {"Events": []}))[0] == {"Events": []}
    for outcome in (
        ReadFailed("reset"),
        responses.error(410),
        responses.error(500),
        responses.error(404),
        responses.raw(204),
        responses.raw(200, ""),
        responses.raw(200, "<html>"),
    ):
        driver = poll()
        with pytest.raises(Failure):
            if isinstance(driver.respond(outcome), Send):  # for the supported versions
                driver.respond(responses.error(404))


def test_approval_is_posted(responses: ResponseFactory) -> None:
    driver = ExchangeDriver(exchanges.start_events(ENDPOINT, body=b'{"StartRequests": []}'))
    request = driver.step.request
    assert request.method == "POST"
    assert request.body == b'{"StartRequests": []}'
    assert driver.finish(responses.raw(200)) == (None, "2020-07-01")
    with pytest.raises(Refused, match="HTTP 400 for scheduledevents"):
        driver_of(6).respond(responses.error(400))
    with pytest.raises(Refused, match=r"HTTP 403 .*Another service may have responded"):
        driver_of(6).respond(responses.error(403))


def test_approval_is_repeated_with_a_version_that_the_service_supports(
    responses: ResponseFactory,
) -> None:
    driver = ExchangeDriver(exchanges.start_events(ENDPOINT, body=b"{}"))
    old = {**VERSION_ERROR, "newest-versions": ["2019-11-01", "2019-08-15", "2019-06-04"]}
    assert driver.respond(responses.json(400, old)).request.method == "GET"
    request = driver.respond(responses.error(404)).request
    assert (request.method, request.body) == ("POST", b"{}")
    assert request.url.endswith("/scheduledevents?api-version=2019-08-01")
    assert driver.finish(responses.raw(200)) == (None, "2019-08-01")


def test_approval_that_fails_for_another_reason_is_not_repeated(
    responses: ResponseFactory,
) -> None:
    """A 400 without text may mean that the event is gone."""
    for status in (400, 404):
        driver = ExchangeDriver(exchanges.start_events(ENDPOINT, body=b"{}"))
        with pytest.raises(Refused, match=f"HTTP {status} for scheduledevents"):
            driver.respond(responses.raw(status))


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirect_is_not_followed(responses: ResponseFactory, status: int) -> None:
    with pytest.raises(Unavailable, match="redirect"):
        driver_of(0).respond(responses.raw(status, location="http://elsewhere/"))


def test_throttling_is_reported_with_the_limit(responses: ResponseFactory) -> None:
    driver = driver_of(0)
    with pytest.raises(Refused, match=r"HTTP 429 .*five requests a second") as caught:
        driver.respond(responses.error(429, retry_after="120"))
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
def test_any_response_of_a_hostile_service_ends_in_a_result_or_a_failure(
    index: int, status: int, body: bytes
) -> None:
    responses = ResponseFactory(FakeClock())
    driver = driver_of(index)
    try:
        for _ in range(3):
            driver.respond(responses.raw(status, body))
    except (StopIteration, Failure):
        return
    raise AssertionError("the exchange does not end")


@pytest.mark.parametrize("index", range(6), ids=CATEGORIES[:6])
@pytest.mark.parametrize("body", ["[" * 100_000, '{"a":' * 300 + "1" + "}" * 300])
def test_deeply_nested_json_is_refused(responses: ResponseFactory, index: int, body: str) -> None:
    with pytest.raises(Malformed):
        driver_of(index).respond(responses.raw(200, body))


def test_json_is_parsed_up_to_100_levels() -> None:
    deepest = "[" * 100 + "]" * 100
    assert json.dumps(from_json(deepest)) == deepest
    with pytest.raises(Malformed, match="deeper than 100 levels"):
        from_json(f"[{deepest}]")


def test_newest_common_version() -> None:
    assert (
        newest_common_version(KNOWN_VERSIONS, ["2099-01-01", "2021-12-13", "2020-06-01"])
        == "2021-12-13"
    )
    assert newest_common_version(KNOWN_VERSIONS, ["2099-01-01"]) == "2025-11-15"
    assert newest_common_version(KNOWN_VERSIONS, ["2022-01-01"]) == "2021-12-13"
    assert newest_common_version(versions_of("attested"), ["2017-08-01"]) is None
    assert newest_common_version(KNOWN_VERSIONS, []) is None
    assert newest_common_version(KNOWN_VERSIONS, [None, "latest", 3]) is None
    assert validated_version("2021-12-13") == "2021-12-13"
    with pytest.raises(ValueError, match="must look like"):
        validated_version("latest")


def test_known_versions_match_the_published_list() -> None:
    published = Path(__file__).parents[1] / "openapi/2023-07-01/examples"
    document = json.loads((published / "GetVersions.json").read_text())
    listed = document["responses"]["200"]["body"]["apiVersions"]
    assert list(KNOWN_VERSIONS[: len(listed)]) == listed
    assert list(KNOWN_VERSIONS) == sorted(KNOWN_VERSIONS)


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
        ("AzureCloud", "https://management.azure.com", "vault.azure.net"),
        (
            "azureusgovernment",
            "https://management.usgovcloudapi.net",
            "vault.usgovcloudapi.net",
        ),
    ],
)
def test_cloud_names_ignore_case(environment: str, manager: str, vault: str) -> None:
    cloud = Compute.parse({"azEnvironment": environment}).cloud
    assert cloud == cloud_named(environment)
    assert cloud is not None
    assert cloud.resource_manager == manager
    assert cloud.resource_manager_scope == f"{manager}/.default"
    assert cloud.key_vault_suffix == vault
    assert cloud.storage_scope == "https://storage.azure.com/.default"


def test_the_operator_chooses_the_endpoints_of_azure_stack_hub() -> None:
    compute = Compute.parse({"azEnvironment": "AZURESTACK"})
    assert compute.is_stack_hub
    assert compute.cloud is None
    with pytest.raises(ValueError, match="stack_hub_cloud"):
        cloud_named("AzureStack")
    with pytest.raises(ValueError, match="not an Azure cloud"):
        cloud_named("Azure")
    hub = stack_hub_cloud("east", "stack.contoso.com", "https://login.microsoftonline.com/")
    assert hub.resource_manager == "https://management.east.stack.contoso.com"
    assert hub.key_vault_suffix == "vault.east.stack.contoso.com"
    assert hub.attestation_domain is None
    with pytest.raises(ValueError, match="region must be a DNS name"):
        stack_hub_cloud("a/b", "c", "https://x")
    with pytest.raises(ValueError, match="https URL"):
        stack_hub_cloud("a", "c", "http://x")
