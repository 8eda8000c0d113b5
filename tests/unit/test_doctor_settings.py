"""Variables and settings that mislead: certificates, token proxies, credentials, resources."""

from __future__ import annotations

import pytest

from doctor_facts import ARC, ISSUED, TOKEN, WORKLOAD, cause, facts, finding, refused
from doctor_rewording import WORDINGS, reword
from imds_identity._core.failure import Reason, Refused, Unavailable
from imds_identity._core.identity import Identity
from imds_identity._http.exchange import ErrorKind
from imds_identity._http.messages import RELAYED_BY_AZURE
from imds_identity._platform.environment import Environment
from imds_identity._sources.explain import explain
from imds_identity._sources.registry import detect
from imds_identity.doctor._facts.facts import (
    Agent,
    Hosting,
    HostKind,
    Network,
    Pod,
    ServiceProbe,
    System,
    Tls,
)
from imds_identity.doctor.diagnosis import run_checks
from imds_identity.metadata._services import suggested_resource
from imds_identity.metadata.clouds import CHINA, PUBLIC

GUID = "5e29463d-71da-4fe0-8e69-999b57db23b0"
PROXY = "https://localhost:8443"
FABRIC = {
    "IDENTITY_ENDPOINT": "https://10.0.0.4:2377/metadata/identity/oauth2/token",
    "IDENTITY_HEADER": "secret",
    "IDENTITY_SERVER_THUMBPRINT": "ab" * 20,
}
APP = {
    "IDENTITY_ENDPOINT": "http://127.0.0.1:41741/msi/token", "IDENTITY_HEADER": "secret",
    "WEBSITE_SITE_NAME": "shop",
}  # fmt: skip
UNTRUSTED = ServiceProbe(failure=Unavailable("text", reason=Reason.TLS))


@pytest.fixture(autouse=True, params=WORDINGS)
def _wording(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    reword(monkeypatch, request.param)


def test_bundle_that_cannot_be_read_is_the_cause_whatever_the_failure() -> None:
    failed = ServiceProbe(failure=Refused("text", reason=Reason.NO_RESPONSE))
    broken = facts(WORKLOAD, failed, tls=Tls(bundle_problem="No such file"))
    assert "the file in REQUESTS_CA_BUNDLE cannot be used" in run_checks(broken).headline
    assert finding(run_checks(broken), "II027").remedy == "unset REQUESTS_CA_BUNDLE"


def test_certificate_of_service_fabric_is_identified_by_its_thumbprint() -> None:
    diagnosis = run_checks(facts(FABRIC, UNTRUSTED))
    assert "is not that in IDENTITY_SERVER_THUMBPRINT" in diagnosis.headline
    assert "REQUESTS_CA_BUNDLE" not in finding(diagnosis, "II027").remedy


def test_certificate_of_a_token_proxy_has_its_own_authority() -> None:
    variables = {
        **WORKLOAD, "AZURE_KUBERNETES_TOKEN_PROXY": PROXY, "AZURE_KUBERNETES_CA_FILE": "/ca",
    }  # fmt: skip
    diagnosis = run_checks(facts(variables, UNTRUSTED, pod=Pod("p", "shop", "a")))
    assert "is not from the authority in AZURE_KUBERNETES_CA_FILE" in diagnosis.headline
    remedy = finding(diagnosis, "II027").remedy
    assert remedy.startswith("kubectl delete pod p --namespace shop")


def test_token_proxy_that_does_not_run_is_not_looked_for_on_the_host() -> None:
    failed = ServiceProbe(connect_error="text", connect_kind=ErrorKind.REFUSED)
    variables = {**WORKLOAD, "AZURE_KUBERNETES_TOKEN_PROXY": PROXY}
    broken = facts(variables, failed, system=System(container="Kubernetes"))
    assert cause(broken) == "II023"
    assert "the token proxy of the AKS identity binding: localhost:8443 refuses" in (
        run_checks(broken).headline
    )
    assert "unset" not in finding(run_checks(broken), "II023").remedy


@pytest.mark.parametrize("status", [401, 403])
def test_token_proxy_that_refuses_the_service_account(status: int) -> None:
    variables = {**WORKLOAD, "AZURE_KUBERNETES_TOKEN_PROXY": PROXY}
    denied = facts(variables, refused(Reason.REFUSED, status), pod=Pod("p", "shop", "till"))
    assert cause(denied) == "II011"
    assert "--as system:serviceaccount:shop:till;" in finding(run_checks(denied), "II011").remedy


def test_azure_machine_learning_requires_a_client_id() -> None:
    variables = {"MSI_ENDPOINT": "http://127.0.0.1:41741/msi/token", "MSI_SECRET": "secret"}
    broken = facts(variables, refused(Reason.BAD_REQUEST))
    assert cause(broken) == "II050"
    assert finding(run_checks(broken), "II050").remedy.endswith("--client-id CLIENT_ID")
    named = facts({**variables, "DEFAULT_IDENTITY_CLIENT_ID": "c"}, refused(Reason.BAD_REQUEST))
    assert cause(named) == "II061"


def test_secret_of_a_service_principal_is_named_before_an_unused_client_id() -> None:
    variables = {"AZURE_CLIENT_ID": "c", "AZURE_TENANT_ID": "t", "AZURE_CLIENT_SECRET": "s"}
    assert cause(facts(variables)) == "II006"
    assert finding(run_checks(facts(variables)), "II004").status == "ok"
    del variables["AZURE_TENANT_ID"]
    assert cause(facts(variables)) == "II004"


def test_app_without_a_system_assigned_identity_may_have_others() -> None:
    app = Hosting(HostKind.APP_SERVICE, "shop", "group")
    broken = facts(APP, refused(Reason.IDENTITY_NOT_FOUND), hosting=app)
    assert "the app has no system-assigned identity" in run_checks(broken).headline
    remedy = finding(run_checks(broken), "II050").remedy
    assert remedy.startswith("az webapp identity show --resource-group group --name shop # then")


@pytest.mark.parametrize(
    ("host", "resource"),
    [
        ("https://srv.database.windows.net", "https://database.windows.net"),
        ("ns.servicebus.windows.net", "https://servicebus.azure.net"),
        ("me.openai.azure.com", "https://cognitiveservices.azure.com"),
        ("https://database.windows.net", ""),
    ],
)
def test_resource_of_a_service_that_is_reached_at_another_host(host: str, resource: str) -> None:
    assert suggested_resource(host, PUBLIC) == resource
    assert suggested_resource(host, CHINA) != resource or not resource


@pytest.mark.parametrize("resource", ["api://shop", "5e29463d-71da-4fe0-8e69-999b57db23b0"])
def test_application_that_the_tenant_does_not_know(resource: str) -> None:
    broken = facts(probe=refused(Reason.UNKNOWN_RESOURCE, 400, "AADSTS500011"), resource=resource)
    assert cause(broken) == "II005"
    assert f"no service principal for the application {resource}" in run_checks(broken).headline
    assert f"--identifier-uri {resource}" in finding(run_checks(broken), "II005").remedy


@pytest.mark.parametrize(
    ("variables", "hosting", "remedy"),
    [
        ({}, Hosting(), "az vm redeploy --resource-group GROUP --name VM # or open"),
        (WORKLOAD, Hosting(), "curl https://azure.status.microsoft"),
        (APP, Hosting(HostKind.APP_SERVICE, "shop", "g"), "az webapp restart --resource-group g"),
    ],
)
def test_last_resort_belongs_to_the_host(
    variables: dict[str, str], hosting: Hosting, remedy: str
) -> None:
    failing = refused(Reason.SERVICE_FAILING, 500)
    found = finding(run_checks(facts(variables, failing, hosting=hosting)), "II042")
    assert remedy in found.remedy


def test_unknown_machine_may_be_elsewhere() -> None:
    lost = ServiceProbe(connect_error="text", connect_kind=ErrorKind.TIMEOUT)
    assert run_checks(facts(probe=lost)).headline.endswith("or this is not an Azure VM")
    assert ISSUED.claims


@pytest.mark.parametrize(
    ("agent", "enforced", "relayed", "seen"),
    [
        (True, True, True, "enforces the VM's access rules"),
        (True, False, True, "relays requests: it audits them, or the VM's access rules allow"),
        (False, False, True, "relays requests: it audits them, or the VM's access rules allow"),
        (True, False, False, "is installed, and requests do not pass through it"),
        (False, False, False, "no guest proxy agent"),
    ],
)
def test_state_of_the_guest_proxy_agent(
    agent: bool, enforced: bool, relayed: bool, seen: str
) -> None:
    headers = {RELAYED_BY_AZURE: "value"} if relayed else {}
    probe = ISSUED._replace(requests=(TOKEN._replace(headers=headers),))
    known = facts(probe=probe, has_proxy_agent=agent, has_enforced_rules=enforced)
    found = finding(run_checks(known), "II029")
    assert found.status == ("ok" if agent or relayed else "skipped")
    assert seen in found.seen


@pytest.mark.parametrize(
    ("source", "installed", "headline"),
    [
        ("arc", False, "the source arc was requested, but no Azure Arc agent is installed"),
        ("imds", True, "this is an Azure Arc server and not an Azure VM"),
    ],
)
def test_source_that_was_requested_and_does_not_exist(
    source: str, installed: bool, headline: str
) -> None:
    environment = Environment({})
    lost = ServiceProbe(connect_error="text", connect_kind=ErrorKind.REFUSED)
    broken = facts(
        probe=lost, agent=Agent(installed), source=detect(source, environment=environment),
        explanation=explain(source, environment=environment),
    )  # fmt: skip
    diagnosis = run_checks(broken)
    assert headline in diagnosis.headline
    assert diagnosis.cause is not None
    assert diagnosis.cause.remedy.startswith(f"omit --source {source}")


@pytest.mark.parametrize("kind", [HostKind.GITHUB_RUNNER, HostKind.KUBERNETES])
def test_machine_of_others_is_not_redeployed(kind: HostKind) -> None:
    failing = facts(probe=refused(Reason.SERVICE_FAILING, 500), hosting=Hosting(kind))
    assert "az vm" not in finding(run_checks(failing), "II042").remedy


def test_throttling_by_entra_is_not_that_of_the_machine() -> None:
    throttled = refused(Reason.THROTTLED, 429)
    assert "throttles requests of this identity" in run_checks(facts(WORKLOAD, throttled)).headline
    assert "throttles this machine" in run_checks(facts(probe=throttled)).headline


def test_agent_that_refuses_the_version_is_old() -> None:
    broken = facts(ARC, refused(Reason.BAD_REQUEST))
    assert cause(broken) == "II037"
    assert "too old" in run_checks(broken).headline


def test_service_without_a_network_of_its_own() -> None:
    network = Network("169.254.169.254", problem="x", has_ipv4=False)
    alone = facts(
        probe=ServiceProbe(connect_error="x"), network=network, system=System(unit="a.service")
    )
    assert (
        finding(run_checks(alone), "II020").remedy == "systemctl show a.service -p PrivateNetwork"
    )


@pytest.mark.parametrize(
    ("identity", "selected"),
    [
        (Identity("client_id", GUID), f"[?clientId=='{GUID}'].id"),
        (Identity("object_id", GUID), f"[?principalId=='{GUID}'].id"),
        (Identity("client_id", "a name"), "--identities RESOURCE_ID"),
        (Identity("resource_id", "/subscriptions/s/x"), "--identities /subscriptions/s/x"),
    ],
)
def test_identity_to_assign_is_looked_up(identity: Identity, selected: str) -> None:
    broken = facts(probe=refused(Reason.IDENTITY_NOT_FOUND), identity=identity)
    show, _, assign = finding(run_checks(broken), "II050").remedy.partition(" # ")
    assert show == "az vm identity show --resource-group GROUP --name VM"
    assert selected in assign


@pytest.mark.parametrize(
    ("port", "headline"),
    [(40342, "is installed but not running"), (40343, "names another port than the Azure Arc")],
)
def test_agent_is_not_stopped_if_the_variable_names_another_port(port: int, headline: str) -> None:
    variables = {"IDENTITY_ENDPOINT": f"http://localhost:{port}/token", "IMDS_ENDPOINT": "x"}
    lost = ServiceProbe(connect_error="text", connect_kind=ErrorKind.REFUSED)
    assert headline in run_checks(facts(variables, lost, agent=Agent(installed=True))).headline
