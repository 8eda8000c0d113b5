"""The app platforms: each is found, and gives tokens, by the protocol of its documentation."""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING, Any

import azure.identity
import pytest
import requests

from emulator.support import VAULT, claims_of, run_command
from imds_identity import ManagedIdentityCredential
from imds_identity._platform.environment import Environment
from imds_identity._sources.registry import detect
from imds_identity.emulator import DEFAULT_SYSTEM_ASSIGNED, DEFAULT_USER_ASSIGNED, Machine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from emulator.support import Start
    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
WINDOWS = Machine(os_type="Windows")
HOSTS = [
    ("app-service", "app-service"),
    ("functions", "app-service"),
    ("container-apps", "app-service"),
    ("azure-ml", "azure-ml"),
    ("cloud-shell", "cloud-shell"),
    ("service-fabric", "service-fabric"),
    ("aci", "imds"),
]


def use(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in emulator.environment().items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(("profile", "source"), HOSTS)
def test_host_is_detected_and_issues_a_token(
    start_emulator: Start, monkeypatch: pytest.MonkeyPatch, profile: str, source: str
) -> None:
    emulator = start_emulator(profile)
    use(emulator, monkeypatch)
    assert detect(environment=Environment(emulator.environment())).name == source
    with ManagedIdentityCredential() as credential:
        token = credential.get_token(VAULT + "/.default")
    assert [request.status for request in emulator.token_requests] == [200]
    [issued] = emulator.issued_tokens
    assert (issued.value, issued.client_id) == (token.token, DEFAULT_SYSTEM_ASSIGNED.client_id)
    assert abs(token.expires_on - issued.expires) <= 1


def test_container_instances_on_windows_are_detected(
    start_emulator: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = start_emulator("aci", machine=WINDOWS).environment()
    monkeypatch.setattr(sys, "platform", "win32")
    assert detect(environment=Environment(environment)).name == "container-instances"


@pytest.mark.parametrize(
    "profile", ["functions", "container-apps", "azure-ml", "cloud-shell", "aci"]
)
def test_microsoft_s_client_gets_a_token_on_each_host(
    start_emulator: Start, monkeypatch: pytest.MonkeyPatch, profile: str
) -> None:
    emulator = start_emulator(profile)
    use(emulator, monkeypatch)
    with azure.identity.ManagedIdentityCredential() as credential:
        token = credential.get_token(VAULT + "/.default")
    assert token.token == emulator.issued_tokens[0].value


def request_with_secret(emulator: Emulator, **query: str) -> requests.Response:
    variables = emulator.environment()
    url = variables.get("IDENTITY_ENDPOINT") or variables["MSI_ENDPOINT"]
    secret = variables.get("IDENTITY_HEADER") or variables["MSI_SECRET"]
    if "?" not in url:
        version = "2017-09-01" if emulator.profile == "azure-ml" else "2020-05-01"
        query = {"api-version": version, **query}
    query = {"resource": VAULT, **query}
    return requests.get(url, params=query, headers={"secret": secret}, verify=False, timeout=10)


def test_service_fabric_refreshes_a_token_by_its_hash(start_emulator: Start) -> None:
    emulator = start_emulator("service-fabric")
    first = request_with_secret(emulator).json()
    assert isinstance(first["expires_on"], int)
    assert request_with_secret(emulator).json() == first
    other = request_with_secret(emulator, token_sha256_to_refresh="0" * 64, xms_cc="cp1").json()
    assert other == first
    refused = hashlib.sha256(first["access_token"].encode()).hexdigest()
    new = request_with_secret(emulator, token_sha256_to_refresh=refused).json()
    assert new["access_token"] != first["access_token"]
    assert request_with_secret(emulator).json() == new


def test_service_fabric_names_its_errors(start_emulator: Start) -> None:
    emulator = start_emulator("service-fabric")
    url = emulator.environment()["IDENTITY_ENDPOINT"]

    def error(query: Mapping[str, str], headers: Mapping[str, str]) -> tuple[int, str]:
        query = {"api-version": "2020-05-01", "resource": VAULT, **query}
        response = requests.get(url, params=query, headers=headers, verify=False, timeout=10)
        return response.status_code, response.json()["error"]["code"]

    own = {"Secret": emulator.environment()["IDENTITY_HEADER"]}
    assert error({}, {}) == (400, "SecretHeaderNotFound")
    assert error({}, {"Secret": "wrong"}) == (404, "ManagedIdentityNotFound")
    assert error({"principalId": "unknown"}, own) == (404, "ManagedIdentityNotFound")
    assert error({"resource": ""}, own) == (400, "ArgumentNullOrEmpty")
    assert error({"api-version": "2018-02-01"}, own) == (400, "InvalidApiVersion")


@pytest.mark.parametrize(
    ("profile", "options", "selector", "attribute"),
    [
        ("service-fabric", {}, "principalId", "object_id"),
        ("azure-ml", {}, "clientid", "client_id"),
        ("aci", {"machine": WINDOWS}, "principalId", "object_id"),
    ],
)
def test_host_supports_its_own_selector_only(
    start_emulator: Start, profile: str, options: Mapping[str, Any], selector: str, attribute: str
) -> None:
    emulator = start_emulator(profile, **options)
    value = getattr(DEFAULT_USER_ASSIGNED, attribute)
    claims = claims_of(request_with_secret(emulator, **{selector: value}))
    assert claims["appid"] == DEFAULT_USER_ASSIGNED.client_id
    ignored = request_with_secret(emulator, msi_res_id=DEFAULT_USER_ASSIGNED.resource_id)
    assert claims_of(ignored)["appid"] == DEFAULT_SYSTEM_ASSIGNED.client_id


def test_container_instances_on_windows_write_errors_as_text(start_emulator: Start) -> None:
    response = request_with_secret(start_emulator("aci", machine=WINDOWS), principalId="unknown")
    assert response.status_code == 400
    assert response.headers["Content-Type"].startswith("text/plain")


def test_azure_ml_without_a_system_assigned_identity_has_no_default(start_emulator: Start) -> None:
    emulator = start_emulator("azure-ml", identities=[DEFAULT_USER_ASSIGNED])
    assert emulator.environment()["DEFAULT_IDENTITY_CLIENT_ID"] == "clientid"
    assert request_with_secret(emulator).status_code == 400


@pytest.mark.usefixtures("no_default_state")
def test_variables_are_printed_before_the_start_if_they_are_fixed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ("--print-env", "--port", "17111")
    assert run_command("--profile", "functions", *flags) != 0
    assert "--identity-header" in capsys.readouterr().err
    assert run_command("--profile", "service-fabric", "--identity-header", "own", *flags) != 0
    assert "--state" in capsys.readouterr().err
    assert run_command("--profile", "azure-ml", "--identity-header", "own", *flags) == 0
    assert "export MSI_SECRET=own" in capsys.readouterr().out
    assert run_command("--profile", "cloud-shell", *flags) == 0
    assert "MSI_ENDPOINT=http://127.0.0.1:17111/oauth2/token" in capsys.readouterr().out
