"""The kind of host is known before the network is blamed, and has remedies of its own."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import pytest

from doctor_facts import ISSUED, NOW, ROUTED, TIMED_OUT, cause, facts, finding, refused
from doctor_rewording import WORDINGS, reword
from imds_identity._core.failure import Reason, Unavailable
from imds_identity._core.identity import Identity
from imds_identity._platform.environment import Environment
from imds_identity._sources.firmware import ASSET_TAG, Firmware
from imds_identity.doctor._facts import hosting
from imds_identity.doctor._facts.facts import Hosting, HostKind, ServiceProbe, System
from imds_identity.doctor._facts.hosting import gather_hosting
from imds_identity.doctor.diagnosis import run_checks

if TYPE_CHECKING:
    from pathlib import Path

AZURE = Firmware(ASSET_TAG, "Microsoft Corporation")
LINUX = "Linux 6.8.0-azure"
PIPELINES = {"TF_BUILD": "True", "AGENT_NAME": "Azure Pipelines 3"}
SITE = {"WEBSITE_SITE_NAME": "shop", "WEBSITE_RESOURCE_GROUP": "g"}
APP_SERVICE_ENDPOINT = {"IDENTITY_ENDPOINT": "http://127.0.0.1:41/x", "IDENTITY_HEADER": "h"}


@pytest.fixture(autouse=True, params=WORDINGS)
def _wording(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    reword(monkeypatch, request.param)


@pytest.fixture(autouse=True)
def _plain_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "machine")
    monkeypatch.setattr(hosting, "_CMDLINE", str(tmp_path / "cmdline"))


def on(
    variables: dict[str, str] | None = None,
    probe: ServiceProbe = TIMED_OUT,
    firmware: Firmware = AZURE,
    system: str = LINUX,
    **more: Any,
) -> Any:
    environment = Environment(variables or {})
    return facts(
        variables, probe, firmware=firmware, system=System(NOW, platform=system),
        hosting=gather_hosting(environment, firmware, system),
        **{"network": ROUTED, **more},
    )  # fmt: skip


HOSTS: dict[str, tuple[dict[str, str], Firmware, str, str, str]] = {
    "App Service": (SITE, AZURE, LINUX, "the app 'shop' of App Service has no managed identity",
                    "az webapp identity assign --resource-group g --name shop"),
    "Functions": ({**SITE, "FUNCTIONS_WORKER_RUNTIME": "python"}, AZURE, LINUX,
                  "the app 'shop' of Azure Functions has no managed identity",
                  "az functionapp identity assign --resource-group g --name shop"),
    "Container Apps": (
        {"CONTAINER_APP_NAME": "api"}, AZURE, LINUX, "the app 'api' of Container Apps has no",
        "az containerapp identity assign --resource-group GROUP --name api --system-assigned"),
    "pod": ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, AZURE, LINUX, "Kubernetes pod without workl",
            "az aks update"),
    "GitHub": ({"GITHUB_ACTIONS": "true", "RUNNER_ENVIRONMENT": "github-hosted"}, AZURE, LINUX,
               "this is a GitHub-hosted runner", "log in with OpenID Connect: the action azure/l"),
    "Pipelines": (PIPELINES, AZURE, LINUX, "this is a Microsoft-hosted agent of Azure Pipelines",
                  "use a service connection with workload identity federation"),
    "Codespaces": ({"CODESPACES": "true"}, AZURE, LINUX, "this is a GitHub codespace", "az login"),
    "WSL": ({}, Firmware(), "Linux 5.15.167.4-microsoft-standard-WSL2",
            "this is the Windows Subsystem for Linux", "az login"),
    "laptop": ({}, Firmware("None", "LENOVO"), LINUX,
               "this is not an Azure VM according to its firmware (LENOVO)", "az login"),
    "Hyper-V": ({}, Firmware("7257-1", "Microsoft Corporation"), LINUX,
                "this is not an Azure VM according to its firmware (Microsoft Corporation, without",
                "az login"),
    "Oracle": ({}, Firmware("OracleCloud.com", "QEMU"), LINUX, "this machine runs on Oracle Cloud",
               "az identity federated-credential create"),
    "OpenStack": ({}, Firmware("", "OpenStack Foundation"), LINUX, "runs on OpenStack", "az id"),
    "DigitalOcean": ({}, Firmware("", "DigitalOcean"), LINUX, "runs on DigitalOcean", "az id"),
    "Alibaba": ({}, Firmware("", "Alibaba Cloud"), LINUX, "runs on Alibaba Cloud", "az id"),
    "pod on EC2": ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, Firmware("", "Amazon EC2"), LINUX,
                   "this machine runs on Amazon EC2", "az id"),
    "Lambda": ({"AWS_LAMBDA_FUNCTION_NAME": "f"}, Firmware(), LINUX, "runs on AWS Lambda", "az"),
    "Cloud Run": ({"K_SERVICE": "f"}, Firmware(), LINUX, "runs on Google Cloud Run", "az"),
    "GitLab": ({"GITLAB_CI": "true", "CI_RUNNER_TAGS": "['saas-linux-small-amd64']"}, Firmware(),
               LINUX, "this is a GitLab-hosted runner", "log in with OpenID Connect"),
    "Automation": ({"AUTOMATION_ASSET_ACCOUNTID": "a"}, Firmware(), LINUX,
                   "this is a runbook of Azure Automation", "az resource update --ids"),
    "Databricks": ({"DATABRICKS_RUNTIME_VERSION": "15.4"}, Firmware(), LINUX,
                   "this is a Databricks cluster", "use a service credential of Unity Catalog"),
    "Fly.io": ({"FLY_APP_NAME": "f"}, Firmware(), LINUX, "runs on Fly.io", "az identity federated"),
}  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="WSL is not Windows")
@pytest.mark.parametrize("name", HOSTS)
def test_host_without_a_metadata_service_is_recognized(name: str) -> None:
    variables, firmware, system, headline, remedy = HOSTS[name]
    broken = on(variables, firmware=firmware, system=system)
    no_route = broken._replace(network=ROUTED._replace(problem="Network is unreachable"))
    for each in (broken, no_route):
        diagnosis = run_checks(each)
        assert cause(each) == "II016"
        assert headline in diagnosis.headline
        assert finding(diagnosis, "II016").remedy.startswith(remedy)


def test_container_instances_are_recognized_by_the_host_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "SandboxHost-638500000000000000")
    diagnosis = run_checks(on())
    assert "container group of Container Instances has no such" in diagnosis.headline
    assert "az container create" in finding(diagnosis, "II016").remedy


def test_firecracker_is_recognized_by_the_kernels_parameters(tmp_path: Path) -> None:
    (tmp_path / "cmdline").write_text("console=ttyS0 reboot=k panic=1 pci=off\n")
    diagnosis = run_checks(on(firmware=Firmware()))
    assert diagnosis.headline.startswith("this is not an Azure VM") == (sys.platform == "linux")


@pytest.mark.parametrize(
    "variables",
    [
        {"GITHUB_ACTIONS": "true", "RUNNER_ENVIRONMENT": "self-hosted"},
        {"TF_BUILD": "True", "AGENT_ISSELFHOSTED": "1", "AGENT_NAME": "mine"},
        {},
    ],
)
def test_machine_of_the_user_is_not_another_kind_of_host(variables: dict[str, str]) -> None:
    assert cause(on(variables)) == "II023"


@pytest.mark.parametrize("name", HOSTS)
def test_token_shows_that_the_host_is_not_at_fault(name: str) -> None:
    variables, firmware, system, *_ = HOSTS[name]
    found = finding(run_checks(on(variables, ISSUED, firmware, system)), "II016")
    assert found.status == "ok"


def test_service_that_the_environment_names_is_used_on_any_host() -> None:
    named = {"GITHUB_ACTIONS": "true", "AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://127.0.0.1:1"}
    assert finding(run_checks(on(named)), "II016").status == "ok"


@pytest.mark.parametrize(
    "variables",
    [{"GITHUB_ACTIONS": "true"}, PIPELINES, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}],
)
@pytest.mark.parametrize("reason", [Reason.IDENTITY_NOT_FOUND, Reason.MULTIPLE_IDENTITIES])
@pytest.mark.parametrize("identity", [Identity(), Identity("client_id", "x")])
def test_no_command_changes_a_machine_that_is_not_the_users(
    variables: dict[str, str], reason: Reason, identity: Identity
) -> None:
    document = {"compute": {"name": "vm", "resourceGroupName": "hosted", "vmScaleSetName": "s"}}
    broken = on(variables, refused(reason)._replace(document=document), identity=identity)
    assert cause(broken) == "II016"
    text = " ".join(found.remedy for found in run_checks(broken).findings)
    assert not re.search(r"az (vm|vmss) ", text)


def test_node_pool_of_aks_is_not_changed() -> None:
    document = {"compute": {"name": "n_0", "resourceGroupName": "MC_g_c_westeurope"}}
    probe = refused(Reason.IDENTITY_NOT_FOUND)._replace(document=document)
    found = finding(run_checks(on(probe=probe)), "II050")
    assert found.remedy.startswith("az aks update --resource-group g --name c --enable")


def test_app_that_lacks_the_selected_identity() -> None:
    probe = refused(Reason.IDENTITY_NOT_FOUND)
    for more, option in (({}, "--identities"), ({"CONTAINER_APP_NAME": "c"}, "--user-assigned")):
        variables = {**SITE, **APP_SERVICE_ENDPOINT, **more}
        broken = on(variables, probe, identity=Identity("client_id", "x"))
        assert cause(broken) == "II050"
        assert finding(run_checks(broken), "II050").remedy.endswith(f"{option} RESOURCE_ID")


def test_identity_endpoint_of_an_app_is_not_taken_for_a_leftover() -> None:
    broken = on({**SITE, **APP_SERVICE_ENDPOINT})
    diagnosis = run_checks(broken)
    assert cause(broken) == "II016"
    assert "the identity endpoint of App Service does not respond" in diagnosis.headline
    assert finding(diagnosis, "II016").remedy == "az webapp restart --resource-group g --name shop"


def test_another_clouds_metadata_service_on_its_own_machine() -> None:
    failed = Unavailable("text", reason=Reason.WRONG_SERVICE)
    probe = ISSUED._replace(claims=None, failure=failed)
    assert cause(on(probe=probe, firmware=Firmware("", "Google"))) == "II016"


def test_azure_stack_hub_issues_no_tokens() -> None:
    document = {"compute": {"azEnvironment": "AzureStack"}}
    broken = on(probe=refused(Reason.SERVICE_FAILING, 404)._replace(document=document))
    assert "Azure Stack Hub" in run_checks(broken).headline
    assert finding(run_checks(broken), "II016").remedy.startswith("use a service principal")


def test_name_of_an_app_is_a_plain_word_in_commands() -> None:
    hostile = Hosting(HostKind.APP_SERVICE, "$(touch x)", "a;b")
    diagnosis = run_checks(on()._replace(hosting=hostile))
    remedy = finding(diagnosis, "II016").remedy
    assert remedy == "az webapp identity assign --resource-group GROUP --name NAME"
