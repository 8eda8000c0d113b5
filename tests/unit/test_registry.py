from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imds_identity._core.failure import Unavailable
from imds_identity._core.identity import SYSTEM_ASSIGNED, Identity
from imds_identity._core.source import Source
from imds_identity._platform.environment import Environment
from imds_identity._sources.app_hosts.source import AppHostSource
from imds_identity._sources.arc.source import ArcSource
from imds_identity._sources.registry import detect, leftover_variables
from imds_identity._sources.workload_identity import WorkloadSource

if TYPE_CHECKING:
    from imds_identity._sources.host import TokenSource

TOKEN = "/metadata/identity/oauth2/token"
SERVICE_FABRIC = {
    "IDENTITY_ENDPOINT": "https://f",
    "IDENTITY_HEADER": "h",
    "IDENTITY_SERVER_THUMBPRINT": "t",
}
APP_SERVICE = {
    "IDENTITY_ENDPOINT": "http://a", "IDENTITY_HEADER": "h", "WEBSITE_SITE_NAME": "w",
}  # fmt: skip
ENDPOINT_AND_HEADER = {"IDENTITY_ENDPOINT": "http://a", "IDENTITY_HEADER": "h"}
ARC = {
    "IDENTITY_ENDPOINT": f"http://localhost:40342{TOKEN}",
    "IMDS_ENDPOINT": "http://localhost:40342",
}
AZURE_ML = {"MSI_ENDPOINT": "http://m", "MSI_SECRET": "s"}
CLOUD_SHELL = {"MSI_ENDPOINT": "http://c"}
WORKLOAD = {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_FEDERATED_TOKEN_FILE": "/f"}


def found(
    environment: dict[str, str], forced: str | None = None, directory: str | None = None
) -> TokenSource:
    return detect(forced, tokens_directory=directory, environment=Environment(environment))


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "exists", lambda path: "himds" in str(path))


@pytest.mark.parametrize(
    ("environment", "name", "endpoint"),
    [
        ({}, "imds", f"http://169.254.169.254{TOKEN}"),
        ({"AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://x:1/"}, "imds", f"http://x:1{TOKEN}"),
        (SERVICE_FABRIC, "service-fabric", "https://f"),
        (APP_SERVICE, "app-service", "http://a"),
        ({**APP_SERVICE, "IMDS_ENDPOINT": "http://i"}, "app-service", "http://a"),
        (ARC, "arc", f"http://localhost:40342{TOKEN}"),
        ({**ARC, **AZURE_ML, **WORKLOAD}, "arc", f"http://localhost:40342{TOKEN}"),
        (AZURE_ML, "azure-ml", "http://m"),
        (CLOUD_SHELL, "cloud-shell", "http://c"),
        ({**CLOUD_SHELL, **WORKLOAD}, "cloud-shell", "http://c"),
        (WORKLOAD, "workload-identity", "https://login.microsoftonline.com/t"),
        ({**WORKLOAD, "AZURE_AUTHORITY_HOST": "login.x"}, "workload-identity", "https://login.x/t"),
        ({**WORKLOAD, "AZURE_CLIENT_ID": ""}, "imds", f"http://169.254.169.254{TOKEN}"),
        ({"IDENTITY_ENDPOINT": "http://only"}, "imds", f"http://169.254.169.254{TOKEN}"),
        ({"IDENTITY_ENDPOINT": ""}, "imds", f"http://169.254.169.254{TOKEN}"),
    ],
)
def test_environment_selects_the_source(
    environment: dict[str, str], name: str, endpoint: str
) -> None:
    source = found(environment)
    assert (source.name, source.endpoint) == (name, endpoint)


@pytest.mark.usefixtures("agent")
def test_an_installed_agent_is_found_without_its_variables() -> None:
    source = found({})
    assert source.name == "arc"
    assert source.endpoint == f"http://localhost:40342{TOKEN}"
    assert isinstance(source, ArcSource)
    if sys.platform == "linux":
        assert source.tokens_directory == "/var/opt/azcmagent/tokens"
    named = found({"AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://x"})
    assert named.name == "imds"
    assert found(APP_SERVICE).name == "app-service"


def test_agent_is_detected_in_its_windows_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def exists(path: str) -> bool:
        looked.append(path)
        return True

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os.path, "exists", exists)
    environment = {"ProgramFiles": r"D:\Programs", "ProgramData": r"D:\Data"}
    source = found(environment)
    assert looked == [r"D:\Programs\AzureConnectedMachineAgent\himds.exe"]
    assert isinstance(source, ArcSource)
    assert source.tokens_directory == r"D:\Data\AzureConnectedMachineAgent\Tokens"


@pytest.mark.skipif(sys.platform == "win32", reason="the path on Linux")
def test_agent_is_detected_where_its_package_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "exists", {"/opt/azcmagent/bin/himds"}.__contains__)
    assert found({}).name == "arc"


def test_variables_of_other_hosts_are_leftovers() -> None:
    environment = Environment({**ARC, **AZURE_ML})
    assert leftover_variables("arc", environment) == ["MSI_ENDPOINT", "MSI_SECRET"]
    assert leftover_variables("imds", Environment(ARC)) == ["IDENTITY_ENDPOINT", "IMDS_ENDPOINT"]


def test_container_instances_are_detected_on_windows_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for platform, name in (("win32", "container-instances"), ("linux", "app-service")):
        monkeypatch.setattr(sys, "platform", platform)
        assert found(ENDPOINT_AND_HEADER).name == name


@pytest.mark.parametrize(
    "variable",
    [
        "WEBSITE_SITE_NAME", "WEBSITE_INSTANCE_ID", "WEBSITE_HOSTNAME", "FUNCTIONS_WORKER_RUNTIME",
        "CONTAINER_APP_NAME", "CONTAINER_APP_JOB_NAME", "CONTAINER_APP_REVISION",
        "AUTOMATION_ASSET_ACCOUNTID", "IMDS_IDENTITY_ENDPOINT",
    ],
)  # fmt: skip
def test_hosts_with_the_protocol_of_app_service_are_not_container_instances(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert found({**ENDPOINT_AND_HEADER, variable: "x"}).name == "app-service"
    assert found({**SERVICE_FABRIC, variable: "x"}).name == "service-fabric"


def test_endpoint_of_container_instances_may_contain_a_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    endpoint = "http://10.92.0.5:2377/metadata/identity/oauth2/token?api-version=1.0"
    source = found({**ENDPOINT_AND_HEADER, "IDENTITY_ENDPOINT": endpoint})
    source.check()
    for invalid in (f"{endpoint}#x", f"{endpoint}&a=b@c", f"{endpoint}\\x", f"{endpoint} x"):
        source = found({**ENDPOINT_AND_HEADER, "IDENTITY_ENDPOINT": invalid})
        with pytest.raises(Unavailable, match="not a plain http"):
            source.check()


@pytest.mark.parametrize(
    ("environment", "client_id", "unused"),
    [
        ({}, "", ""),
        ({"AZURE_CLIENT_ID": "c"}, "", "c"),
        ({**APP_SERVICE, "AZURE_CLIENT_ID": "c"}, "", "c"),
        (WORKLOAD, "c", ""),
        ({**AZURE_ML, "DEFAULT_IDENTITY_CLIENT_ID": "d", "AZURE_CLIENT_ID": "c"}, "d", "c"),
        ({**AZURE_ML, "DEFAULT_IDENTITY_CLIENT_ID": "C", "AZURE_CLIENT_ID": "c"}, "C", ""),
        ({**AZURE_ML, "DEFAULT_IDENTITY_CLIENT_ID": "clientid"}, "", ""),
        ({**APP_SERVICE, "DEFAULT_IDENTITY_CLIENT_ID": "d"}, "", ""),
    ],
)
def test_identity_of_requests_without_a_selector(
    environment: dict[str, str], client_id: str, unused: str
) -> None:
    source = found(environment)
    assert source.resolve(SYSTEM_ASSIGNED).setting == (
        {"client_id": client_id} if client_id else {}
    )
    assert source.resolve(Identity("object_id", "o")) == Identity("object_id", "o")
    assert bool(source.unused_variable_note(SYSTEM_ASSIGNED)) == bool(unused)
    assert (
        f"AZURE_CLIENT_ID='{unused}'" in source.unused_variable_note(SYSTEM_ASSIGNED) or not unused
    )
    assert source.unused_variable_note(Identity("object_id", "o")) == ""


def test_a_source_can_be_forced() -> None:
    assert found(ARC, "imds").name == "imds"
    assert found(ARC, "arc").endpoint == ARC["IDENTITY_ENDPOINT"]
    assert found(APP_SERVICE, "arc").endpoint == f"http://localhost:40342{TOKEN}"
    with pytest.raises(ValueError, match="'imds', 'arc' or None"):
        detect("app-service")


def test_only_code_may_name_another_tokens_directory() -> None:
    source = found({}, "arc", "/x")
    assert isinstance(source, ArcSource)
    assert source.tokens_directory == "/x"
    assert not hasattr(found({}, "imds", "/x"), "tokens_directory")
    named = detect("arc", tokens_directory=Path("/x"))
    assert isinstance(named, ArcSource)
    assert named.tokens_directory == os.fspath(Path("/x"))
    with pytest.raises(TypeError, match="PathLike"):
        detect("arc", tokens_directory=5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value",
    [
        "...", "169.254.169.254", "ftp://x", "http://", "http://user@x", "http://x y",
        "http://localhost\\@example.com", "http://x?y=1", "http://x#y", "http://x\r\nHost: y",
        "http://x:123456", "http://x:99999", "http://x:65536", "http://x:0", "http://x:00000",
        "http://user:passw0rd@x", "http://user:p@ss/passw0rd@x", "user:passw0rd@x",
        "http://x\x1b[31m", "http://\u202ex", "http://x:\u0661",
    ],
)  # fmt: skip
def test_invalid_endpoint_is_refused_with_its_variable(value: str) -> None:
    source = found({"AZURE_POD_IDENTITY_AUTHORITY_HOST": value})
    with pytest.raises(
        Unavailable, match=r"^AZURE_POD_IDENTITY_AUTHORITY_HOST results in"
    ) as caught:
        source.check()
    assert str(caught.value).isprintable()
    assert "passw0rd" not in f"{caught.value} {source}"


@pytest.mark.parametrize(
    ("environment", "variable"),
    [
        ({**APP_SERVICE, "IDENTITY_ENDPOINT": "http://x:99999"}, "IDENTITY_ENDPOINT"),
        ({**SERVICE_FABRIC, "IDENTITY_ENDPOINT": "nonsense"}, "IDENTITY_ENDPOINT"),
        ({**ARC, "IDENTITY_ENDPOINT": "http://localhost:99999"}, "IDENTITY_ENDPOINT"),
        ({**AZURE_ML, "MSI_ENDPOINT": "http://a b"}, "MSI_ENDPOINT"),
        ({**CLOUD_SHELL, "MSI_ENDPOINT": "ftp://x"}, "MSI_ENDPOINT"),
        ({**WORKLOAD, "AZURE_AUTHORITY_HOST": "http://x:0"}, "AZURE_AUTHORITY_HOST"),
        ({**WORKLOAD, "AZURE_TENANT_ID": "a tenant"}, "AZURE_TENANT_ID"),
    ],
)
def test_wrong_variable_is_named(environment: dict[str, str], variable: str) -> None:
    source = found(environment)
    with pytest.raises(
        Unavailable, match=f"^{variable} results in .* not a plain http.*unset {variable}"
    ):
        source.check()


def test_source_has_the_secret_of_its_host() -> None:
    for environment, secret in ((APP_SERVICE, "h"), (SERVICE_FABRIC, "h"), (AZURE_ML, "s")):
        source = found(environment)
        assert isinstance(source, AppHostSource)
        assert source.secret is not None
        assert source.secret.reveal() == secret
    source = found(CLOUD_SHELL)
    assert isinstance(source, AppHostSource)
    assert source.secret is None


@pytest.mark.parametrize(
    ("variables", "endpoint"),
    [
        ({}, "https://login.microsoftonline.com/t"),
        ({"AZURE_AUTHORITY_HOST": "https://login.example/"}, "https://login.example/t"),
        ({"AZURE_AUTHORITY_HOST": "login.example"}, "https://login.example/t"),
        (
            {
                "AZURE_AUTHORITY_HOST": "https://login.example/",
                "AZURE_KUBERNETES_TOKEN_PROXY": "https://proxy.example/a/",
            },
            "https://proxy.example/a/t",
        ),
    ],
)
def test_workload_source_sends_to_the_authority_or_its_proxy(
    variables: dict[str, str], endpoint: str
) -> None:
    assert found({**WORKLOAD, **variables}).endpoint == endpoint


@pytest.mark.parametrize(("scheme", "imports"), [("http", "False"), ("https", "True")])
def test_only_tls_needs_requests(scheme: str, imports: str) -> None:
    script = (
        "import sys\n"
        "from imds_identity._platform.environment import Environment\n"
        "from imds_identity._sources.registry import detect\n"
        "variables = {'IDENTITY_ENDPOINT': sys.argv[1], 'IDENTITY_HEADER': 'h'}\n"
        "detect(environment=Environment(variables)).preload()\n"
        "print('requests' in sys.modules)"
    )
    command = [sys.executable, "-c", script, f"{scheme}://127.0.0.1:9"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == imports


def test_workload_source_has_client_id_and_token_file() -> None:
    source = found(WORKLOAD)
    assert isinstance(source, WorkloadSource)
    assert (source.client_id, source.token_file) == ("c", "/f")


@pytest.mark.parametrize(
    "endpoint",
    ["HTTP://localhost:1/x", "https://h.example/a-b_c/~d", "http://[::1]:80", "http://x:65535"],
)
def test_plain_urls_pass(endpoint: str) -> None:
    Source("imds", endpoint).check()
