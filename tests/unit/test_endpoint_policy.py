"""What the endpoint says to a request."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._core.failure import Refused, Unavailable
from imds_identity._core.identity import SYSTEM_ASSIGNED, Identity
from imds_identity._core.secret import Secret
from imds_identity._endpoint.policy import Asked, Rules, wanted_of
from imds_identity._endpoint.responses import (
    Answer,
    Refusal,
    Wanted,
    failed,
    granted,
)
from support import FakeClock, token_now

SECRET = "5ec12e7" * 9
HOST = "127.0.0.1:4711"
VAULT = "https://vault.azure.net"
QUERY = f"api-version=2019-08-01&resource={VAULT}"
GOOD = {"host": HOST, "x-identity-header": SECRET}


def asked(
    query: str = QUERY,
    *,
    method: str = "GET",
    path: str = "/msi/token",
    uid: int | None = None,
    **headers: str | None,
) -> Asked:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    fields = [(name, value) for name, value in {**GOOD, **named}.items() if value is not None]
    return Asked(method, f"{path}?{query}", fields, frozenset((HOST, "localhost:4711")), uid)


def rules(**changes: Any) -> Rules:
    return Rules(Secret(SECRET), **changes)


def refusal(request: Asked, **changes: Any) -> Answer:
    with pytest.raises(Refusal) as raised:
        wanted_of(request, rules(**changes))
    return raised.value.answer


def test_a_good_request_is_understood() -> None:
    assert wanted_of(asked(), rules()) == Wanted(VAULT, SYSTEM_ASSIGNED)


def test_the_older_protocol_is_understood() -> None:
    older = asked(
        f"api-version=2017-09-01&resource={VAULT}&clientid=abc",
        secret=SECRET,
        x_identity_header=None,
    )
    assert wanted_of(older, rules()) == Wanted(VAULT, Identity("client_id", "abc"))


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
def test_every_name_of_a_selector_is_understood(parameter: str, selector: str) -> None:
    wanted = wanted_of(asked(f"{QUERY}&{parameter}=A-b"), rules())
    assert wanted.identity == Identity(selector, "A-b")


def test_who_names_no_identity_gets_the_endpoint_s() -> None:
    mine = Identity("client_id", "mine")
    assert wanted_of(asked(), rules(identity=mine)).identity == mine
    assert wanted_of(asked(f"{QUERY}&client_id=MINE"), rules(identity=mine)).identity == mine
    assert wanted_of(asked(f"{QUERY}&client_id="), rules(identity=mine)).identity == mine


@pytest.mark.parametrize("query", ["client_id=other", "object_id=mine", "mi_res_id=mine"])
def test_another_identity_is_refused(query: str) -> None:
    answer = refusal(asked(f"{QUERY}&{query}"), identity=Identity("client_id", "mine"))
    assert answer.status == 403


def test_resources_may_be_few() -> None:
    few = {"resources": ["https://vault.azure.net/.default"]}
    assert wanted_of(asked(), rules(**few)).resource == VAULT
    with_slash = f"api-version=2019-08-01&resource={VAULT}/"
    assert wanted_of(asked(with_slash), rules(**few)).resource == f"{VAULT}/"
    other = asked("api-version=2019-08-01&resource=https://management.azure.com")
    assert refusal(other, **few).status == 403


def test_nothing_at_all_may_be_allowed() -> None:
    assert refusal(asked(), resources=[]).status == 403


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (401, asked(x_identity_header=None)),
        (401, asked(x_identity_header="")),
        (401, asked(x_identity_header=SECRET[:-1])),
        (401, asked(x_identity_header=SECRET + "0")),
        (401, asked(x_identity_header=f"{SECRET}, {SECRET}")),
        (401, asked(x_identity_header="\xe9" * 64)),
        (401, asked(secret=SECRET)),  # twice
        (401, asked(x_identity_header=None, authorization=f"Bearer {SECRET}")),
        (401, asked(f"{QUERY}&x-identity-header={SECRET}", x_identity_header=None)),
        (403, asked(host="evil.example")),
        (403, asked(host="evil.example:4711")),
        (403, asked(host="127.0.0.1")),
        (403, asked(host="127.0.0.1:4712")),
        (403, asked(host="169.254.169.254")),
        (403, asked(host="127.0.0.1.evil.example:4711")),
        (403, asked(host=None)),
        (403, asked(x_forwarded_for="127.0.0.1")),
        (403, asked(x_forwarded_for="")),
        (403, asked(x_forwarded_host="localhost")),
        (403, asked(forwarded="for=127.0.0.1")),
        (403, asked(via="1.1 proxy")),
        (403, asked(origin="https://evil.example")),
        (403, asked(origin="null")),
        (405, asked(method="POST")),
        (405, asked(method="HEAD")),
        (405, asked(method="OPTIONS")),
        (405, asked(method="get")),
        (404, asked(path="/")),
        (404, asked(path="/msi/token/")),
        (404, asked(path="//msi/token")),
        (404, asked(path="/msi/../msi/token")),
        (404, asked(path="/msi/%74oken")),
        (404, asked(path="/MSI/TOKEN")),
        (404, asked(path="http://127.0.0.1:4711/msi/token")),
        (404, asked(path=f"/{SECRET}/metadata/identity/oauth2/token", metadata="true")),
        (400, asked("resource=https://vault.azure.net")),
        (400, asked("api-version=2018-02-01&resource=https://vault.azure.net")),
        (400, asked("api-version=2019-08-01")),
        (400, asked("api-version=2019-08-01&resource=")),
        (400, asked("api-version=2019-08-01&resource=a%0d%0ab")),
        (400, asked("api-version=2019-08-01&resource=%ff")),
        (400, asked(f"{QUERY}&resource=https://other")),
        (400, asked(f"{QUERY}&client_id=a&Client_Id=b")),
        (400, asked(f"{QUERY}&client_id=a&clientid=b")),
        (400, asked(f"{QUERY}&client_id=a&object_id=b")),
        (400, asked(f"{QUERY}&client_id=a%00b")),
        (400, asked("&".join(f"p{n}=1" for n in range(100)))),
    ],
)
def test_attacks_are_refused(status: int, request_: Asked) -> None:
    answer = refusal(request_)
    assert answer.status == status
    assert SECRET.encode() not in answer.body
    said = json.loads(answer.body)
    assert said["statusCode"] == status
    assert said["message"] == said["error_description"]


def test_a_wrong_method_is_told_the_right_one() -> None:
    assert refusal(asked(method="POST")).headers == (("Allow", "GET"),)


def test_the_secret_is_in_no_repr() -> None:
    assert SECRET not in repr(asked()) + repr(rules()) + repr(vars(rules()))


IMDS = f"/{SECRET}/metadata/identity/oauth2/token"


@pytest.mark.parametrize("path", [IMDS, f"{IMDS}/"])
def test_imds_is_spoken_under_a_secret_path(path: str) -> None:
    request = asked(path=path, x_identity_header=None, metadata="True")
    assert wanted_of(request, rules(imds=True)) == Wanted(VAULT, SYSTEM_ASSIGNED, imds=True)


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
def test_imds_is_not_spoken_elsewhere(status: int, path: str, metadata: str | None) -> None:
    request = asked(path=path, metadata=metadata)
    assert refusal(request, imds=True, app_service=False).status == status


def test_over_a_unix_socket_the_user_is_what_counts() -> None:
    mine = asked(uid=1000, x_identity_header=None)
    assert wanted_of(mine, rules(uids=[1000])).resource == VAULT
    assert refusal(asked(uid=1001), uids=[1000]).status == 403


def jwt(claims: object) -> str:
    return f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.x"


def test_a_token_is_given_as_app_service_gives_it(clock: FakeClock) -> None:
    token = token_now(clock, jwt({"appid": "an-app"}), life=3600)
    answer = granted(Wanted(VAULT, Identity("resource_id", "/x")), token, clock.now() + 0.5)
    assert answer.status == 200
    assert json.loads(answer.body) == {
        "access_token": token.value,
        "expires_on": str(token.expires_on),
        "expires_in": "3599",
        "resource": VAULT,
        "token_type": "Bearer",
        "client_id": "an-app",
        "msi_res_id": "/x",
    }
    assert token.value not in repr(answer)


def test_imds_tells_from_when_it_is_good(clock: FakeClock) -> None:
    token = token_now(clock, "opaque", life=3600)
    said = json.loads(granted(Wanted(VAULT, SYSTEM_ASSIGNED, imds=True), token, clock.now()).body)
    assert int(said["not_before"]) == token.expires_on - 3600
    assert said["ext_expires_in"] == said["expires_in"] == "3600"
    assert said["client_id"] == ""


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
def test_a_failure_is_passed_on(failure: Any, status: int, retry_after: str | None) -> None:
    answer = failed(failure)
    assert answer.status == status
    assert dict(answer.headers).get("Retry-After") == retry_after
    assert failure.problem in json.loads(answer.body)["message"]


@given(
    target=st.text(max_size=200),
    method=st.sampled_from(["GET", "PUT", ""]),
    headers=st.lists(
        st.tuples(st.sampled_from(["host", "x-identity-header", "metadata", "secret"]), st.text())
    ),
)
def test_nobody_guesses_it(target: str, method: str, headers: list[tuple[str, str]]) -> None:
    with pytest.raises(Refusal):
        wanted_of(Asked(method, target, headers, frozenset((HOST,))), rules(imds=True))
