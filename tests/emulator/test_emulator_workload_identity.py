"""Workload identity: the exchange of a Kubernetes token at Entra's token endpoint."""

from __future__ import annotations

import asyncio
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import azure.identity
import azure.identity._constants
import jwt
import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import imds_identity.aio
from emulator.support import VAULT, claims_of
from imds_identity import ManagedIdentityCredential
from imds_identity._platform.environment import Environment
from imds_identity._sources.registry import detect
from imds_identity.emulator import DEFAULT_SYSTEM_ASSIGNED, DEFAULT_USER_ASSIGNED, Emulator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.support import Start
    from imds_identity.emulator import ManualClock

SCOPE = VAULT + "/.default"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@pytest.fixture
def emulator(start_emulator: Start, clock: ManualClock) -> Emulator:
    return start_emulator("workload-identity", clock=clock)


@pytest.fixture(scope="module")
def shared() -> Iterator[Emulator]:
    with Emulator("workload-identity", key_vault=False, log_size=50) as emulator:
        yield emulator


def assertion_of(emulator: Emulator) -> str:
    return Path(emulator.environment()["AZURE_FEDERATED_TOKEN_FILE"]).read_text()


def post(emulator: Emulator, tenant: str = "", **fields: str) -> requests.Response:
    variables = emulator.environment()
    form = {
        "client_assertion": assertion_of(emulator),
        "client_assertion_type": ASSERTION_TYPE,
        "client_id": DEFAULT_USER_ASSIGNED.client_id,
        "grant_type": "client_credentials",
        "scope": SCOPE,
        **fields,
    }
    url = f"{emulator.endpoint}/{tenant or variables['AZURE_TENANT_ID']}/oauth2/v2.0/token"
    return requests.post(url, data=form, verify=variables["SSL_CERT_FILE"], timeout=10)


def signed(emulator: Emulator, **changes: Any) -> str:
    """Return the workload's token with other claims, signed by the cluster."""
    claims = jwt.decode(assertion_of(emulator), options={"verify_signature": False})
    key = emulator._state.tokens.key().private
    return jwt.PyJWS().encode(json.dumps({**claims, **changes}).encode(), key, algorithm="RS256")


def claims_of_token(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def test_workload_s_token_is_exchanged(emulator: Emulator) -> None:
    response = post(emulator)
    assert response.status_code == 200
    assert claims_of(response)["appid"] == DEFAULT_USER_ASSIGNED.client_id
    body = response.json()
    assert body.pop("access_token") == emulator.issued_tokens[0].value
    assert body == {"expires_in": 86400, "ext_expires_in": 86400, "token_type": "Bearer"}
    other = post(emulator, client_id=DEFAULT_SYSTEM_ASSIGNED.client_id)
    assert claims_of(other)["appid"] == DEFAULT_SYSTEM_ASSIGNED.client_id


def test_clients_get_a_token_with_the_variables(
    start_emulator: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = start_emulator("workload-identity")
    environment = emulator.environment()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert detect(environment=Environment(environment)).name == "workload-identity"
    with ManagedIdentityCredential() as own:
        first = own.get_token(SCOPE).token
    with azure.identity.WorkloadIdentityCredential() as other:
        second = other.get_token(SCOPE).token

    async def get_async_token() -> str:
        async with imds_identity.aio.ManagedIdentityCredential() as credential:
            return (await credential.get_token(SCOPE)).token

    third = asyncio.run(get_async_token())
    assert {first, second, third} <= {token.value for token in emulator.issued_tokens}
    assert {record.category for record in emulator.token_requests} == {"identity"}


@pytest.mark.parametrize(
    ("fields", "error", "number"),
    [
        ({"tenant": "other"}, "invalid_request", 90002),
        ({"client_id": "other"}, "unauthorized_client", 700016),
        ({"grant_type": "password"}, "unsupported_grant_type", 70003),
        ({"scope": ""}, "invalid_request", 900144),
        ({"scope": VAULT}, "invalid_scope", 1002012),
        ({"scope": "https://unknown.example/.default"}, "invalid_resource", 500011),
        ({"client_assertion": "not.a.token"}, "invalid_request", 50027),
    ],
)
def test_request_that_is_not_valid_gets_the_error_of_entra(
    emulator: Emulator, fields: dict[str, str], error: str, number: int
) -> None:
    response = post(emulator, **fields)
    body = response.json()
    assert (response.status_code, body["error"], body["error_codes"]) == (400, error, [number])
    assert body["error_description"].startswith(f"AADSTS{number}: ")
    assert emulator.issued_tokens == []


@pytest.mark.parametrize(
    ("claims", "number"),
    [
        ({"iss": "https://other.example"}, 700211),
        ({"aud": "api://other"}, 700212),
        ({"sub": "system:serviceaccount:default:other"}, 700213),
        ({"exp": 1_000_000_000}, 700024),
        ({"nbf": 1_900_000_000}, 700024),
    ],
)
def test_assertion_of_another_workload_or_time_is_refused(
    emulator: Emulator, claims: dict[str, Any], number: int
) -> None:
    response = post(emulator, client_assertion=signed(emulator, **claims))
    assert (response.status_code, response.json()["error_codes"]) == (401, [number])


def test_faults_and_published_keys_apply_to_workloads(emulator: Emulator, http: Any) -> None:
    emulator.fault(status=429, times=1)
    assert post(emulator).status_code == 429
    emulator.fault(token_lifetime=60, times=1)
    assert post(emulator).json()["expires_in"] == 60
    response = http.get(emulator.jwks_url, verify=emulator.environment()["SSL_CERT_FILE"])
    keys = jwt.PyJWKSet.from_dict(response.json())
    token = post(emulator).json()["access_token"]
    key = keys[jwt.get_unverified_header(token)["kid"]]
    options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
    assert jwt.decode(token, key, ["RS256"], audience=VAULT, options=options)


@pytest.fixture
def binding(start_emulator: Start, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    emulator = start_emulator("identity-binding")
    for name, value in emulator.environment().items():
        monkeypatch.setenv(name, value)
    return emulator


def test_workload_with_an_identity_binding_uses_the_token_proxy(binding: Emulator) -> None:
    environment = binding.environment()
    assert environment["AZURE_KUBERNETES_TOKEN_PROXY"] == binding.endpoint
    with ManagedIdentityCredential() as credential:
        token = credential.get_token(SCOPE).token

    async def get_async_token() -> str:
        async with imds_identity.aio.ManagedIdentityCredential() as credential:
            return (await credential.get_token(SCOPE)).token

    issued = {each.value for each in binding.issued_tokens}
    assert {token, asyncio.run(get_async_token())} <= issued
    assert claims_of_token(token)["appid"] == DEFAULT_USER_ASSIGNED.client_id


@pytest.mark.skipif(
    not hasattr(azure.identity._constants.EnvironmentVariables, "AZURE_KUBERNETES_TOKEN_PROXY"),
    reason="this version of azure-identity does not support identity bindings",
)
def test_azure_identity_uses_the_token_proxy(binding: Emulator) -> None:
    theirs: Any = azure.identity.WorkloadIdentityCredential(enable_azure_proxy=True)
    token = theirs.get_token(SCOPE).token
    assert token in {each.value for each in binding.issued_tokens}


@pytest.mark.parametrize("name", ["", "another.ests.aks"])
def test_token_proxy_needs_the_server_name(
    binding: Emulator, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("AZURE_KUBERNETES_SNI_NAME", name)
    with pytest.raises(ClientAuthenticationError):
        ManagedIdentityCredential(retry_total=0).get_token(SCOPE)
    assert binding.requests == []


def test_health_of_the_token_proxy_needs_no_server_name(binding: Emulator) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        response = requests.get(binding.endpoint + "/health", verify=False, timeout=10)
    assert response.status_code == 200


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=3,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(st.sampled_from(["iss", "aud", "sub", "exp", "nbf"]), VALUES))
def test_no_claims_cause_an_internal_error(shared: Emulator, claims: dict[str, Any]) -> None:
    response = post(shared, client_assertion=signed(shared, **claims))
    assert response.status_code in {200, 400, 401}


def test_client_id_is_empty_without_an_identity(start_emulator: Start) -> None:
    emulator = start_emulator("workload-identity", identities=[])
    assert emulator.environment()["AZURE_CLIENT_ID"] == ""
