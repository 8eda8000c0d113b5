"""`ManagedIdentityAuth` for requests, against an emulated Key Vault and a scripted server."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
import requests

from imds_identity import ManagedIdentityAuth, ManagedIdentityCredential
from imds_identity._azure_core.bearer import claims_of
from support import CHALLENGE, CLAIMS, FakeCredential, ScriptedServer

if TYPE_CHECKING:
    from imds_identity.emulator import Emulator

SCOPE = "https://vault.azure.net/.default"


def test_session_reads_a_secret(imds_emulator: Emulator) -> None:
    url = f"{imds_emulator.key_vault.url}/secrets/greeting?api-version=7.4"
    with requests.Session() as session:
        session.trust_env = False  # environment variables with a CA bundle would override verify
        session.verify = imds_emulator.key_vault.ca_file
        for _ in range(3):
            response = session.get(url, auth=ManagedIdentityAuth(SCOPE))
            assert response.json()["value"] == imds_emulator.key_vault.secrets["greeting"]
    assert len(imds_emulator.token_requests) == 1


def test_revoked_token_is_replaced(imds_emulator: Emulator) -> None:
    url = f"{imds_emulator.key_vault.url}/secrets/greeting?api-version=7.4"
    auth = ManagedIdentityAuth(SCOPE, credential=ManagedIdentityCredential())
    with requests.Session() as session:
        session.trust_env = False
        session.verify, session.auth = imds_emulator.key_vault.ca_file, auth
        assert session.get(url).status_code == 200
        imds_emulator.revoke_tokens()
        response = session.get(url)
        assert response.status_code == 200
        assert [earlier.status_code for earlier in response.history] == [401]
        assert session.get(url).history == []


def test_claims_challenge_is_answered_once_with_the_same_body(
    scripted_server: ScriptedServer,
) -> None:
    credential = FakeCredential()
    scripted_server.script = [(401, {"WWW-Authenticate": CHALLENGE}), (200, {})]
    body = io.BytesIO(b"skipped, the body")
    body.seek(9)
    response = requests.post(
        f"{scripted_server.url}/x",
        data=body,
        auth=ManagedIdentityAuth("s", credential=credential),
        timeout=5,
    )
    assert response.status_code == 200
    assert scripted_server.requests == [
        ("/x", "Bearer token-1", b"the body"),
        ("/x", "Bearer token-2", b"the body"),
    ]
    assert credential.claims == [None, CLAIMS]


def test_second_challenge_is_returned(scripted_server: ScriptedServer) -> None:
    credential = FakeCredential()
    scripted_server.script = [(401, {"WWW-Authenticate": CHALLENGE})] * 2
    response = requests.get(
        scripted_server.url, auth=ManagedIdentityAuth("s", credential=credential), timeout=5
    )
    assert response.status_code == 401
    assert len(scripted_server.requests) == 2


def test_redirect_to_another_host_gets_no_token(
    scripted_server: ScriptedServer, other_server: ScriptedServer
) -> None:
    credential = FakeCredential()
    scripted_server.script = [
        (302, {"Location": f"http://localhost:{other_server.server_address[1]}/y"})
    ]
    other_server.script = [(401, {"WWW-Authenticate": CHALLENGE})]
    response = requests.get(
        scripted_server.url, auth=ManagedIdentityAuth("s", credential=credential), timeout=5
    )
    assert response.status_code == 401
    assert other_server.requests == [("/y", None, b"")]
    assert credential.claims == [None]


@pytest.mark.parametrize(
    ("status", "header"),
    [
        (401, "Bearer"),
        (401, 'Bearer error="invalid_token"'),
        (401, CHALLENGE.replace("insufficient_claims", "invalid_token")),
        (401, 'Bearer error="insufficient_claims", claims="%%%"'),
        (401, 'Bearer error="insufficient_claims", claims="gICA"'),
        (403, CHALLENGE),
    ],
)
def test_other_errors_are_returned(status: int, header: str) -> None:
    assert claims_of(status, {"WWW-Authenticate": header}) is None


def test_token_is_not_sent_without_tls() -> None:
    auth = ManagedIdentityAuth("s", credential=FakeCredential())
    with pytest.raises(ValueError, match="use https"):
        requests.get("http://management.azure.com/", auth=auth, timeout=5)


def test_settings_are_passed_to_the_credential_and_conflict_with_an_explicit_one() -> None:
    assert "client_id='c'" in repr(ManagedIdentityAuth("s", client_id="c"))
    with pytest.raises(TypeError, match="not both"):
        ManagedIdentityAuth("s", credential=FakeCredential(), client_id="c")
