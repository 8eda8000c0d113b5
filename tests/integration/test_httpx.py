"""`ManagedIdentityAuth` for httpx: the tests of `test_auth`, with sync and async clients."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from support import CHALLENGE, CLAIMS, FakeCredential, ScriptedServer

httpx = pytest.importorskip("httpx")

from imds_identity.httpx import ManagedIdentityAuth  # noqa: E402 - needs httpx

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken

    from imds_identity.emulator import Emulator

SCOPE = "https://vault.azure.net/.default"


class AsyncCredential(FakeCredential):
    async def get_token(  # type: ignore[override]
        self, *scopes: str, claims: str | None = None, **kwargs: Any
    ) -> AccessToken:
        return super().get_token(*scopes, claims=claims, **kwargs)


def sync_request(method: str, url: str, verify: Any = True, **options: Any) -> Any:
    with httpx.Client(trust_env=False, verify=verify) as client:
        return client.request(method, url, **options)


def async_request(method: str, url: str, verify: Any = True, **options: Any) -> Any:
    async def main() -> Any:
        async with httpx.AsyncClient(trust_env=False, verify=verify) as client:
            return await client.request(method, url, **options)

    return asyncio.run(main())


CLIENTS = pytest.mark.parametrize(
    ("send", "credential_type"), [(sync_request, FakeCredential), (async_request, AsyncCredential)],
    ids=["sync", "async"],
)  # fmt: skip


@CLIENTS
def test_client_reads_a_secret(imds_emulator: Emulator, send: Any, credential_type: Any) -> None:
    import ssl

    url = f"{imds_emulator.key_vault.url}/secrets/greeting?api-version=7.4"
    context = ssl.create_default_context(cafile=str(imds_emulator.key_vault.ca_file))
    auth = ManagedIdentityAuth(SCOPE)
    for _ in range(3):
        response = send("GET", url, verify=context, auth=auth)
        assert response.json()["value"] == imds_emulator.key_vault.secrets["greeting"]
    assert len(imds_emulator.token_requests) == 1


@CLIENTS
def test_claims_challenge_is_answered_once(
    scripted_server: ScriptedServer, send: Any, credential_type: Any
) -> None:
    scripted_server.script[:] = [(401, {"WWW-Authenticate": CHALLENGE})] * 2
    credential = credential_type()
    auth = ManagedIdentityAuth("s", credential=credential)
    response = send("POST", scripted_server.url, content=b"body", auth=auth)
    assert response.status_code == 401
    assert credential.claims == [None, CLAIMS]
    assert [request[1:] for request in scripted_server.requests] == [
        ("Bearer token-1", b"body"),
        ("Bearer token-2", b"body"),
    ]


@CLIENTS
def test_other_error_is_returned(
    scripted_server: ScriptedServer, send: Any, credential_type: Any
) -> None:
    scripted_server.script[:] = [(401, {"WWW-Authenticate": "Bearer"})]
    credential = credential_type()
    auth = ManagedIdentityAuth("s", credential=credential)
    assert send("GET", scripted_server.url, auth=auth).status_code == 401
    assert credential.claims == [None]


@CLIENTS
def test_redirect_to_another_host_gets_no_token(
    scripted_server: ScriptedServer, other_server: ScriptedServer, send: Any, credential_type: Any
) -> None:
    scripted_server.script[:] = [
        (307, {"Location": other_server.url.replace("127.0.0.1", "localhost")})
    ]
    other_server.script[:] = [(401, {"WWW-Authenticate": CHALLENGE})]
    credential = credential_type()
    auth = ManagedIdentityAuth("s", credential=credential)
    response = send("GET", scripted_server.url, auth=auth, follow_redirects=True)
    assert response.status_code == 401
    assert credential.claims == [None]
    assert [request[1] for request in other_server.requests] == [None]


def test_stream_is_sent_only_once(scripted_server: ScriptedServer) -> None:
    scripted_server.script[:] = [(401, {"WWW-Authenticate": CHALLENGE})]
    auth = ManagedIdentityAuth("s", credential=FakeCredential())
    with httpx.Client(trust_env=False) as client:
        stream = iter([b"bo", b"dy"])
        headers = {"Content-Length": "4"}
        response = client.post(scripted_server.url, content=stream, headers=headers, auth=auth)
    assert response.status_code == 401
    assert len(scripted_server.requests) == 1


@CLIENTS
def test_token_is_not_sent_without_tls(send: Any, credential_type: Any) -> None:
    auth = ManagedIdentityAuth("s", credential=credential_type())
    with pytest.raises(ValueError, match="use https"):
        send("GET", "http://management.azure.com/", auth=auth)


@CLIENTS
def test_credential_of_the_wrong_kind_is_rejected(send: Any, credential_type: Any) -> None:
    other = FakeCredential() if credential_type is AsyncCredential else AsyncCredential()
    auth = ManagedIdentityAuth("s", credential=other)
    with pytest.raises(TypeError, match=r"needs a?sync credentials"):
        send("GET", "https://127.0.0.1:1/", auth=auth)


def test_settings_are_passed_to_the_credential_and_conflict_with_an_explicit_one() -> None:
    assert "client_id='c'" in repr(ManagedIdentityAuth("s", client_id="c"))
    with pytest.raises(TypeError, match="not both"):
        ManagedIdentityAuth("s", credential=FakeCredential(), client_id="c")
