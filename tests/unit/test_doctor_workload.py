"""Causes of workload identity and Azure Arc."""

from __future__ import annotations

import base64
import errno
import json
import os
import shlex
from typing import TYPE_CHECKING, Any

import pytest

from doctor_facts import ARC, ISSUED, NOW, TOKEN, WORKLOAD, cause, facts, finding, refused
from doctor_rewording import WORDINGS, reword
from imds_identity._core.failure import Reason, Refused, SecretUnreadable
from imds_identity._http.exchange import ErrorKind
from imds_identity._sources.arc.key_file import read_secret
from imds_identity.doctor._facts.agent import connected_resource
from imds_identity.doctor._facts.facts import (
    Agent,
    Application,
    Pod,
    ServiceProbe,
    System,
    WorkloadToken,
)
from imds_identity.doctor._facts.system import read_pod, read_workload_token, systemd_unit
from imds_identity.doctor.diagnosis import run_checks

if TYPE_CHECKING:
    from pathlib import Path

GUID = "5e29463d-71da-4fe0-8e69-999b57db23b0"
POD = {**WORKLOAD, "AZURE_CLIENT_ID": GUID, "KUBERNETES_SERVICE_HOST": "10.0.0.1"}
ISSUER = "https://westeurope.oic.prod-aks.azure.com/t/i/"
FEDERATED = WorkloadToken(
    "/token", expiry=NOW + 60, subject="system:serviceaccount:shop:till", issuer=ISSUER,
    audience="api://AzureADTokenExchange",
)  # fmt: skip


@pytest.fixture(autouse=True, params=WORDINGS)
def _wording(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    reword(monkeypatch, request.param)


@pytest.mark.parametrize(
    ("code", "headline", "remedy"),
    [
        ("AADSTS700016", f"no application or managed identity with client ID {GUID}", "az identi"),
        ("AADSTS7000112", f"the application with client ID {GUID} is disabled", "az ad sp update"),
        ("AADSTS700024", "does not accept the time of the pod's token", "date -u; kubectl delete"),
        ("AADSTS700211", "matches the issuer of the pod", "az identity federated-credential crea"),
        ("AADSTS700212", "matches the audience of the pod", "az identity federated-credential cr"),
        ("AADSTS700213", "matches the subject of the pod", "az identity federated-credential cre"),
        ("AADSTS700216", "matches the pod's token", "az identity federated-credential create"),
        ("AADSTS70021", "matches the pod's token", "az identity federated-credential create"),
        ("AADSTS70023", "matches the pod's token", "az identity federated-credential create"),
    ],
)
def test_refusal_of_a_federated_token(code: str, headline: str, remedy: str) -> None:
    reason = Reason.IDENTITY_DELETED if code in ("AADSTS700016", "AADSTS7000112") else None
    probe = refused(reason or Reason.ENTRA_REFUSED, 400, code)
    broken = facts(POD, probe, workload=FEDERATED)
    assert cause(broken) == "II011"
    assert headline in run_checks(broken).headline
    found = finding(run_checks(broken), "II011").remedy
    assert found.startswith(remedy)
    if "federated" in remedy:
        assert f"--issuer {ISSUER} --subject system:serviceaccount:shop:till" in found
        assert found.endswith("--audiences api://AzureADTokenExchange")


@pytest.mark.parametrize(
    ("code", "headline", "remedy"),
    [
        ("AADSTS700016", f"no application with client ID {GUID}", "az login --tenant other.exam"),
        ("AADSTS7000112", f"the application with client ID {GUID} is disabled", "az login --ten"),
        ("AADSTS90002", "the tenant other.example does not exist", "az account list"),
        ("AADSTS700024", "the time of the identity's token", "chronyc"),
        ("AADSTS700236", f"application {GUID} belong to different tenants", "az ad app show"),
        ("AADSTS500011", "the resource does not exist in the tenant other.example", "az login"),
        ("AADSTS700211", "matches the issuer of the identity's token", "az ad app federated-cred"),
        ("AADSTS700212", "matches the audience of the identity's token", "az ad app federated-cr"),
        ("AADSTS700213", "matches the subject of the identity's token", "az ad app federated-cre"),
        ("AADSTS700216", "matches the identity's token", "az ad app federated-credential create"),
        ("AADSTS70021", "matches the identity's token", "az ad app federated-credential create"),
        ("", "the application has no token: ", ""),
    ],
)
def test_refusal_of_an_application(code: str, headline: str, remedy: str) -> None:
    probe = ISSUED._replace(
        claims={"iss": ISSUER, "sub": GUID, "exp": NOW + 60, "nbf": NOW},
        application_failure=Refused("text", "Look there.", service_code=code),
    )
    application = Application(GUID, "other.example", "https://vault.azure.net")
    audience = "api://AzureADTokenExchange"
    broken = facts(probe=probe, application=application, resource=audience)
    assert cause(broken) == "II012"
    diagnosis = run_checks(broken)
    assert headline in diagnosis.headline
    found = finding(diagnosis, "II012").remedy
    assert found.startswith(remedy)
    if "federated" in remedy:
        parameters = json.loads(shlex.split(found)[-1])
        assert parameters == {
            "name": "imds-identity", "issuer": ISSUER, "subject": GUID, "audiences": [audience],
        }  # fmt: skip


def test_application_is_checked_only_if_it_was_named_and_the_identity_has_a_token() -> None:
    assert finding(run_checks(facts()), "II012").status == "skipped"
    application = Application(GUID, "other.example", "https://vault.azure.net")
    assert finding(run_checks(facts(application=application)), "II012").status == "skipped"
    issued = ISSUED._replace(application_claims={})
    assert finding(run_checks(facts(probe=issued, application=application)), "II012").status == "ok"


def test_service_account_without_the_annotation_is_named() -> None:
    failure = Refused("text", reason=Reason.UNSUPPORTED)
    variables = {**POD, "AZURE_CLIENT_ID": "", "AZURE_AUTHORITY_HOST": "https://login.example"}
    broken = facts(variables, ServiceProbe(failure=failure), workload=FEDERATED)
    broken = broken._replace(pod=Pod("till-1", "shop", "till"))
    assert cause(broken) == "II010"
    assert "no annotation azure.workload.identity/client-id" in run_checks(broken).headline
    remedy = finding(run_checks(broken), "II010").remedy
    assert remedy.startswith("kubectl annotate serviceaccount till --namespace shop ")


@pytest.mark.parametrize(
    ("workload", "in_pod", "headline", "remedy"),
    [
        (WorkloadToken("/t", "x", is_missing=True), False, "is left over", "unset AZURE_FEDER"),
        (WorkloadToken("/t", "x", is_missing=True), True, "cannot be used", "kubectl patch"),
        (
            WorkloadToken("/t", "x", is_denied=True),
            True,
            "a user who may not read it",
            "kubectl patch",
        ),
        (WorkloadToken("/t", "x", is_empty=True), True, "the kubelet has not", "kubectl delete"),
    ],
)
def test_file_with_the_federated_token(
    workload: WorkloadToken, in_pod: bool, headline: str, remedy: str
) -> None:
    failure = Refused("text", reason=Reason.FEDERATED_TOKEN)
    variables = POD if in_pod else WORKLOAD
    broken = facts(variables, ServiceProbe(failure=failure), workload=workload)
    assert cause(broken) == "II010"
    assert headline in run_checks(broken).headline
    assert finding(run_checks(broken), "II010").remedy.startswith(remedy)


def test_wrong_clock_is_the_cause_and_not_the_token_that_it_expires() -> None:
    probe = refused(Reason.ENTRA_REFUSED, 400, "AADSTS700024")
    fast = probe._replace(requests=(TOKEN._replace(status=400, clock_offset=4000.0),))
    broken = facts(POD, fast, workload=FEDERATED._replace(expiry=NOW - 60))
    assert cause(broken) == "II070"
    right = probe._replace(requests=(TOKEN._replace(status=400, clock_offset=1.0),))
    assert cause(broken._replace(probe=right)) == "II010"
    slow = probe._replace(requests=(TOKEN._replace(status=400, clock_offset=-4000.0),))
    left = broken._replace(probe=slow, workload=FEDERATED._replace(expiry=NOW + 60))
    assert finding(run_checks(left), "II010").status == "failure"


def test_federated_token_is_read_with_its_claims_and_problems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = {"sub": "s", "iss": "i", "aud": ["a", "b"], "exp": 5}
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    file = tmp_path / "token"
    file.write_text(f"e30.{body}.x")
    read = read_workload_token(str(file))
    assert (read.subject, read.issuer, read.audience, read.expiry) == ("s", "i", "a", 5.0)
    file.write_text("")
    assert read_workload_token(str(file)).is_empty
    file.write_text("nonsense")
    assert not read_workload_token(str(file)).is_empty
    assert read_workload_token(str(tmp_path / "missing")).is_missing

    def deny(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "texte")

    monkeypatch.setattr("builtins.open", deny)
    assert read_workload_token(str(file)).is_denied


# Azure Arc.


def on_arc(reason: Reason, container: str = "", user: str = "app", **more: Any) -> Any:
    probe = ISSUED._replace(claims=None, failure=SecretUnreadable("text", reason=reason))
    agent = Agent(True, "/tokens", in_group=False, user=user)
    system = System(NOW, platform="Linux", container=container)
    return facts(ARC, probe, agent=agent, system=system, **more)


@pytest.mark.parametrize(
    ("reason", "headline", "remedy"),
    [
        (Reason.ARC_KEY_FILE_MISSING, "does not exist", "sudo systemctl restart himdsd"),
        (Reason.ARC_KEY_FILE_LINK, "is a symbolic link", "sudo find /var/opt/azcmagent/tokens -t"),
        (Reason.ARC_KEY_FILE_OUTSIDE, "does not name a key file in", "update the agent"),
        (Reason.ARC_KEY_FILE_INVALID, "", "sudo systemctl restart himdsd; if it persists"),
        (Reason.ARC_KEY_REJECTED, "rejects the content", "sudo systemctl restart himdsd"),
        (Reason.ARC_KEY_FILE_UNREADABLE, "cannot be read", "sudo ls -l"),
    ],
)
def test_key_file_that_cannot_be_used(reason: Reason, headline: str, remedy: str) -> None:
    broken = on_arc(reason)
    assert cause(broken) == "II033"
    assert headline in run_checks(broken).headline
    assert finding(run_checks(broken), "II033").remedy.startswith(remedy)


@pytest.mark.parametrize(
    "reason",
    [Reason.ARC_KEY_FILE_MISSING, Reason.ARC_KEY_FILE_OUTSIDE, Reason.ARC_KEY_REJECTED],
)
def test_container_mounts_the_key_files(reason: Reason) -> None:
    remedy = finding(run_checks(on_arc(reason, container="Docker")), "II033").remedy
    assert remedy.startswith("docker run -v /var/opt/azcmagent/tokens:")


@pytest.mark.parametrize(
    ("resource", "reason", "headline"),
    [
        ("", Reason.REFUSED, "is not connected to Azure"),
        ("", Reason.ARC_NOT_CONNECTED, "is not connected to Azure"),
        (None, Reason.ARC_NOT_CONNECTED, "is not connected to Azure"),
        ("s/g/n", Reason.ARC_NOT_CONNECTED, "cannot reach Azure, or its resource was deleted"),
    ],
)
def test_agent_without_a_connection(resource: str | None, reason: Reason, headline: str) -> None:
    broken = on_arc(reason)
    broken = broken._replace(agent=broken.agent._replace(resource=resource))
    assert cause(broken) == "II036"
    assert headline in run_checks(broken).headline


@pytest.mark.parametrize(
    ("content", "resource"),
    [
        ('{"subscriptionId": "s", "resourceGroup": "g", "resourcename": "n"}', "s/g/n"),
        ('{"subscriptionId": "", "resourceGroup": "", "resourceName": ""}', ""),
        ("{}", ""),
        ("[]", None),
        ("[" * 5000, None),
        ("{", None),
    ],
)
def test_resource_in_the_agents_configuration(
    tmp_path: Path, content: str, resource: str | None
) -> None:
    (tmp_path / "agentconfig.json").write_text(content)
    assert connected_resource(str(tmp_path / "agentconfig.json")) == resource
    assert connected_resource(str(tmp_path / "missing")) is None


def test_service_of_this_process_is_named() -> None:
    groups = "4:memory:/x\n0::/system.slice/system-shop.slice/shop@1.service\n"
    assert systemd_unit(groups) == "shop@1.service"
    assert systemd_unit("0::/user.slice/user-0.slice/session-1.scope\n") == ""
    broken = on_arc(Reason.ARC_KEY_FILE_DENIED)
    late = broken._replace(
        agent=broken.agent._replace(listed=True),
        system=broken.system._replace(unit="shop@1.service"),
    )
    remedy = finding(run_checks(late), "II032").remedy
    assert remedy.endswith("sudo systemctl restart shop@1.service")


def test_variables_without_an_agent_are_left_over() -> None:
    probe = ISSUED._replace(
        claims=None, connect_seconds=None, connect_error="text", connect_kind=ErrorKind.REFUSED
    )
    broken = facts(ARC, probe)
    assert "IDENTITY_ENDPOINT is left over" in run_checks(broken).headline
    remedy = finding(run_checks(broken), "II030").remedy
    assert remedy.startswith("unset IDENTITY_ENDPOINT IMDS_ENDPOINT #")


def write_token(path: Path, **claims: object) -> None:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    path.write_text(f"e30.{body}.x")


def test_pod_is_known_from_its_tokens(tmp_path: Path) -> None:
    file = tmp_path / "token"
    write_token(
        file, sub="system:serviceaccount:shop:api", **{"kubernetes.io": {"pod": {"name": "api-1"}}}
    )
    assert read_pod(str(file)) == Pod("api-1", "shop", "api")
    write_token(file, sub="system:serviceaccount:shop:api", **{"kubernetes.io": "x"})
    assert read_pod("", str(tmp_path / "missing"), str(file)) == Pod("", "shop", "api")


def test_commands_name_the_pod_and_its_account() -> None:
    expired = facts(POD, workload=FEDERATED._replace(expiry=NOW - 60), pod=Pod("p-1", "shop", "a"))
    refused_probe = expired.probe._replace(claims=None)
    remedy = finding(run_checks(expired._replace(probe=refused_probe)), "II010").remedy
    assert remedy == "kubectl delete pod p-1 --namespace shop"


def test_one_command_unsets_all_variables_of_the_webhook() -> None:
    variables = {name: value for name, value in POD.items() if name != "KUBERNETES_SERVICE_HOST"}
    problem = WorkloadToken("/token", "text", is_missing=True)
    broken = facts(variables, ISSUED._replace(claims=None), workload=problem)
    remedy = finding(run_checks(broken), "II010").remedy
    assert remedy == "unset AZURE_FEDERATED_TOKEN_FILE AZURE_CLIENT_ID AZURE_TENANT_ID"


@pytest.mark.parametrize(
    ("container", "user", "remedy"),
    [
        ("", "app", "sudo usermod -aG himds app"),
        ("Docker", "app", 'docker run --group-add "$(getent'),
        ("", "4711", "sudo systemd-run --uid=4711 --property=SupplementaryGroups=himds"),
    ],
)
def test_group_is_added_where_that_is_possible(container: str, user: str, remedy: str) -> None:
    broken = on_arc(Reason.ARC_KEY_FILE_DENIED, container, user)
    assert cause(broken) == "II032"
    assert finding(run_checks(broken), "II032").remedy.startswith(remedy)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_reason_of_a_key_file_that_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.key").symlink_to("/etc/hostname")
    (tmp_path / "a.txt").write_text("x")
    for path, reason in (
        (tmp_path / "a.key", Reason.ARC_KEY_FILE_LINK),
        (tmp_path / "a.txt", Reason.ARC_KEY_FILE_INVALID),
        (tmp_path / "b.key", Reason.ARC_KEY_FILE_MISSING),
        ("/etc/b.key", Reason.ARC_KEY_FILE_OUTSIDE),
    ):
        with pytest.raises(SecretUnreadable) as raised:
            read_secret(str(path), str(tmp_path))
        assert raised.value.reason is reason
