from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jwt
import pytest

from emulator.support import TOKEN_PATH, VAULT, claims_of
from imds_identity.emulator import (
    DEFAULT_SYSTEM_ASSIGNED,
    DEFAULT_USER_ASSIGNED,
    ManualClock,
    SystemAssigned,
    UserAssigned,
)

if TYPE_CHECKING:
    import requests

    from emulator.support import Send, Start

ONE, TWO = UserAssigned.named("one"), UserAssigned.named("two")


def test_token_response_has_the_documented_fields_with_numbers_as_strings(
    start_emulator: Start, request_token: Send, clock: ManualClock
) -> None:
    response = request_token(start_emulator(clock=clock, token_lifetime=3600))
    assert response.status_code == 200
    body = response.json()
    assert body.pop("access_token")
    assert body == {
        "client_id": DEFAULT_SYSTEM_ASSIGNED.client_id,
        "expires_in": "3600",
        "expires_on": "1800003600",
        "ext_expires_in": "3600",
        "not_before": "1799999700",
        "resource": VAULT,
        "token_type": "Bearer",
    }


def test_token_has_the_claims_of_a_v1_token(
    start_emulator: Start, request_token: Send, clock: ManualClock
) -> None:
    emulator = start_emulator(clock=clock)
    claims = claims_of(request_token(emulator))
    assert claims.pop("uti")
    assert claims == {
        "aud": VAULT,
        "iss": emulator.issuer,
        "iat": 1_799_999_700,
        "nbf": 1_799_999_700,
        "exp": 1_800_086_400,
        "appid": DEFAULT_SYSTEM_ASSIGNED.client_id,
        "appidacr": "2",
        "idp": emulator.issuer,
        "idtyp": "app",
        "oid": DEFAULT_SYSTEM_ASSIGNED.object_id,
        "sub": DEFAULT_SYSTEM_ASSIGNED.object_id,
        "tid": emulator.machine.tenant_id,
        "ver": "1.0",
        "xms_mirid": emulator.machine.resource_id("Microsoft.Compute/virtualMachines"),
    }


def test_published_key_verifies_a_token(
    start_emulator: Start, request_token: Send, http: requests.Session
) -> None:
    emulator = start_emulator()
    configuration = http.get(emulator.openid_configuration_url).json()
    assert configuration["issuer"] == emulator.issuer
    assert configuration["jwks_uri"] == emulator.jwks_url
    keys = jwt.PyJWKSet.from_dict(http.get(emulator.jwks_url).json())
    token = request_token(emulator).json()["access_token"]
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, ["RS256"], audience=VAULT, issuer=emulator.issuer)
    assert claims["aud"] == VAULT


def test_only_the_public_key_is_published(start_emulator: Start, http: requests.Session) -> None:
    (key,) = http.get(start_emulator().jwks_url).json()["keys"]
    assert set(key) == {"kty", "use", "alg", "kid", "x5t", "n", "e"}


@pytest.mark.parametrize(
    ("selector", "attribute"),
    [("client_id", "client_id"), ("object_id", "object_id"), ("msi_res_id", "resource_id")],
)
def test_identity_is_found_and_echoed_by_each_selector(
    start_emulator: Start, request_token: Send, selector: Any, attribute: Any
) -> None:
    value = getattr(DEFAULT_USER_ASSIGNED, attribute)
    response = request_token(start_emulator(), **{selector: value.upper()})
    assert response.json()[selector] == value
    claims = claims_of(response)
    assert claims["appid"] == DEFAULT_USER_ASSIGNED.client_id
    assert claims["xms_mirid"] == DEFAULT_USER_ASSIGNED.resource_id


@pytest.mark.parametrize(
    ("identities", "expected"),
    [
        ([SystemAssigned("c", "o"), ONE], "c"),
        ([ONE], ONE.client_id),
        ([ONE, TWO], None),
        ([], None),
    ],
)
def test_default_identity_without_a_selector(
    start_emulator: Start, request_token: Send, identities: Any, expected: Any
) -> None:
    response = request_token(start_emulator(identities=identities))
    if expected is None:
        assert response.status_code == 400
        assert response.json()["error"] == "invalid_request"
    else:
        assert claims_of(response)["appid"] == expected


@pytest.mark.parametrize(
    "query",
    [
        {"client_id": "unknown"},
        {"client_id": ""},
        {"client_id": ONE.client_id, "object_id": ONE.object_id},
        {"resource": ""},
        {"resource": "x" * 2000},
        {"resource": [VAULT, VAULT]},
        {"api_version": ""},
        {"api_version": "2017-12-01"},
        {"api_version": "2099-01-01"},
        {"bypass_cache": "yes"},
    ],
)
def test_invalid_parameter_gets_400_in_the_format_of_the_identity_category(
    start_emulator: Start, request_token: Send, query: Any
) -> None:
    response = request_token(start_emulator(identities=[ONE]), **query)
    assert response.status_code == 400
    assert response.json()["error"] == "invalid_request"
    assert response.json()["error_description"]


def test_unknown_api_version_lists_the_newest_ones(
    start_emulator: Start, request_token: Send
) -> None:
    body = request_token(start_emulator(), api_version="2099-01-01").json()
    assert body["newest-versions"] == ["2025-11-15", "2025-11-11", "2025-04-07"]


def test_newest_version_can_be_limited(start_emulator: Start, request_token: Send) -> None:
    emulator = start_emulator(newest_version="2021-12-13")
    assert request_token(emulator, api_version="2023-07-01").status_code == 400
    assert request_token(emulator, api_version="2021-12-13").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Metadata": None},
        {"Metadata": "false"},
        {"X-Forwarded-For": "10.0.0.1"},
    ],
)
def test_request_that_may_be_forged_or_forwarded_is_rejected(
    start_emulator: Start, request_token: Send, headers: Any
) -> None:
    assert request_token(start_emulator(), headers=headers).status_code == 400


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_only_get_is_allowed(start_emulator: Start, http: requests.Session, method: Any) -> None:
    response = http.request(method, start_emulator().endpoint + TOKEN_PATH)
    assert response.status_code == 405
    assert response.headers["Allow"] == "GET"


def test_cached_token_is_returned_and_expires_in_counts_down(
    start_emulator: Start, request_token: Send, clock: ManualClock
) -> None:
    emulator = start_emulator(clock=clock, token_lifetime=7200)
    first = request_token(emulator).json()
    clock.advance(7000)
    assert request_token(emulator).json() == {**first, "expires_in": "200"}
    clock.advance(200)
    later = request_token(emulator).json()
    assert later["access_token"] != first["access_token"]
    assert later["expires_on"] == "1800014400"


def test_default_token_has_the_times_of_captured_responses(
    start_emulator: Start, request_token: Send, clock: ManualClock
) -> None:
    emulator = start_emulator(clock=clock)
    request_token(emulator)
    clock.advance(82)  # the age of the token in a capture that has a Date header
    body = request_token(emulator).json()
    assert int(body["expires_on"]) - int(body["not_before"]) == 86_700
    assert (body["expires_in"], body["ext_expires_in"]) == ("86318", "86400")


def test_every_response_of_a_vm_names_the_client_id(
    start_emulator: Start, request_token: Send
) -> None:
    emulator = start_emulator()
    assert request_token(emulator).json()["client_id"] == DEFAULT_SYSTEM_ASSIGNED.client_id
    for selector, attribute in (("object_id", "object_id"), ("msi_res_id", "resource_id")):
        value = getattr(DEFAULT_USER_ASSIGNED, attribute)
        body = request_token(emulator, **{selector: value}).json()
        assert body["client_id"] == DEFAULT_USER_ASSIGNED.client_id
        assert body[selector] == value


def test_fault_with_a_lifetime_lets_expires_in_count_down_too(
    start_emulator: Start, request_token: Send, clock: ManualClock
) -> None:
    emulator = start_emulator(clock=clock)
    emulator.fault(token_lifetime=90)
    body = request_token(emulator).json()
    assert (body["expires_in"], body["expires_on"]) == ("90", "1800000090")
    assert (body["ext_expires_in"], body["not_before"]) == ("86400", "1799913390")


def test_bypass_cache_gets_a_new_token_and_caches_it(
    start_emulator: Start, request_token: Send
) -> None:
    emulator = start_emulator()
    old = request_token(emulator).json()["access_token"]
    new = request_token(emulator, bypass_cache="true").json()["access_token"]
    assert new != old
    assert request_token(emulator).json()["access_token"] == new


def test_identity_info_returns_the_tenant(start_emulator: Start, get: Send) -> None:
    emulator = start_emulator()
    response = get(emulator, "/metadata/identity/info", api_version="2018-02-01")
    assert response.json() == {"tenantId": emulator.machine.tenant_id}
    assert get(emulator, "/metadata/identity/info").status_code == 400


def test_unknown_path_gets_404(start_emulator: Start, get: Send) -> None:
    assert get(start_emulator(), "/metadata/nothing", api_version="2018-02-01").status_code == 404
