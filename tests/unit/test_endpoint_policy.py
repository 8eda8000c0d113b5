"""The endpoint's access policy and responses."""

from __future__ import annotations

import base64
import hmac
import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._core.failure import Refused, Unavailable
from imds_identity._core.identity import SYSTEM_ASSIGNED, Identity
from imds_identity._core.secret import Secret
from imds_identity._endpoint.policy import (
    APP_SERVICE_PATH,
    IMDS_PATH,
    AccessPolicy,
    HttpRequest,
    app_service_variables,
    authorize,
)
from imds_identity._endpoint.responses import (
    GrantedRequest,
    HttpResponse,
    Refusal,
    failure_response,
    token_response,
)
from imds_identity._platform.environment import Environment
from imds_identity._sources.registry import detect
from support import FakeClock, new_token

SECRET = "5ec12e7" * 9
HOST = "127.0.0.1:4711"
VAULT = "https://vault.azure.net"
QUERY = f"api-version=2019-08-01&resource={VAULT}"
VALID_HEADERS = {"host": HOST, "x-identity-header": SECRET}


def request(
    query: str = QUERY,
    *,
    method: str = "GET",
    path: str = "/msi/token",
    uid: int | None = None,
    **headers: str | None,
) -> HttpRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    fields = [
        (name, value) for name, value in {**VALID_HEADERS, **named}.items() if value is not None
    ]
    return HttpRequest(method, f"{path}?{query}", fields, frozenset((HOST, "localhost:4711")), uid)


def policy(**changes: Any) -> AccessPolicy:
    return AccessPolicy(Secret(SECRET), **changes)


def refusal(refused: HttpRequest, **changes: Any) -> HttpResponse:
    with pytest.raises(Refusal) as raised:
        authorize(refused, policy(**changes))
    return raised.value.response


def test_valid_request_is_granted() -> None:
    assert authorize(request(), policy()) == GrantedRequest(VAULT, SYSTEM_ASSIGNED)


def test_older_app_service_protocol_is_supported() -> None:
    older = request(
        f"api-version=2017-09-01&resource={VAULT}&clientid=abc",
        secret=SECRET,
        x_identity_header=None,
    )
    assert authorize(older, policy()) == GrantedRequest(VAULT, Identity("client_id", "abc"))


@pytest.mark.parametrize(
    ("parameter", "selector"),
    [
        ("client_id", "client_id"),
        ("clientid", "client_id"),
        ("object_id", "object_id"),
        ("principal_id", "object_id"),
        ("mi_res_id", "resource_id"),
        ("msi_res_id", "resource_id"),
    ],
)
def test_every_name_of_a_selector_is_supported(parameter: str, selector: str) -> None:
    granted = authorize(request(f"{QUERY}&{parameter}=A-b"), policy())
    assert granted.identity == Identity(selector, "A-b")


def test_identity_defaults_to_that_of_the_endpoint() -> None:
    mine = Identity("client_id", "mine")
    assert authorize(request(), policy(identity=mine)).identity == mine
    assert authorize(request(f"{QUERY}&client_id=MINE"), policy(identity=mine)).identity == mine
    assert authorize(request(f"{QUERY}&client_id="), policy(identity=mine)).identity == mine


@pytest.mark.parametrize("query", ["client_id=other", "object_id=mine", "mi_res_id=mine"])
def test_another_identity_is_refused(query: str) -> None:
    response = refusal(request(f"{QUERY}&{query}"), identity=Identity("client_id", "mine"))
    assert response.status == 403


def test_resources_can_be_limited() -> None:
    limited = {"resources": ["https://vault.azure.net/.default"]}
    assert authorize(request(), policy(**limited)).resource == VAULT
    with_slash = f"api-version=2019-08-01&resource={VAULT}/"
    assert authorize(request(with_slash), policy(**limited)).resource == f"{VAULT}/"
    other = request("api-version=2019-08-01&resource=https://management.azure.com")
    assert refusal(other, **limited).status == 403


def test_empty_list_of_resources_allows_none() -> None:
    assert refusal(request(), resources=[]).status == 403


@pytest.mark.parametrize(
    ("status", "attack"),
    [
        (401, request(x_identity_header=None)),
        (401, request(x_identity_header="")),
        (401, request(x_identity_header=SECRET[:-1])),
        (401, request(x_identity_header=SECRET + "0")),
        (401, request(x_identity_header=f"{SECRET}, {SECRET}")),
        (401, request(x_identity_header="\xe9" * 64)),
        (401, request(secret=SECRET)),  # twice
        (401, request(x_identity_header=None, authorization=f"Bearer {SECRET}")),
        (401, request(f"{QUERY}&x-identity-header={SECRET}", x_identity_header=None)),
        (403, request(host="evil.example")),
        (403, request(host="evil.example:4711")),
        (403, request(host="127.0.0.1")),
        (403, request(host="127.0.0.1:4712")),
        (403, request(host="169.254.169.254")),
        (403, request(host="127.0.0.1.evil.example:4711")),
        (403, request(host=None)),
        (403, request(x_forwarded_for="127.0.0.1")),
        (403, request(x_forwarded_for="")),
        (403, request(x_forwarded_host="localhost")),
        (403, request(forwarded="for=127.0.0.1")),
        (403, request(via="1.1 proxy")),
        (403, request(origin="https://evil.example")),
        (403, request(origin="null")),
        (405, request(method="POST")),
        (405, request(method="HEAD")),
        (405, request(method="OPTIONS")),
        (405, request(method="get")),
        (404, request(path="/")),
        (404, request(path="/msi/token/")),
        (404, request(path="//msi/token")),
        (404, request(path="/msi/../msi/token")),
        (404, request(path="/msi/%74oken")),
        (404, request(path="/MSI/TOKEN")),
        (404, request(path="http://127.0.0.1:4711/msi/token")),
        (404, request(path=f"/{SECRET}/metadata/identity/oauth2/token", metadata="true")),
        (400, request("resource=https://vault.azure.net")),
        (400, request("api-version=2018-02-01&resource=https://vault.azure.net")),
        (400, request("api-version=2019-08-01")),
        (400, request("api-version=2019-08-01&resource=")),
        (400, request("api-version=2019-08-01&resource=a%0d%0ab")),
        (400, request("api-version=2019-08-01&resource=%ff")),
        (400, request(f"{QUERY}&resource=https://other")),
        (400, request(f"{QUERY}&client_id=a&Client_Id=b")),
        (400, request(f"{QUERY}&client_id=a&clientid=b")),
        (400, request(f"{QUERY}&client_id=a&object_id=b")),
        (400, request(f"{QUERY}&client_id=a%00b")),
        (400, request("&".join(f"p{n}=1" for n in range(100)))),
    ],
)
def test_attack_is_refused(status: int, attack: HttpRequest) -> None:
    response = refusal(attack)
    assert response.status == status
    assert SECRET.encode() not in response.body
    body = json.loads(response.body)
    assert body["statusCode"] == status
    assert body["message"] == body["error_description"]


def test_wrong_method_is_answered_with_the_allowed_one() -> None:
    assert refusal(request(method="POST")).headers == (("Allow", "GET"),)


def test_repr_hides_the_secret() -> None:
    assert SECRET not in repr(request()) + repr(policy()) + repr(policy()._asdict())


IMDS = f"/{SECRET}/metadata/identity/oauth2/token"


@pytest.mark.parametrize("path", [IMDS, f"{IMDS}/", f"/{SECRET}//metadata/identity/oauth2/token"])
def test_imds_protocol_is_available_under_a_secret_path(path: str) -> None:
    probe = request(path=path, x_identity_header=None, metadata="True")
    assert authorize(probe, policy(imds=True)) == GrantedRequest(VAULT, SYSTEM_ASSIGNED, imds=True)


@pytest.mark.parametrize(
    ("status", "path", "metadata"),
    [
        (404, "/metadata/identity/oauth2/token", "true"),
        (404, f"/{SECRET[:-1]}/metadata/identity/oauth2/token", "true"),
        (404, f"/{SECRET}/metadata/identity/oauth2/token/x", "true"),
        (404, f"/{SECRET}/metadata/instance", "true"),
        (404, "/msi/token", "true"),
        (400, IMDS, None),
        (400, IMDS, "false"),
    ],
)
def test_imds_protocol_is_not_available_elsewhere(
    status: int, path: str, metadata: str | None
) -> None:
    probe = request(path=path, metadata=metadata)
    assert refusal(probe, imds=True, app_service=False).status == status


def test_unix_socket_authenticates_by_user() -> None:
    mine = request(uid=1000, x_identity_header=None)
    assert authorize(mine, policy(uids=[1000])).resource == VAULT
    assert refusal(request(uid=1001), uids=[1000]).status == 403


def jwt(claims: object) -> str:
    return f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.x"


def test_token_response_has_the_format_of_app_service(clock: FakeClock) -> None:
    token = new_token(clock, jwt({"appid": "an-app"}), life=3600)
    granted = GrantedRequest(VAULT, Identity("resource_id", "/x"))
    response = token_response(granted, token, clock.now() + 0.5)
    assert response.status == 200
    assert json.loads(response.body) == {
        "access_token": token.value,
        "expires_on": str(token.expires_on),
        "expires_in": "3599",
        "resource": VAULT,
        "token_type": "Bearer",
        "client_id": "an-app",
        "msi_res_id": "/x",
    }
    assert token.value not in repr(response)


def test_imds_response_has_the_start_of_validity(clock: FakeClock) -> None:
    token = new_token(clock, "opaque", life=3600)
    granted = GrantedRequest(VAULT, SYSTEM_ASSIGNED, imds=True)
    body = json.loads(token_response(granted, token, clock.now()).body)
    assert int(body["not_before"]) == token.expires_on - 3600
    assert body["ext_expires_in"] == body["expires_in"] == "3600"
    assert body["client_id"] == ""


@pytest.mark.parametrize(
    ("failure", "status", "retry_after"),
    [
        (Refused("no such identity", status=400), 400, None),
        (Refused("forbidden", status=403), 400, None),
        (Refused("slower", status=429), 503, "5"),
        (Refused("slower", status=429, retry_after=16.2), 503, "17"),
        (Refused("broken", status=500), 503, "5"),
        (Unavailable("nobody there"), 503, "5"),
    ],
)
def test_failure_is_passed_on(failure: Any, status: int, retry_after: str | None) -> None:
    response = failure_response(failure)
    assert response.status == status
    assert dict(response.headers).get("Retry-After") == retry_after
    assert failure.problem in json.loads(response.body)["message"]


@given(
    target=st.text(max_size=200),
    method=st.sampled_from(["GET", "PUT", ""]),
    headers=st.lists(
        st.tuples(st.sampled_from(["host", "x-identity-header", "metadata", "secret"]), st.text())
    ),
)
def test_random_requests_are_refused(
    target: str, method: str, headers: list[tuple[str, str]]
) -> None:
    with pytest.raises(Refusal):
        authorize(HttpRequest(method, target, headers, frozenset((HOST,))), policy(imds=True))


@pytest.mark.parametrize("sent", [SECRET[:-1], "", "é"])
def test_secret_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch, sent: str) -> None:
    compared: list[tuple[bytes, ...]] = []

    def compare(*pair: bytes) -> bool:
        compared.append(pair)
        return False

    monkeypatch.setattr(hmac, "compare_digest", compare)
    for target, headers in (
        (f"{APP_SERVICE_PATH}?resource=x", [("x-identity-header", sent)]),
        (f"/{sent}{IMDS_PATH}", [("metadata", "true")]),
    ):
        request = HttpRequest("GET", target, [("host", HOST), *headers], frozenset((HOST,)))
        with pytest.raises(Refusal):
            authorize(request, policy(imds=True))
    assert compared == [(sent.encode(), SECRET.encode())] * 2


@pytest.mark.parametrize("platform", ["linux", "win32"])
def test_announced_endpoint_is_detected_as_app_service(
    monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    variables = app_service_variables("http://127.0.0.1:9", Secret(SECRET))
    assert detect(environment=Environment(variables)).name == "app-service"
    assert variables["IDENTITY_HEADER"] == SECRET
