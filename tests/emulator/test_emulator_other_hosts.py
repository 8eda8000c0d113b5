from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from azure.identity import ManagedIdentityCredential

from emulator.support import VAULT
from imds_identity._platform.environment import Environment
from imds_identity._sources.registry import detect
from imds_identity.emulator import DEFAULT_SYSTEM_ASSIGNED, DEFAULT_USER_ASSIGNED

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


@pytest.mark.parametrize(
    "query",
    [{"client_id": "unknown"}, {"resource": ""}, {"api-version": "2018-02-01"}, {"resource": "a"}],
)
def test_app_service_rejects_invalid_requests(app_service: Send, query: Any) -> None:
    response = app_service(**query)
    assert response.status_code == 400
    assert response.json()["message"]


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
