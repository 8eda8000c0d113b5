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

    from emulator.support import Ask, Start

ONE, TWO = UserAssigned.named("one"), UserAssigned.named("two")


def test_a_token_answer_has_the_documented_fields_with_numbers_as_strings(
    started: Start, ask: Ask, clock: ManualClock
) -> None:
    answer = ask(started(clock=clock, token_lifetime=3600))
    assert answer.status_code == 200
    body = answer.json()
    assert body.pop("access_token")
    assert body == {
        "expires_in": "3600",
        "expires_on": "1800003600",
        "ext_expires_in": "3600",
        "not_before": "1800000000",
        "resource": VAULT,
        "token_type": "Bearer",
    }


def test_a_token_has_the_claims_of_a_v1_token(started: Start, ask: Ask, clock: ManualClock) -> None:
    emulator = started(clock=clock)
    claims = claims_of(ask(emulator))
    assert claims.pop("uti")
    assert claims == {
        "aud": VAULT,
        "iss": emulator.issuer,
        "iat": 1_800_000_000,
        "nbf": 1_800_000_000,
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


def test_a_token_verifies_with_the_published_key(
    started: Start, ask: Ask, http: requests.Session
) -> None:
    emulator = started()
    configuration = http.get(emulator.openid_configuration_url).json()
    assert configuration["issuer"] == emulator.issuer
    assert configuration["jwks_uri"] == emulator.jwks_url
    keys = jwt.PyJWKSet.from_dict(http.get(emulator.jwks_url).json())
    token = ask(emulator).json()["access_token"]
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, ["RS256"], audience=VAULT, issuer=emulator.issuer)
    assert claims["aud"] == VAULT


def test_only_the_public_half_of_the_key_is_published(
    started: Start, http: requests.Session
) -> None:
    (key,) = http.get(started().jwks_url).json()["keys"]
    assert set(key) == {"kty", "use", "alg", "kid", "x5t", "n", "e"}


@pytest.mark.parametrize(
    ("selector", "attribute"),
    [("client_id", "client_id"), ("object_id", "object_id"), ("msi_res_id", "resource_id")],
)
def test_an_identity_is_found_and_echoed_by_each_selector(
    started: Start, ask: Ask, selector: Any, attribute: Any
) -> None:
    value = getattr(DEFAULT_USER_ASSIGNED, attribute)
    answer = ask(started(), **{selector: value.upper()})
    assert answer.json()[selector] == value
    claims = claims_of(answer)
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
def test_which_identity_answers_when_none_is_named(
    started: Start, ask: Ask, identities: Any, expected: Any
) -> None:
    answer = ask(started(identities=identities))
    if expected is None:
        assert answer.status_code == 400
        assert answer.json()["error"] == "invalid_request"
    else:
        assert claims_of(answer)["appid"] == expected


@pytest.mark.parametrize(
    "query",
    [
        {"client_id": "nobody"},
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
def test_a_bad_parameter_gets_400_in_the_identity_category_s_words(
    started: Start, ask: Ask, query: Any
) -> None:
    answer = ask(started(identities=[ONE]), **query)
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"
    assert answer.json()["error_description"]


def test_an_unknown_api_version_lists_the_newest_ones(started: Start, ask: Ask) -> None:
    body = ask(started(), api_version="2099-01-01").json()
    assert body["newest-versions"] == ["2025-04-07", "2024-07-17", "2024-03-15"]


def test_a_region_may_lag_behind(started: Start, ask: Ask) -> None:
    emulator = started(newest_version="2021-12-13")
    assert ask(emulator, api_version="2023-07-01").status_code == 400
    assert ask(emulator, api_version="2021-12-13").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Metadata": None},
        {"Metadata": "false"},
        {"X-Forwarded-For": "10.0.0.1"},
    ],
)
def test_a_request_that_may_have_been_forged_or_forwarded_is_refused(
    started: Start, ask: Ask, headers: Any
) -> None:
    assert ask(started(), headers=headers).status_code == 400


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_only_get_is_allowed(started: Start, http: requests.Session, method: Any) -> None:
    answer = http.request(method, started().endpoint + TOKEN_PATH)
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET"


def test_the_service_answers_from_its_cache_and_counts_expires_in_from_issuance(
    started: Start, ask: Ask, clock: ManualClock
) -> None:
    emulator = started(clock=clock, token_lifetime=7200)
    first = ask(emulator).json()
    clock.advance(7000)
    assert ask(emulator).json() == first
    clock.advance(200)
    later = ask(emulator).json()
    assert later["access_token"] != first["access_token"]
    assert later["expires_on"] == "1800014400"


def test_bypass_cache_gets_a_new_token_and_caches_it(started: Start, ask: Ask) -> None:
    emulator = started()
    old = ask(emulator).json()["access_token"]
    new = ask(emulator, bypass_cache="true").json()["access_token"]
    assert new != old
    assert ask(emulator).json()["access_token"] == new


def test_identity_info_gives_the_tenant(started: Start, get: Ask) -> None:
    emulator = started()
    answer = get(emulator, "/metadata/identity/info", api_version="2018-02-01")
    assert answer.json() == {"tenantId": emulator.machine.tenant_id}
    assert get(emulator, "/metadata/identity/info").status_code == 400


def test_an_unknown_path_gets_404(started: Start, get: Ask) -> None:
    assert get(started(), "/metadata/nothing", api_version="2018-02-01").status_code == 404
