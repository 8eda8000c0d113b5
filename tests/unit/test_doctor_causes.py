"""Causes in variables, routes, resources and tokens, and remedies that name them."""

from __future__ import annotations

from typing import Any

import pytest

from doctor_facts import (
    CLAIMS,
    IMDS,
    ISSUED,
    ROUTED,
    TIMED_OUT,
    cause,
    facts,
    finding,
    refused,
)
from doctor_rewording import WORDINGS, reword
from imds_identity._core.failure import Reason, Unavailable
from imds_identity._http.exchange import ErrorKind
from imds_identity.doctor._facts import network
from imds_identity.doctor._facts.facts import Network, Rejection
from imds_identity.doctor._facts.network import gather_network, rejecting_route
from imds_identity.doctor.diagnosis import run_checks
from imds_identity.metadata._services import suggested_resource
from imds_identity.metadata.clouds import CHINA, PUBLIC, US_GOVERNMENT, Cloud

AUTHORITY = "AZURE_POD_IDENTITY_AUTHORITY_HOST"
HEAD = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
# As the kernel prints them: a blackhole route to the address, a prohibit route to its network.
BLACKHOLE = "*\tFEA9FEA9\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n"
PROHIBIT = "*\t0000FEA9\t00000000\t0201\t0\t0\t0\t0000FFFF\t0\t0\t0\n"


@pytest.fixture(autouse=True, params=WORDINGS)
def _wording(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    reword(monkeypatch, request.param)


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        ("169.254.169.254", f"export {AUTHORITY}=http://169.254.169.254 # or: unset {AUTHORITY}"),
        ("localhost:8080", f"export {AUTHORITY}=http://localhost:8080 # or: unset {AUTHORITY}"),
        ("ftp://x", f"unset {AUTHORITY}"),
        ("$(touch x)", f"unset {AUTHORITY}"),
    ],
)
def test_endpoint_without_a_scheme(value: str, remedy: str) -> None:
    broken = facts({AUTHORITY: value}, endpoint_problem="text")
    assert cause(broken) == "II001"
    assert finding(run_checks(broken), "II001").remedy == remedy
    has_hint = "has no scheme" in run_checks(broken).headline
    assert has_hint == remedy.startswith("export")


def test_variable_that_leads_to_another_server_is_named() -> None:
    failed = Unavailable("text", reason=Reason.WRONG_SERVICE)
    probe = refused(Reason.WRONG_SERVICE, 404)._replace(failure=failed)
    broken = facts({AUTHORITY: "http://example:1"}, probe)
    assert f"at the URL in {AUTHORITY}" in run_checks(broken).headline
    assert finding(run_checks(broken), "II025").remedy == f"unset {AUTHORITY}"


@pytest.mark.parametrize(
    ("variables", "reason", "status", "content_type", "is_suspected"),
    [
        ({AUTHORITY: "http://example:1"}, Reason.REFUSED, 403, "text/plain", True),
        ({AUTHORITY: "http://example:1"}, Reason.SERVICE_FAILING, 404, "", True),
        ({AUTHORITY: "http://example:1"}, Reason.SERVICE_FAILING, 503, "text/plain", False),
        ({AUTHORITY: "http://example:1"}, Reason.THROTTLED, 429, "text/plain", False),
        ({AUTHORITY: "http://example:1"}, Reason.REFUSED, 403, "application/JSON", False),
        ({}, Reason.REFUSED, 403, "text/plain", False),
        ({"IDENTITY_ENDPOINT": "http://x", "IDENTITY_HEADER": "h"}, Reason.REFUSED, 403, "", False),
    ],
)
def test_named_server_is_suspected_after_a_refusal_that_is_not_json(
    variables: dict[str, str], reason: Reason, status: int, content_type: str, is_suspected: bool
) -> None:
    probe = refused(reason, status)
    last = probe.requests[-1]._replace(headers={"content-type": content_type})
    probe = probe._replace(requests=(*probe.requests[:-1], last), document=None)
    responder = finding(run_checks(facts(variables, probe)), "II025")
    assert (responder.status == "failure") == is_suspected


@pytest.mark.parametrize(
    ("table", "rejection", "destination"),
    [
        (BLACKHOLE + PROHIBIT, Rejection.BLACKHOLE, "169.254.169.254/32"),
        (PROHIBIT, Rejection.PROHIBIT, "169.254.0.0/16"),
    ],
)
def test_route_that_drops_requests(table: str, rejection: Rejection, destination: str) -> None:
    assert rejecting_route(HEAD + table, IMDS) == destination
    rejected = Network(IMDS, "", "text", rejection, rejecting_route(HEAD + table, IMDS))
    broken = facts(probe=TIMED_OUT, network=rejected._replace(has_ipv4=True))
    diagnosis = run_checks(broken)
    assert cause(broken) == "II021"
    assert f"the {rejection.value} route {destination} drops requests" in diagnosis.headline
    remedy = finding(diagnosis, "II021").remedy
    assert remedy == f"sudo ip route del {rejection.value} {destination}"


def test_table_without_a_rejecting_route() -> None:
    assert rejecting_route(HEAD, IMDS) == ""
    assert rejecting_route("nonsense\n* x y 1 1 1 1 1\n", IMDS) == ""


def test_setting_of_systemd_that_locks_the_service(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "cmdline").write_text("quiet systemd.imds.network=locked\n")
    monkeypatch.setattr(network, "_CMDLINE", str(tmp_path / "cmdline"))
    outcome = ("", "text", Rejection.PROHIBIT)
    monkeypatch.setattr(network, "_source_address", lambda *_: outcome)
    gathered = gather_network(IMDS, 80)
    assert gathered.is_locked
    broken = facts(probe=TIMED_OUT, network=gathered._replace(has_ipv4=True))
    assert "systemd.imds.network=locked" in run_checks(broken).headline
    assert "systemd.imds.network" not in str(run_checks(facts(network=ROUTED)).document())


@pytest.mark.parametrize(
    ("status", "headline", "remedy"),
    [
        (403, "the VM's access rules deny this process", "--query securityProfile.proxyAgentSett"),
        (421, "could not determine which process sent the request", "restart azure-proxy-agent"),
        (502, "or the service behind it fails", "restart azure-proxy-agent"),
    ],
)
def test_denial_by_the_guest_proxy_agent(status: int, headline: str, remedy: str) -> None:
    broken = facts(probe=refused(Reason.METADATA_SECURITY, status))
    assert cause(broken) == "II025"
    assert headline in run_checks(broken).headline
    assert remedy in finding(run_checks(broken), "II025").remedy


def test_guest_proxy_agent_that_does_not_run() -> None:
    probe = TIMED_OUT._replace(connect_kind=ErrorKind.REFUSED)
    broken = facts(probe=probe, network=ROUTED, has_proxy_agent=True)
    assert cause(broken) == "II023"
    assert "guest proxy agent (Metadata Security Protocol)" in run_checks(broken).headline
    assert "restart azure-proxy-agent" in finding(run_checks(broken), "II023").remedy


def test_one_command_unsets_all_variables_of_a_leftover_host() -> None:
    variables = {"IDENTITY_ENDPOINT": "http://127.0.0.1:9/x", "IDENTITY_HEADER": "s3cret"}
    broken = facts(variables, TIMED_OUT)
    assert cause(broken) == "II002"
    assert finding(run_checks(broken), "II002").remedy == "unset IDENTITY_ENDPOINT IDENTITY_HEADER"


def test_service_principal_in_the_environment_is_a_warning() -> None:
    principal = {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_SECRET": "s3cret-value"}
    found = finding(run_checks(facts({**principal, "AZURE_CLIENT_ID": "c"})), "II006")
    assert (found.status, found.remedy) == ("warning", "unset AZURE_CLIENT_SECRET")
    assert "s3cret" not in str(found)
    assert finding(run_checks(facts(principal)), "II006").status == "ok"


# Resources.


@pytest.mark.parametrize(
    ("requested", "cloud", "meant"),
    [
        ("https://shop.vault.azure.net", PUBLIC, "https://vault.azure.net"),
        ("https://shop.vault.azure.net/secrets/x", PUBLIC, "https://vault.azure.net"),
        ("shop.vault.azure.cn", PUBLIC, "https://vault.azure.cn"),
        ("https://data.blob.core.windows.net/", PUBLIC, "https://storage.azure.com"),
        ("vault.azure.net", PUBLIC, "https://vault.azure.net"),
        ("management.azure.com", US_GOVERNMENT, "https://management.usgovcloudapi.net"),
        ("https://vault.azure.net", US_GOVERNMENT, "https://vault.usgovcloudapi.net"),
        ("https://management.azure.com/", CHINA, "https://management.chinacloudapi.cn"),
        ("vault", PUBLIC, "https://vault.azure.net"),
        ("KeyVault", CHINA, "https://vault.azure.cn"),
        ("storage", CHINA, "https://storage.azure.com"),
        ("arm", PUBLIC, "https://management.azure.com"),
        ("graph", US_GOVERNMENT, "https://graph.microsoft.us"),
        ("database.windows.net", PUBLIC, "https://database.windows.net"),
        ("https://vault.azure.net", PUBLIC, ""),
        ("https://management.azure.com/", PUBLIC, ""),
        ("https://nobody.example", PUBLIC, ""),
        ("nonsense", PUBLIC, ""),
        ("5e29463d-71da-4fe0-8e69-999b57db23b0", PUBLIC, ""),
    ],
)
def test_resource_that_was_probably_meant(requested: str, cloud: Cloud, meant: str) -> None:
    assert suggested_resource(requested, cloud) == meant


def test_hint_for_a_resource_is_that_of_this_machines_cloud() -> None:
    for environment, meant in (
        ("AzureUSGovernmentCloud", "https://vault.usgovcloudapi.net"),
        ("nonsense", "https://vault.azure.net"),
    ):
        document = {"compute": {"azEnvironment": environment}}
        probe = refused(Reason.UNKNOWN_RESOURCE, code="AADSTS500011")._replace(document=document)
        broken = facts(probe=probe, resource="vault")
        assert cause(broken) == "II005"
        remedy = finding(run_checks(broken), "II005").remedy
        assert remedy == f"imds-identity doctor --resource {meant}"


# Tokens.


@pytest.mark.parametrize(
    ("audience", "resource", "headline"),
    [
        (
            "https://storage.azure.com",
            "https://vault.azure.net",
            "for another audience: https://st",
        ),
        ("https://vault.azure.cn", "https://vault.azure.net", "belongs to AzureChinaCloud"),
        ("https://management.core.windows.net/", "https://management.azure.com/", ""),
        ("https://VAULT.azure.net/", "https://vault.azure.net/.default", ""),
        ("5e29463d-71da-4fe0-8e69-999b57db23b0", "https://vault.azure.net", ""),
        ("https://[", "https://vault.azure.net", ""),
    ],
)
def test_audience_other_than_requested(audience: str, resource: str, headline: str) -> None:
    probe = ISSUED._replace(claims={**CLAIMS, "aud": audience})
    diagnosis = run_checks(facts(probe=probe, resource=resource, is_scope=True))
    assert diagnosis.status == ("failure" if headline else "ok")
    assert headline in diagnosis.headline
    assert finding(diagnosis, "II062").status == diagnosis.status
