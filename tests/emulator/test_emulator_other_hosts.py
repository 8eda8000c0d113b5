from __future__ import annotations

import sys
import uuid
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from azure.identity import ManagedIdentityCredential

from emulator.support import VAULT, claims_of
from imds_identity._platform.environment import Environment
from imds_identity._sources.registry import detect
from imds_identity.emulator import (
    DEFAULT_SYSTEM_ASSIGNED,
    DEFAULT_USER_ASSIGNED,
    Machine,
    ManualClock,
)

if TYPE_CHECKING:
    import requests

    from emulator.support import Send, Start


@pytest.fixture
def app_service(start_emulator: Start, http: requests.Session) -> Any:
    emulator = start_emulator("app-service")
    environment = emulator.environment()

    def send(secret: Any = environment["IDENTITY_HEADER"], **query: Any) -> Any:
        query = {"api-version": "2019-08-01", "resource": VAULT, **query}
        headers = {"X-IDENTITY-HEADER": secret}
        return http.get(environment["IDENTITY_ENDPOINT"], params=query, headers=headers)

    return send


def test_app_service_requires_its_header(app_service: Send) -> None:
    body = app_service().json()
    assert set(body) == {"access_token", "expires_on", "resource", "token_type", "client_id"}
    assert body["client_id"] == DEFAULT_SYSTEM_ASSIGNED.client_id
    assert app_service(secret="wrong").status_code == 401
    assert app_service(secret=None).status_code == 401


@pytest.mark.parametrize(
    ("selector", "attribute"),
    [
        ("client_id", "client_id"),
        ("object_id", "object_id"),
        ("principal_id", "object_id"),
        ("mi_res_id", "resource_id"),
    ],
)
def test_app_service_finds_an_identity_by_each_selector(
    app_service: Send, selector: Any, attribute: Any
) -> None:
    body = app_service(**{selector: getattr(DEFAULT_USER_ASSIGNED, attribute)}).json()
    assert body["client_id"] == DEFAULT_USER_ASSIGNED.client_id


@pytest.mark.parametrize("query", [{"resource": ""}, {"resource": "a"}, {"resource": [VAULT] * 2}])
def test_app_service_rejects_invalid_requests(app_service: Send, query: Any) -> None:
    response = app_service(**query)
    assert response.status_code == 400
    assert response.json()["message"]
    assert set(response.json()) == {"statusCode", "message", "correlationId"}


NOT_FOUND = (
    "No User Assigned or Delegated Managed Identity found for specified "
    "ClientId/ResourceId/PrincipalId."
)


def test_app_service_reports_an_unknown_identity_as_in_captures(app_service: Send) -> None:
    response = app_service(client_id="unknown")
    assert response.headers["Server"] == "Kestrel"
    body = response.json()
    assert uuid.UUID(body.pop("correlationId"))
    assert (response.status_code, body) == (400, {"statusCode": 400, "message": NOT_FOUND})


def test_app_service_has_no_default_among_user_assigned_identities(
    start_emulator: Start, http: requests.Session
) -> None:
    emulator = start_emulator("app-service", identities=[DEFAULT_USER_ASSIGNED])
    environment = emulator.environment()
    response = http.get(
        environment["IDENTITY_ENDPOINT"],
        params={"api-version": "2019-08-01", "resource": VAULT},
        headers={"X-IDENTITY-HEADER": environment["IDENTITY_HEADER"]},
    )
    assert response.json()["message"] == NOT_FOUND


@pytest.mark.parametrize(
    ("version", "code"),
    [("2018-02-01", "UnsupportedApiVersion"), ("", "ApiVersionUnspecified")],
)
def test_app_service_names_an_unsupported_version(
    app_service: Send, version: str, code: str
) -> None:
    response = app_service(**{"api-version": version})
    assert (response.status_code, response.json()["error"]["code"]) == (400, code)
    assert version in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("os_type", "expiry"),
    [("Linux", "01/16/2027 08:00:00 +00:00"), ("Windows", "1/16/2027 8:00:00 AM +00:00")],
)
def test_first_version_of_app_service_has_its_own_header_selector_and_dates(
    start_emulator: Start, http: requests.Session, clock: ManualClock, os_type: str, expiry: str
) -> None:
    emulator = start_emulator("app-service", clock=clock, machine=Machine(os_type=os_type))
    environment = emulator.environment()
    query = {"api-version": "2017-09-01", "resource": VAULT}
    headers = {"secret": environment["MSI_SECRET"]}
    selected = {**query, "clientid": DEFAULT_USER_ASSIGNED.client_id}
    response = http.get(environment["MSI_ENDPOINT"], params=selected, headers=headers)
    assert claims_of(response)["appid"] == DEFAULT_USER_ASSIGNED.client_id
    assert response.json().pop("expires_on") == expiry
    assert set(response.json()) == {"access_token", "expires_on", "resource", "token_type"}
    unknown = http.get(
        environment["MSI_ENDPOINT"], params={**query, "clientid": "x"}, headers=headers
    )
    assert unknown.json()["Message"] == NOT_FOUND
    assert http.get(environment["MSI_ENDPOINT"], params=query).status_code == 401


def test_microsoft_s_client_gets_a_token_on_app_service(
    start_emulator: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = start_emulator("app-service")
    for name, value in emulator.environment().items():
        monkeypatch.setenv(name, value)
    with ManagedIdentityCredential() as credential:
        token = credential.get_token(VAULT + "/.default").token
    assert jwt.decode(token, options={"verify_signature": False})["aud"] == VAULT
    assert "hidden" in emulator.token_requests[0].headers["x-identity-header"]


def test_older_clients_can_post_a_form(start_emulator: Start, http: requests.Session) -> None:
    emulator = start_emulator()
    url = emulator.endpoint + "/oauth2/token"
    response = http.post(url, data=iter([b"resource=https%3A%2F%2Fvault.", b"azure.net"]))
    assert response.json()["resource"] == VAULT
    assert http.get(url, params={"resource": VAULT}).json()["resource"] == VAULT
    assert http.post(url, data=b"resource=a&resource=b").status_code == 400
    assert http.post(url, data=b"\xff").status_code == 400
    assert http.put(url, data={"resource": VAULT}).status_code == 405


@pytest.mark.parametrize("platform", ["linux", "win32"])
def test_app_service_is_not_detected_as_container_instances(
    start_emulator: Start, monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    emulator = start_emulator("app-service")
    monkeypatch.setattr(sys, "platform", platform)
    assert detect(environment=Environment(emulator.environment())).name == "app-service"
