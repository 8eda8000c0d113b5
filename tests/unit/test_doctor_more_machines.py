"""Machines on which the doctor's first line was wrong or vague, described by their facts."""

from __future__ import annotations

import errno
import json
import os
import socket
import ssl
import subprocess
import sys
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from doctor_facts import ETH0, IMDS, NOW, ROUTED, TIMED_OUT, WORKLOAD, facts, finding, refused
from doctor_rewording import WORDINGS, reword
from imds_identity._core.failure import Reason, Refused, Unavailable
from imds_identity._core.identity import Identity
from imds_identity._http.exchange import ErrorKind
from imds_identity._platform.environment import Environment
from imds_identity._sources.firmware import Firmware
from imds_identity.doctor._facts import hosting, network, tls
from imds_identity.doctor._facts.agent import package_version
from imds_identity.doctor._facts.facts import (
    Agent,
    CertificateFault,
    Hosting,
    HostKind,
    Pod,
    RequestRecord,
    Route,
    ServiceProbe,
    Tls,
    WorkloadToken,
)
from imds_identity.doctor._facts.shared_cache import gather_cache
from imds_identity.doctor._facts.system import read_workload_token
from imds_identity.doctor.diagnosis import run_checks
from imds_identity.metadata._services import nearest_resource
from imds_identity.metadata.clouds import CHINA

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@pytest.fixture(autouse=True, params=WORDINGS)
def _wording(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    reword(monkeypatch, request.param)


CLIENT = "99999999-2222-3333-4444-555555555555"
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
KUBERNETES = Hosting(HostKind.KUBERNETES)
APP = {"IDENTITY_ENDPOINT": "http://127.0.0.1:1/msi/token", "IDENTITY_HEADER": "s3cr3t"}
ML = {"MSI_ENDPOINT": "http://127.0.0.1:1/msi/token", "MSI_SECRET": "s3cr3t"}
SHELL = {"MSI_ENDPOINT": "http://localhost:1/oauth2/token"}
ARC = {"IDENTITY_ENDPOINT": "http://localhost:40342/t", "IMDS_ENDPOINT": "http://localhost:40342"}
UNTRUSTED = ServiceProbe(
    requests=(RequestRecord("/token", error="text"),), failure=Unavailable("t", reason=Reason.TLS)
)


def responds(status: int, body_start: str = "", **headers: str) -> ServiceProbe:
    """Return the outcome of requests to a server that is not the metadata service."""
    known = {name.replace("_", "-"): value for name, value in headers.items()}
    request = RequestRecord("/token", status, known, body_start)
    wrong = Unavailable("text", reason=Reason.WRONG_SERVICE, status=status)
    return ServiceProbe(0.001, metadata=request, requests=(request,), failure=wrong)


def unanswered(kind: ErrorKind) -> ServiceProbe:
    request = RequestRecord("/token", error="text", kind=kind)
    return ServiceProbe(requests=(request,), failure=Unavailable("t", reason=Reason.NO_RESPONSE))


COMMANDS = {
    "az", "chmod", "curl", "date", "docker", "export", "getent", "imds-identity", "kubectl",
    "sleep", "ss", "sudo", "systemctl", "unset",
}  # fmt: skip
ADVICE = ("call ", "see ")


class Machine(NamedTuple):
    variables: dict[str, str]
    probe: ServiceProbe
    check: str
    meaning: str
    remedy: str
    more: Mapping[str, Any] = MappingProxyType({})


MACHINES = {
    "pod on Google Cloud": Machine(
        POD, responds(404, metadata_flavor="Google"), "II025", "Google Cloud",
        "az identity federated-credential create", {"hosting": KUBERNETES},
    ),
    "pod behind a sidecar": Machine(
        POD, responds(404, server="envoy"), "II025", "transparent proxy (envoy)", "sidecar",
        {"hosting": KUBERNETES},
    ),
    "pod without a tenant": Machine(
        {**POD, "AZURE_FEDERATED_TOKEN_FILE": "/t", "AZURE_CLIENT_ID": "c"}, TIMED_OUT, "II016",
        "AZURE_TENANT_ID: not set, so this pod's workload identity is not used",
        "kubectl get serviceaccount till --namespace shop --output yaml # its annotations; then: "
        "kubectl delete pod p --namespace shop",
        {"hosting": KUBERNETES, "pod": Pod("p", "shop", "till")},
    ),
    "network policy of a pod": Machine(
        {**POD, **WORKLOAD},
        ServiceProbe(connect_error="text", connect_kind=ErrorKind.TIMEOUT), "II023",
        "packets to login.microsoftonline.com are lost",
        "kubectl get networkpolicy --namespace shop --output yaml # allow",
        {"pod": Pod("p", "shop", "till")},
    ),
    "silent proxy": Machine(
        {**WORKLOAD, "HTTPS_PROXY": "http://user:s3cr3t@proxy:3128"},
        unanswered(ErrorKind.TIMEOUT), "II024",
        "no complete response from login.microsoftonline.com comes through the proxy proxy:3128 "
        "in HTTPS_PROXY", "export NO_PROXY=login.microsoftonline.com",
    ),
    "expired certificate": Machine(
        WORKLOAD, UNTRUSTED, "II027", "has expired, or this machine's clock is fast", "date -u #",
        {"tls": Tls("CN=x", CertificateFault.EXPIRED, NOW - 60)},
    ),
    "expired authority": Machine(
        WORKLOAD, UNTRUSTED, "II027", "the authority of the TLS certificate",
        "export REQUESTS_CA_BUNDLE=FILE", {"tls": Tls("CN=x", CertificateFault.EXPIRED, NOW + 60)},
    ),
    "certificate of the future": Machine(
        WORKLOAD, UNTRUSTED, "II027", "not valid yet: this machine's clock is probably slow",
        "date -u; chronyc tracking", {"tls": Tls("CN=x", CertificateFault.NOT_YET_VALID)},
    ),
    "certificate of another name": Machine(
        WORKLOAD, UNTRUSTED, "II027", "is for another name",
        "getent hosts login.microsoftonline.com",
        {"tls": Tls("CN=x", CertificateFault.OTHER_NAME)},
    ),
    "Container Apps job": Machine(
        {}, TIMED_OUT, "II016", "the app 'nightly' of Container Apps jobs has no managed identity",
        "az containerapp job identity assign --resource-group GROUP --name nightly "
        "--system-assigned", {"hosting": Hosting(HostKind.CONTAINER_APP_JOBS, "nightly")},
    ),
    "silent endpoint of a Container App": Machine(
        {**APP, "CONTAINER_APP_REVISION": "api--r1"},
        ServiceProbe(connect_error="text", connect_kind=ErrorKind.REFUSED), "II016",
        "does not respond to the app 'api'",
        "az containerapp revision restart --revision api--r1 --resource-group GROUP --name api",
        {"hosting": Hosting(HostKind.CONTAINER_APPS, "api")},
    ),
    "Batch node": Machine(
        {}, refused(Reason.IDENTITY_NOT_FOUND), "II016", "a node of an Azure Batch pool",
        "az batch pool show --pool-id render", {"hosting": Hosting(HostKind.BATCH, "render")},
    ),
    "Spark": Machine(
        {}, TIMED_OUT, "II016", "Apache Spark in Azure Synapse", "credentials.getToken",
        {"hosting": Hosting(HostKind.SYNAPSE)},
    ),
    "machine learning compute": Machine(
        {**ML, "DEFAULT_IDENTITY_CLIENT_ID": CLIENT, "AZUREML_ARM_RESOURCEGROUP": "rg",
         "AZUREML_ARM_WORKSPACE_NAME": "ws"},
        refused(Reason.IDENTITY_NOT_FOUND, 500), "II050",
        "the compute of Azure Machine Learning has no managed identity",
        "az ml compute show --name COMPUTE --resource-group rg --workspace-name ws",
    ),
    "client ID with a line break": Machine(
        {**WORKLOAD, "AZURE_CLIENT_ID": f"{CLIENT}\n"}, refused(Reason.IDENTITY_MISMATCH, 200),
        "II001", "AZURE_CLIENT_ID begins or ends with white space", "export AZURE_CLIENT_ID=",
    ),
    "route to another gateway": Machine(
        {}, TIMED_OUT, "II022", "over eth0 via 10.0.0.99 and not over the primary interface eth0",
        f"sudo ip route replace {IMDS}/32 via 10.0.0.1 dev eth0",
        {"network": ROUTED._replace(routes=(ETH0, Route("eth0", f"{IMDS}/32", "10.0.0.99")))},
    ),
    "directory in place of a token": Machine(
        WORKLOAD, ServiceProbe(failure=Unavailable("t", reason=Reason.FEDERATED_TOKEN)), "II010",
        "AZURE_FEDERATED_TOKEN_FILE names a directory, /var/tokens",
        "export AZURE_FEDERATED_TOKEN_FILE=/var/tokens/token",
        {"workload": WorkloadToken(
            "/var/tokens", "text", is_directory=True, token_file="/var/tokens/token",
        )},
    ),
    "audience that Cloud Shell does not know": Machine(
        SHELL, refused(Reason.UNKNOWN_RESOURCE), "II005", "gets tokens for some Azure services",
        "az login; az account get-access-token --resource https://example.com",
        {"resource": "https://example.com"},
    ),
    "selector in Cloud Shell": Machine(
        SHELL, ServiceProbe(failure=Refused("text", reason=Reason.UNSUPPORTED)), "II061", "",
        "imds-identity doctor # without --client-id",
        {"identity": Identity("client_id", CLIENT)},
    ),
    "agent that refuses": Machine(
        ARC, refused(Reason.REFUSED, 403), "II061", "the Azure Arc agent refuses",
        "sudo azcmagent check",
    ),
    "app with another header": Machine(
        APP, refused(Reason.REFUSED, 401), "II061", "rejects the value of IDENTITY_HEADER",
        "az webapp restart --resource-group rg --name shop",
        {"hosting": Hosting(HostKind.APP_SERVICE, "shop", "rg")},
    ),
    "header of another process": Machine(
        APP, refused(Reason.REFUSED, 401), "II061", "rejects the value of IDENTITY_HEADER",
        "unset IDENTITY_ENDPOINT",
    ),
    "identity that a policy blocks": Machine(
        {}, refused(Reason.REFUSED, 403, text="text"), "II061", "for this identity",
        "az vm identity show",
    ),
    "misspelled resource": Machine(
        {}, refused(Reason.UNKNOWN_RESOURCE), "II005", "https://vault.azure.net probably",
        "--resource https://vault.azure.net", {"resource": "https://valut.azure.net"},
    ),
    "HTML page on a VM": Machine(
        {}, responds(200, content_type="text/html"), "II025", "responds with an HTML page",
        "iptables -t nat", {"firmware": Firmware("7783-7084-3265-9085-8269-3286-77", "Microsoft")},
    ),
    "HTML page on the internet": Machine(
        WORKLOAD, responds(200, content_type="text/html"), "II025", "responds with an HTML page",
        "curl -sv https://login.microsoftonline.com # log in to that network",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MACHINES)
def test_first_line_and_remedy(name: str) -> None:
    machine = MACHINES[name]
    if sys.platform == "win32" and name == "app with another header":
        pytest.skip("there, these variables are those of Container Instances")
    diagnosis = run_checks(facts(machine.variables, machine.probe, **machine.more))
    found = diagnosis.cause
    assert found is not None
    assert found.id == machine.check
    assert machine.meaning in diagnosis.headline
    assert machine.remedy in found.remedy
    assert "s3cr3t" not in f"{diagnosis}"


@pytest.mark.skipif(sys.platform == "win32", reason="requires a POSIX shell")
def test_remedies_are_commands_of_a_shell() -> None:
    checked = set[str]()
    for machine in MACHINES.values():
        found = run_checks(facts(machine.variables, machine.probe, **machine.more)).findings
        checked |= {each.remedy for each in found if each.status in ("failure", "warning")}
    for remedy in checked:
        assert not subprocess.run(["sh", "-nc", remedy], check=False).returncode, remedy
    assert {each.split()[0] for each in checked if not each.startswith(ADVICE)} <= COMMANDS


def test_pod_is_changed_by_its_deployment() -> None:
    pod = Pod("till-7c9d8f6b5-x2x4z", "shop", "till")
    workload = WorkloadToken("/t", "x", is_denied=True)
    broken = facts({**POD, **WORKLOAD}, workload=workload, pod=pod)
    remedy = finding(run_checks(broken), "II010").remedy
    command, patch = remedy.split(" --patch ")
    assert command == "kubectl patch deployment till --namespace shop"
    assert json.loads(patch.strip("'"))["spec"]["template"]["spec"]["securityContext"]


@pytest.mark.skipif(sys.platform == "win32", reason="requires file modes")
def test_own_cache_directory_gets_the_right_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    source = facts().source
    state = gather_cache(str(tmp_path), source, Environment({}))
    remedy = finding(run_checks(facts(cache=state)), "II080").remedy
    assert remedy.startswith(f"chmod 700 {tmp_path} #")
    subprocess.run(["sh", "-c", remedy], check=True)
    assert not gather_cache(str(tmp_path), source, Environment({})).problem


@pytest.mark.skipif(sys.platform == "win32", reason="requires a POSIX shell")
def test_white_space_is_removed_by_the_remedy() -> None:
    machine = MACHINES["client ID with a line break"]
    remedy = finding(run_checks(facts(machine.variables, machine.probe)), "II001").remedy
    environment = {**machine.variables, "PATH": os.environ["PATH"]}
    script = ["sh", "-c", f'{remedy}; printf %s "$AZURE_CLIENT_ID"']
    done = subprocess.run(script, env=environment, capture_output=True, check=True)
    assert done.stdout.decode() == CLIENT


def test_version_of_the_agent_is_read_from_the_list_of_packages(tmp_path: Path) -> None:
    packages = tmp_path / "status"
    assert package_version(str(packages)) == ""
    other = "Package: bash\nVersion: 5.2\n\n"
    packages.write_bytes(other.encode())
    assert package_version(str(packages)) == ""
    own = "Package: azcmagent\nStatus: install ok installed\nVersion: 1.39.02628.330\n"
    packages.write_bytes(f"{other}{own}\n{other}".encode())
    assert package_version(str(packages)) == "1.39.02628.330"
    known = facts(ARC, agent=Agent(installed=True, version="1.39"))
    assert finding(run_checks(known), "II037").seen == "version 1.39"


def test_token_file_in_a_pod_is_not_left_over() -> None:
    broken = facts({**POD, "AZURE_FEDERATED_TOKEN_FILE": "/t"}, TIMED_OUT)
    assert not [each for each in run_checks(broken).findings if "left over" in each.meaning]


@pytest.mark.parametrize(
    ("variables", "kind"),
    [
        ({"CONTAINER_APP_JOB_NAME": "nightly"}, HostKind.CONTAINER_APP_JOBS),
        ({"AZ_BATCH_POOL_ID": "render"}, HostKind.BATCH),
        ({"AZURE_SERVICE": "Microsoft.ProjectArcadia"}, HostKind.SYNAPSE),
    ],
)
def test_kind_of_host_by_its_variables(variables: dict[str, str], kind: HostKind) -> None:
    assert hosting.gather_hosting(Environment(variables), Firmware(), "Linux").kind is kind


def test_directory_with_a_token_is_recognized(tmp_path: Path) -> None:
    assert read_workload_token(str(tmp_path)).token_file == ""
    (tmp_path / "azure-identity-token").touch()
    found = read_workload_token(str(tmp_path))
    assert found.token_file == str(tmp_path / "azure-identity-token")


def test_connection_that_a_security_policy_forbids(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prohibit route reports the same error, but for its own addresses only."""
    monkeypatch.setattr(network, "_is_forbidden", lambda _: False)

    class Prohibited(socket.socket):
        def connect(self, address: Any) -> None:
            raise OSError(errno.EACCES, "text")

        def connect_ex(self, address: Any) -> int:
            return errno.EACCES

    monkeypatch.setattr(socket, "socket", Prohibited)
    assert network._source_address(IMDS, 80)[1] == "text"
    monkeypatch.undo()
    monkeypatch.setattr(socket, "socket", Prohibited)
    assert network._source_address(IMDS, 80)[1] == ""


@pytest.mark.parametrize(
    ("code", "fault"),
    [(10, CertificateFault.EXPIRED), (9, CertificateFault.NOT_YET_VALID),
     (62, CertificateFault.OTHER_NAME), (20, CertificateFault.UNTRUSTED)],
)  # fmt: skip
def test_fault_of_a_certificate(
    code: int, fault: CertificateFault, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        error = ssl.SSLCertVerificationError("text")
        error.verify_code = code
        raise error

    monkeypatch.setattr(tls, "connect_tls", fail)
    source = facts(WORKLOAD).source
    untrusted = Unavailable("text", reason=Reason.TLS)
    monkeypatch.setattr(tls, "_unverified_certificate", lambda *_: b"")
    assert tls.gather_tls(source, Environment(WORKLOAD), untrusted) == Tls("", fault)


@pytest.mark.parametrize(
    ("requested", "meant"),
    [
        ("https://valut.azure.net", "https://vault.azure.net"),
        ("https://managment.azure.com/", "https://management.azure.com"),
        ("https://storage.azure.com", "https://storage.azure.com"),
        ("https://example.com", ""),
        ("api://shop", ""),
    ],
)
def test_resource_that_is_almost_the_same(requested: str, meant: str) -> None:
    assert nearest_resource(requested) == meant


def test_nearest_resource_is_that_of_the_machines_cloud() -> None:
    assert nearest_resource("https://valut.azure.cn", CHINA) == "https://vault.azure.cn"
