"""Applications that trust a managed identity: the exchange at Entra's token endpoint."""

from __future__ import annotations

import asyncio
import shlex
from typing import TYPE_CHECKING, Any

import azure.identity
import jwt
import pytest
import requests

import imds_identity.aio
from emulator.support import VAULT, claims_of, run_command
from imds_identity import FederatedApplicationCredential, TokenRefusedError
from imds_identity.cli import main
from imds_identity.doctor._facts.gather import collect_facts
from imds_identity.doctor._facts.saved import load_facts, save_facts
from imds_identity.doctor.diagnosis import run_checks
from imds_identity.emulator import (
    DEFAULT_SYSTEM_ASSIGNED,
    DEFAULT_USER_ASSIGNED,
    Emulator,
    load_config,
)

if TYPE_CHECKING:
    from pathlib import Path

    from emulator.support import Send, Start

APPLICATION = "22222222-2222-2222-2222-222222222222"
SCOPE = VAULT + "/.default"
EXCHANGE = "api://AzureADTokenExchange"
IDENTITY = DEFAULT_USER_ASSIGNED.client_id


@pytest.fixture
def emulator(start_emulator: Start, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    emulator = start_emulator(key_vault=True, applications=[APPLICATION])
    for name, value in emulator.environment().items():
        monkeypatch.setenv(name, value)
    return emulator


def credential(emulator: Emulator, **changes: Any) -> FederatedApplicationCredential:
    settings = {"identity": IDENTITY, "tenant_id": emulator.machine.tenant_id, **changes}
    return FederatedApplicationCredential(**{"client_id": APPLICATION, **settings})


def exchange(emulator: Emulator, assertion: str, **changes: str) -> requests.Response:
    tenant = changes.pop("tenant", emulator.machine.tenant_id)
    form = {
        "client_assertion": assertion,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_id": APPLICATION,
        "grant_type": "client_credentials",
        "scope": SCOPE,
        **changes,
    }
    url = f"{emulator.key_vault.url}/{tenant}/oauth2/v2.0/token"
    return requests.post(url, data=form, verify=emulator.key_vault.ca_file, timeout=10)


@pytest.fixture
def assertion(emulator: Emulator, request_token: Send) -> str:
    response = request_token(emulator, resource=EXCHANGE, client_id=IDENTITY)
    return str(response.json()["access_token"])


def test_credentials_get_the_token_of_the_application(emulator: Emulator) -> None:
    with credential(emulator) as sync:
        token = sync.get_token(SCOPE).token

    async def get_async_token() -> str:
        tenant = emulator.machine.tenant_id
        async with imds_identity.aio.FederatedApplicationCredential(
            tenant, APPLICATION, identity=IDENTITY
        ) as credential:
            return (await credential.get_token(SCOPE)).token

    issued = emulator.issued_tokens
    assert {token, asyncio.run(get_async_token())} <= {
        each.value for each in emulator.issued_tokens
    }
    assert [each.client_id for each in issued] == [IDENTITY, APPLICATION]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["appid"], claims["aud"]) == (APPLICATION, VAULT)
    assert "xms_mirid" not in claims
    url = emulator.key_vault.url + "/secrets/greeting?api-version=7.5"
    headers = {"Authorization": f"Bearer {token}"}
    ca_file = emulator.key_vault.ca_file
    assert requests.get(url, headers=headers, verify=ca_file, timeout=10).status_code == 200
    assert emulator.requests[1].category == "entra"


def test_command_line_gets_it(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--client-id", IDENTITY, "--as-application", APPLICATION)
    assert main(["token", VAULT, *flags, "--tenant", emulator.machine.tenant_id]) == 0
    claims = jwt.decode(capsys.readouterr().out.strip(), options={"verify_signature": False})
    assert claims["appid"] == APPLICATION


@pytest.mark.parametrize(
    ("changes", "cause", "expected"),
    [
        ({}, None, "no fault was found"),
        ({"client_id": None}, "II012", "matches the subject of the identity's token"),
        ({"tenant": "other.example"}, "II012", "the tenant other.example does not exist"),
        ({"as_application": IDENTITY}, "II012", f"no application with client ID {IDENTITY}"),
        ({"client_id": APPLICATION}, "II050", "the machine has no identity"),
    ],
)
def test_doctor_explains_why_an_application_has_no_token(
    emulator: Emulator, tmp_path: Path, changes: dict[str, Any], cause: str | None, expected: str
) -> None:
    tenant = emulator.machine.tenant_id
    options = {"client_id": IDENTITY, "as_application": APPLICATION, "tenant": tenant, **changes}
    facts = collect_facts(VAULT, **options)
    diagnosis = run_checks(facts)
    assert expected in diagnosis.headline
    assert (diagnosis.cause and diagnosis.cause.id) == cause
    assert diagnosis.requests == len(emulator.requests) <= 8
    save_facts(facts, tmp_path / "facts")
    assert run_checks(load_facts(tmp_path / "facts")).document() == diagnosis.document()


@pytest.mark.parametrize("name", ["tenant", "as_application"])
def test_doctor_requires_an_application_and_its_tenant(
    emulator: Emulator, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    options: Any = {name: APPLICATION}
    with pytest.raises(ValueError, match="must be"):
        collect_facts(VAULT, **options)
    assert main(["doctor", f"--{name.replace('_', '-')}", APPLICATION]) == 2
    assert "--as-application and --tenant require each other" in capsys.readouterr().err


def test_failed_command_suggests_the_doctor_for_the_application(
    emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--as-application", APPLICATION, "--tenant", emulator.machine.tenant_id]
    assert main(["token", VAULT, *flags]) == 4  # Entra refused it
    _, _, command = capsys.readouterr().err.partition("run: imds-identity ")
    assert main([*shlex.split(command), "--check", "II012"]) == 1
    assert "az ad app federated-credential create" in capsys.readouterr().out


def test_azure_identity_gets_it_with_discovery(emulator: Emulator, assertion: str) -> None:
    other = azure.identity.ClientAssertionCredential(
        emulator.machine.tenant_id, APPLICATION, lambda: assertion, disable_instance_discovery=True
    )
    claims = jwt.decode(other.get_token(SCOPE).token, options={"verify_signature": False})
    assert claims["appid"] == APPLICATION


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"identity": None}, "AADSTS700213"),
        ({"tenant_id": "other.example"}, "AADSTS90002"),
        ({"client_id": "33333333-3333-3333-3333-333333333333"}, "AADSTS700016"),
    ],
)
def test_wrong_subject_tenant_or_application_is_refused(
    emulator: Emulator, changes: dict[str, Any], code: str
) -> None:
    with pytest.raises(TokenRefusedError, match=code) as caught:
        credential(emulator, **changes).get_token(SCOPE)
    if code == "AADSTS700213":
        assert DEFAULT_SYSTEM_ASSIGNED.object_id in str(caught.value)


def test_application_gets_tokens_in_another_tenant(
    start_emulator: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = "99999999-9999-9999-9999-999999999999"
    named = [APPLICATION, f"{APPLICATION}@{other}=emulated-identity"]
    emulator = start_emulator(key_vault=True, applications=named)
    for name, value in emulator.environment().items():
        monkeypatch.setenv(name, value)
    tokens = [
        credential(emulator, tenant_id=tenant).get_token(SCOPE).token
        for tenant in (emulator.machine.tenant_id, other)
    ]
    own, foreign = (jwt.decode(each, options={"verify_signature": False}) for each in tokens)
    assert (foreign["tid"], foreign["iss"]) == (other, f"https://sts.windows.net/{other}/")
    assert foreign["appid"] == own["appid"]
    assert foreign["oid"] != own["oid"]
    response = requests.get(
        f"{emulator.key_vault.url}/secrets?api-version=7.5",
        headers={"Authorization": f"Bearer {tokens[1]}"},
        verify=emulator.key_vault.ca_file,
        timeout=10,
    )
    assert "another tenant" in response.json()["error"]["message"]


def test_application_trusts_the_identity_of_an_arc_server(
    start_emulator: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = f"{APPLICATION}={DEFAULT_SYSTEM_ASSIGNED.client_id}"
    emulator = start_emulator("arc", key_vault=True, applications=[named])
    for name, value in emulator.environment().items():
        monkeypatch.setenv(name, value)
    directory = emulator.tokens_directory
    arc = credential(emulator, identity=None, arc_tokens_directory=directory)
    claims = jwt.decode(arc.get_token(SCOPE).token, options={"verify_signature": False})
    assert claims["appid"] == APPLICATION


def test_assertion_has_the_claims_of_version_2(emulator: Emulator, assertion: str) -> None:
    tenant = emulator.machine.tenant_id
    claims = jwt.decode(assertion, options={"verify_signature": False})
    assert claims["iss"] == f"https://login.microsoftonline.com/{tenant}/v2.0"
    assert (claims["aud"], claims["azp"], claims["ver"]) == (
        "fb60f99c-7a34-4190-8149-302f77469936",
        IDENTITY,
        "2.0",
    )
    assert claims["sub"] == DEFAULT_USER_ASSIGNED.object_id


@pytest.mark.parametrize(
    ("claims", "status", "number"),
    [
        ({"iss": "https://sts.windows.net/{tenant}/", "aud": EXCHANGE}, 200, 0),
        ({"iss": "https://sts.windows.net/another/"}, 401, 700211),
        ({"aud": VAULT}, 401, 700212),
        ({"sub": IDENTITY}, 401, 700213),
        ({"exp": 1_000_000_000}, 401, 700024),
    ],
)
def test_claims_of_the_assertion_are_checked(
    emulator: Emulator, assertion: str, claims: dict[str, Any], status: int, number: int
) -> None:
    own = jwt.decode(assertion, options={"verify_signature": False})
    tenant = emulator.machine.tenant_id
    if "iss" in claims:
        claims = {**claims, "iss": claims["iss"].format(tenant=tenant)}
    key = emulator._state.tokens.key().private
    response = exchange(emulator, jwt.encode({**own, **claims}, key, algorithm="RS256"))
    assert response.status_code == status
    assert response.json().get("error_codes", [0]) == [number]


def test_token_for_another_resource_is_no_assertion(
    emulator: Emulator, request_token: Send
) -> None:
    token = request_token(emulator, client_id=IDENTITY).json()["access_token"]
    assert exchange(emulator, token).json()["error_codes"] == [700212]


def test_faults_apply_to_entra_alone(emulator: Emulator, assertion: str) -> None:
    emulator.fault(category="entra", status=503, times=1)
    assert exchange(emulator, assertion).status_code == 503
    assert claims_of(exchange(emulator, assertion))["appid"] == APPLICATION


def test_configuration_of_version_2_has_the_keys(emulator: Emulator, assertion: str) -> None:
    tenant, ca_file = emulator.machine.tenant_id, emulator.key_vault.ca_file
    base = f"{emulator.key_vault.url}/{tenant}"
    path = "/v2.0/.well-known/openid-configuration"
    # The endpoint of the machine has it, too, with the URLs of that endpoint.
    for start in (base, f"{emulator.endpoint}/{tenant}"):
        document = requests.get(start + path, verify=ca_file, timeout=10).json()
        claims = jwt.decode(assertion, options={"verify_signature": False})
        assert document["issuer"] == claims["iss"]
    assert document["token_endpoint"].endswith("/oauth2/v2.0/token")
    keys = jwt.PyJWKSet.from_dict(requests.get(document["jwks_uri"], timeout=10).json())
    key = keys[jwt.get_unverified_header(assertion)["kid"]]
    options: Any = {"verify_aud": False}
    assert jwt.decode(assertion, key, ["RS256"], options=options)


def test_application_trusts_the_identity_that_it_names(start_emulator: Start) -> None:
    system = DEFAULT_SYSTEM_ASSIGNED
    for name in (system.client_id, system.object_id.upper()):
        emulator = start_emulator(key_vault=True, applications=[f"{APPLICATION}={name}"])
        [application] = emulator._settings.trusting_applications()
        assert application.identity == system
    named = Emulator(applications=[f"{APPLICATION}=emulated-identity"])
    [application] = named._settings.trusting_applications()
    assert application.identity == DEFAULT_USER_ASSIGNED


@pytest.mark.parametrize(
    "options",
    [
        {"applications": ["=emulated-identity"]},
        {"applications": [f"{APPLICATION}=another"]},
        {"applications": [APPLICATION, APPLICATION]},
        {"applications": [APPLICATION], "identities": []},
        {"applications": [APPLICATION], "key_vault": False},
        {"applications": [APPLICATION], "profile": "workload-identity"},
    ],
)
def test_invalid_application_is_rejected(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^applications: "):
        Emulator(**options)


@pytest.mark.usefixtures("no_default_state")
def test_command_and_file_have_applications(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    flags = ("--application", APPLICATION, "--print-env")
    assert run_command(*flags) == 2
    assert "--state" in capsys.readouterr().err
    assert run_command(*flags, "--state", str(tmp_path)) == 0
    lines = capsys.readouterr().out
    assert "export AZURE_AUTHORITY_HOST=https://127.0.0.1:16926/\n" in lines
    assert "export SSL_CERT_FILE=" in lines
    file = tmp_path / "emulator.toml"
    file.write_text(f'applications = ["{APPLICATION}"]\n')
    assert load_config(file) == {"applications": [APPLICATION]}
