"""The exchange of a token of Entra for a refresh token of Azure Container Registry."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from emulator.support import VAULT
from fake_sites import Proxy, serve
from imds_identity.cli import main
from imds_identity.emulator import DEFAULT_SYSTEM_ASSIGNED

if TYPE_CHECKING:
    import requests

    from emulator.support import Send, Start
    from imds_identity.emulator import Emulator, ManualClock

REGISTRY = "my-registry.azurecr.io"
AUDIENCE = "https://containerregistry.azure.net"


@pytest.fixture
def emulator(start_emulator: Start, clock: ManualClock) -> Emulator:
    return start_emulator(key_vault=True, clock=clock)


@pytest.fixture
def exchange(emulator: Emulator, http: requests.Session, request_token: Send) -> Any:
    def send(resource: str = AUDIENCE, **changes: str) -> requests.Response:
        token = request_token(emulator, resource=resource).json()["access_token"]
        form = {"grant_type": "access_token", "service": REGISTRY, "access_token": token}
        url = emulator.key_vault.url + "/oauth2/exchange"
        return http.post(url, data={**form, **changes}, verify=emulator.key_vault.ca_file)

    return send


@pytest.mark.parametrize("resource", [AUDIENCE, "https://management.azure.com/"])
def test_refresh_token_names_registry_and_identity(exchange: Any, resource: str) -> None:
    response = exchange(resource)
    assert response.status_code == 200
    claims = jwt.decode(response.json()["refresh_token"], options={"verify_signature": False})
    assert claims["exp"] == 1_800_000_000 + 3 * 3600
    assert (claims["aud"], claims["sub"]) == (REGISTRY, DEFAULT_SYSTEM_ASSIGNED.object_id)
    assert claims["grant_type"] == "refresh_token"


def test_exchanged_tokens_are_not_logged(exchange: Any, emulator: Emulator) -> None:
    refresh_token = exchange().json()["refresh_token"]
    record = emulator.requests[-1]
    assert "access_token=(hidden)" in record.body
    assert record.answer == '{"refresh_token":"(hidden)"}'
    assert refresh_token[-20:] not in str(record)
    assert (record.resource, record.identity) == (AUDIENCE, DEFAULT_SYSTEM_ASSIGNED.client_id)


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"access_token": "not.a.token"}, 401, "UNAUTHORIZED"),
        ({"resource": VAULT}, 401, "UNAUTHORIZED"),
        ({"access_token": ""}, 400, "BAD_REQUEST"),
        ({"service": ""}, 400, "BAD_REQUEST"),
        ({"grant_type": "password"}, 400, "BAD_REQUEST"),
    ],
)
def test_invalid_request_gets_a_list_of_errors(
    exchange: Any, changes: dict[str, str], status: int, code: str
) -> None:
    response = exchange(**changes)
    [error] = response.json()["errors"]
    assert (response.status_code, error["code"]) == (status, code)
    assert error["message"]


def test_other_methods_are_not_supported(emulator: Emulator, http: requests.Session) -> None:
    url = emulator.key_vault.url + "/oauth2/exchange"
    response = http.get(url, verify=emulator.key_vault.ca_file)
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")


def test_faults_have_the_form_of_a_registry(emulator: Emulator, exchange: Any) -> None:
    emulator.fault(category="registry", status=429, times=1)
    response = exchange()
    assert (response.status_code, response.json()["errors"][0]["code"]) == (429, "TOOMANYREQUESTS")
    emulator.fault(category="registry", token_lifetime=60, times=1)
    claims = jwt.decode(exchange().json()["refresh_token"], options={"verify_signature": False})
    assert claims["exp"] == 1_800_000_060
    emulator.fault(category="registry", date_skew=1, times=1)
    assert exchange().status_code == 200


def test_docker_credential_helper_gets_a_refresh_token(
    start_emulator: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    emulator = start_emulator(key_vault=True, allowed_hosts=[REGISTRY])
    vault = emulator.key_vault
    with contextlib.ExitStack() as stack:
        proxy = Proxy({REGISTRY: int(vault.url.rpartition(":")[2])})
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{serve(stack, proxy)}")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", vault.ca_file)
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(REGISTRY.encode())))
        assert main(["docker-credential", "get"]) == 0
    token = json.loads(capsys.readouterr().out)["Secret"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["aud"] == REGISTRY
    assert emulator.requests[-1].category == "registry"
