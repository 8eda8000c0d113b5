from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import requests
from azure.core.credentials import AccessToken
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.identity import ManagedIdentityCredential
from azure.identity.aio import ManagedIdentityCredential as AsyncManagedIdentityCredential
from azure.keyvault.secrets import SecretClient
from azure.keyvault.secrets.aio import SecretClient as AsyncSecretClient
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.support import VAULT
from imds_identity.emulator import Emulator
from imds_identity.emulator._messages import Request
from imds_identity.emulator._services.key_vault import KeyVaultEndpoint

if TYPE_CHECKING:
    from emulator.support import Send, Start
    from imds_identity.emulator import ManualClock


@pytest.fixture
def emulator(start_emulator: Start, clock: ManualClock) -> Any:
    return start_emulator(key_vault=True, clock=clock, secrets={"greeting": "hello"})


@pytest.fixture
def read(emulator: Emulator, http: requests.Session) -> Any:
    def send(token: Any = None, path: Any = "/secrets/greeting", **query: Any) -> Any:
        query = query or {"api-version": "7.5"}
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        url = emulator.key_vault.url + path
        return http.get(url, params=query, headers=headers, verify=emulator.key_vault.ca_file)

    return send


def test_request_without_a_token_gets_key_vault_s_challenge(read: Send, emulator: Emulator) -> None:
    response = read()
    assert response.status_code == 401
    tenant = emulator.machine.tenant_id
    assert response.headers["WWW-Authenticate"] == (
        f'Bearer authorization="https://login.windows.net/{tenant}", resource="{VAULT}"'
    )


@pytest.mark.parametrize("resource", [VAULT, VAULT + "/"])
def test_valid_token_reads_a_secret(
    read: Send, emulator: Emulator, request_token: Send, resource: Any
) -> None:
    token = request_token(emulator, resource=resource).json()["access_token"]
    response = read(token).json()
    assert response["value"] == "hello"
    version = response["id"].rpartition("/")[2]
    assert response["id"].startswith(emulator.key_vault.url + "/secrets/greeting/")
    assert read(token, f"/secrets/greeting/{version}").json() == response


def test_secrets_api_lists_secrets_and_reports_errors(
    read: Send, emulator: Emulator, request_token: Send
) -> None:
    token = request_token(emulator).json()["access_token"]
    assert read(token, "/secrets/absent").status_code == 404
    assert read(token, "/secrets/greeting/0").status_code == 404
    assert read(token, unrelated="x").status_code == 400
    emulator.key_vault.secrets["later"] = "added"
    ids = [item["id"] for item in read(token, "/secrets").json()["value"]]
    assert [one.rpartition("/")[2] for one in ids] == ["greeting", "later"]


def test_token_for_another_audience_is_rejected(
    read: Send, emulator: Emulator, request_token: Send
) -> None:
    token = request_token(emulator, resource="https://management.azure.com/").json()["access_token"]
    response = read(token)
    assert response.status_code == 401
    assert "Invalid audience" in response.text


def test_expired_token_is_rejected(
    read: Send, emulator: Emulator, request_token: Send, clock: ManualClock
) -> None:
    token = request_token(emulator).json()["access_token"]
    clock.advance(86400)
    assert "expired" in read(token).text


def test_token_from_the_future_is_rejected(
    read: Send, emulator: Emulator, request_token: Send, clock: ManualClock
) -> None:
    token = request_token(emulator).json()["access_token"]
    clock.advance(-302)
    assert "not valid yet" in read(token).text


def test_token_of_another_tenant_is_rejected(
    read: Send, start_emulator: Start, request_token: Send, clock: ManualClock
) -> None:
    from imds_identity.emulator import Machine

    other = start_emulator(machine=Machine(tenant_id="another"), clock=clock)
    assert "another tenant" in read(request_token(other).json()["access_token"]).text


def forged(token: Any, key: Any, algorithm: Any, **changes: Any) -> Any:
    claims = jwt.decode(token, options={"verify_signature": False})
    return jwt.encode({**claims, **changes}, key, algorithm=algorithm)


def test_token_signed_with_another_key_is_rejected(
    read: Send, emulator: Emulator, request_token: Send
) -> None:
    token = request_token(emulator).json()["access_token"]
    other_key = rsa.generate_private_key(65537, 2048)
    for bad in (
        forged(token, other_key, "RS256"),
        forged(token, "", "none"),
        token[:-20],
        "not.a.token",
        "x",
    ):
        response = read(bad)
        assert response.status_code == 401
        assert bad not in response.text


def test_revoked_token_gets_a_claims_challenge_until_the_cache_is_bypassed(
    read: Send, emulator: Emulator, request_token: Send
) -> None:
    old = request_token(emulator).json()["access_token"]
    emulator.revoke_tokens()
    challenge = read(old).headers["WWW-Authenticate"]
    assert 'error="insufficient_claims"' in challenge
    claims = json.loads(base64.b64decode(challenge.partition('claims="')[2].rstrip('"')))
    assert claims["access_token"]["nbf"]["value"] == "1800000000"
    assert request_token(emulator).json()["access_token"] == old
    new = request_token(emulator, bypass_cache="true").json()["access_token"]
    assert read(new).status_code == 200
    assert read(old).status_code == 401


def test_certificate_is_valid_for_loopback_names_and_trusted_with_its_root_only(
    emulator: Emulator, http: requests.Session
) -> None:
    port = emulator.key_vault.url.rpartition(":")[2]
    url = f"https://localhost:{port}/secrets"
    assert http.get(url, verify=emulator.key_vault.ca_file).status_code == 401
    with pytest.raises(requests.exceptions.SSLError):
        http.get(url)


def test_microsoft_s_clients_read_a_secret(imds_emulator: Emulator) -> None:
    vault = imds_emulator.key_vault
    with (
        ManagedIdentityCredential() as credential,
        SecretClient(
            vault.url,
            credential,
            verify_challenge_resource=False,
            connection_verify=vault.ca_file,
        ) as client,
    ):
        assert client.get_secret("greeting").value == vault.secrets["greeting"]
        assert [secret.name for secret in client.list_properties_of_secrets()] == ["greeting"]
        (version,) = client.list_properties_of_secret_versions("greeting")
        assert client.get_secret("greeting", version.version).value
        with pytest.raises(ResourceNotFoundError):
            client.get_secret("absent")
        imds_emulator.revoke_tokens()
        with pytest.raises(ClientAuthenticationError):
            client.get_secret("greeting")


def test_microsoft_s_asynchronous_clients_read_a_secret(imds_emulator: Emulator) -> None:
    vault = imds_emulator.key_vault

    async def read() -> str | None:
        async with (
            AsyncManagedIdentityCredential() as credential,
            AsyncSecretClient(
                vault.url,
                credential,
                verify_challenge_resource=False,
                connection_verify=vault.ca_file,
            ) as client,
        ):
            return (await client.get_secret("greeting")).value

    assert asyncio.run(read()) == vault.secrets["greeting"]


def test_names_of_secrets_are_case_insensitive(
    read: Send, emulator: Emulator, request_token: Send
) -> None:
    token = request_token(emulator, resource=VAULT).json()["access_token"]
    assert read(token, "/secrets/Greeting").json() == read(token).json()
    assert read(token, "/secrets/GREETING/versions").json()["value"]


@pytest.mark.parametrize(
    ("status", "code"), [(403, "Forbidden"), (429, "Throttled"), (503, "Error")]
)
def test_fault_has_the_error_format_of_the_vault(
    read: Send, emulator: Emulator, status: int, code: str
) -> None:
    emulator.fault(category="key-vault", status=status)
    response = read("any")
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert response.json()["error"]["message"]


@pytest.fixture
def client(emulator: Emulator, request_token: Send) -> Any:
    class Credential:
        def get_token(self, *_: str, **__: Any) -> AccessToken:
            token = request_token(emulator).json()["access_token"]
            return AccessToken(token, 1_900_000_000)

    vault = emulator.key_vault
    # The interval applies to the polling of deletions.
    options = {**vault.client_options, "polling_interval": 0}
    return SecretClient(vault.url, Credential(), **options)


def test_each_change_creates_a_version_with_its_time(
    client: SecretClient, emulator: Emulator, clock: ManualClock
) -> None:
    first = client.get_secret("greeting")
    clock.advance(60)
    tags = {"a": "b"}
    expiry = dt.datetime(2040, 1, 1, tzinfo=dt.timezone.utc)
    second = client.set_secret(
        "Greeting", "changed", content_type="text/plain", tags=tags, expires_on=expiry
    )
    clock.advance(60)
    emulator.key_vault.secrets["GREETING"] = "changed in the test"
    third = client.get_secret("greeting")
    listed = list(client.list_properties_of_secret_versions("greeting"))
    assert [each.version for each in listed] == [
        each.properties.version for each in (first, second, third)
    ]
    times = [each.created_on.timestamp() for each in listed if each.created_on]
    assert times == [1_800_000_000, 1_800_000_060, 1_800_000_120]
    assert listed[1].tags == tags
    assert listed[1].content_type == "text/plain"
    assert listed[1].expires_on == expiry
    assert {each.name for each in listed} == {"greeting"}
    assert client.get_secret("greeting", first.properties.version).value == "hello"
    assert emulator.key_vault.secrets == {"greeting": "changed in the test"}
    assert "changed" not in repr(emulator.key_vault.secrets)


def test_deleted_secret_can_be_recovered_or_purged(
    client: SecretClient, emulator: Emulator
) -> None:
    client.set_secret("greeting", "second")
    deleted = client.begin_delete_secret("Greeting").result()
    assert deleted.recovery_id == f"{emulator.key_vault.url}/deletedsecrets/greeting"
    assert deleted.scheduled_purge_date is not None
    assert emulator.key_vault.secrets == {}
    with pytest.raises(ResourceNotFoundError, match="SecretNotFound"):
        client.get_secret("greeting")
    with pytest.raises(ResourceExistsError, match="deleted but recoverable"):
        client.set_secret("greeting", "third")
    assert [each.name for each in client.list_deleted_secrets()] == ["greeting"]
    client.begin_recover_deleted_secret("greeting").result()
    assert client.get_secret("greeting").value == "second"
    assert len(list(client.list_properties_of_secret_versions("greeting"))) == 2
    client.begin_delete_secret("greeting").result()
    client.purge_deleted_secret("greeting")
    with pytest.raises(ResourceNotFoundError):
        client.get_deleted_secret("greeting")
    client.set_secret("greeting", "third")
    assert len(list(client.list_properties_of_secret_versions("greeting"))) == 1


def test_disabled_secret_is_listed_but_not_returned(client: SecretClient) -> None:
    client.set_secret("greeting", "hidden", enabled=False)
    with pytest.raises(HttpResponseError, match="disabled") as caught:
        client.get_secret("greeting")
    assert caught.value.status_code == 403
    [properties] = client.list_properties_of_secrets()
    assert properties.enabled is False


def test_lists_have_pages_of_25_items(client: SecretClient, emulator: Emulator) -> None:
    emulator.key_vault.secrets.update({f"name-{number:02}": "x" for number in range(60)})
    pages = [list(page) for page in client.list_properties_of_secrets().by_page()]
    assert [len(page) for page in pages] == [25, 25, 11]
    pages = [list(page) for page in client.list_properties_of_secrets(max_page_size=40).by_page()]
    assert len({each.name for page in pages for each in page}) == 61


@pytest.mark.parametrize("body", ["", "{", "[]", "{}", '{"value": 7}', '{"value": null}', "7"])
def test_invalid_secret_is_a_bad_parameter(
    emulator: Emulator, http: requests.Session, request_token: Send, body: str
) -> None:
    token = request_token(emulator).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{emulator.key_vault.url}/secrets/greeting?api-version=7.5"
    verify = emulator.key_vault.ca_file
    response = http.put(url, data=body, headers=headers, verify=verify)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "BadParameter")
    assert emulator.key_vault.secrets == {"greeting": "hello"}
    bad_name = url.replace("greeting", "a_b")
    response = http.put(bad_name, data='{"value": "x"}', headers=headers, verify=verify)
    assert response.status_code == 400
    assert http.patch(url, data="{}", headers=headers, verify=verify).status_code == 405


@pytest.fixture(scope="module")
def endpoint() -> Any:
    """A function that sends a request to a vault without a socket."""
    state = Emulator()._state
    vault = KeyVaultEndpoint(state, "https://vault")
    principal = state.principal(state.identities[0])
    token = state.tokens.token(principal, VAULT).value

    def send(method: str, path: str, query: dict[str, str], body: bytes) -> Any:
        headers = (("authorization", f"Bearer {token}"),)
        parameters = (("api-version", "7.5"), *query.items())
        response = vault(Request(method, path, path, parameters, headers, body), None)
        return response.status, json.loads(response.body or b"{}")

    return send


WORDS = st.sampled_from(["value", "attributes", "tags", "contentType", "enabled", "nbf", "exp"])
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=9,
)
BODIES = st.binary(max_size=20) | JSON.map(lambda document: json.dumps(document).encode())
PATHS = st.lists(
    st.sampled_from(["secrets", "deletedsecrets", "one", "greeting", "versions", "recover", ""]),
    min_size=1,
    max_size=4,
).map(lambda parts: "/" + "/".join(parts))
QUERIES = st.dictionaries(st.sampled_from(["maxresults", "$skiptoken"]), st.text(max_size=9))
METHODS = st.sampled_from(["GET", "PUT", "DELETE", "POST", "PATCH"])


@settings(deadline=None)
@given(METHODS, PATHS, QUERIES, BODIES)
def test_no_request_causes_an_internal_error(
    endpoint: Any, method: str, path: str, query: dict[str, str], body: bytes
) -> None:
    status, document = endpoint(method, path, query, body)
    assert status in {200, 204, 400, 403, 404, 405, 409}
    assert ("error" in document) == (status >= 400)


@settings(deadline=None)
@given(BODIES)
def test_secret_that_is_set_is_returned(endpoint: Any, body: bytes) -> None:
    status, document = endpoint("PUT", "/secrets/new", {}, body)
    if status == 200 and document["attributes"]["enabled"]:
        version = document["id"].removeprefix("https://vault")
        assert endpoint("GET", version, {}, b"") == (200, document)
