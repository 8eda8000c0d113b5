"""`ManagedIdentityAuth` for httpx: the tests of `test_auth`, with sync and async clients."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from support import CHALLENGE, CLAIMS, Credential, ScriptedServer

httpx = pytest.importorskip("httpx")

from imds_identity.httpx import ManagedIdentityAuth  # noqa: E402 - needs httpx

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken

    from imds_identity.emulator import Emulator

SCOPE = "https://vault.azure.net/.default"


class AsyncCredential(Credential):
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
    ("send", "credential_type"), [(sync_request, Credential), (async_request, AsyncCredential)],
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
    service: ScriptedServer, send: Any, credential_type: Any
) -> None:
    service.script[:] = [(401, {"WWW-Authenticate": CHALLENGE})] * 2
    credential = credential_type()
    auth = ManagedIdentityAuth("s", credential=credential)
    response = send("POST", service.url, content=b"body", auth=auth)
    assert response.status_code == 401
    assert credential.asked == [None, CLAIMS]
    assert [request[1:] for request in service.seen] == [
        ("Bearer token-1", b"body"),
        ("Bearer token-2", b"body"),
    ]


@CLIENTS
def test_other_error_is_returned(service: ScriptedServer, send: Any, credential_type: Any) -> None:
    service.script[:] = [(401, {"WWW-Authenticate": "Bearer"})]
    credential = credential_type()
    auth = ManagedIdentityAuth("s", credential=credential)
    assert send("GET", service.url, auth=auth).status_code == 401
    assert credential.asked == [None]


@CLIENTS
def test_redirect_to_another_host_gets_no_token(
    service: ScriptedServer, other_service: ScriptedServer, send: Any, credential_type: Any
) -> None:
    service.script[:] = [(307, {"Location": other_service.url.replace("127.0.0.1", "localhost")})]
    other_service.script[:] = [(401, {"WWW-Authenticate": CHALLENGE})]
    credential = credential_type()
    auth = ManagedIdentityAuth("s", credential=credential)
    response = send("GET", service.url, auth=auth, follow_redirects=True)
    assert response.status_code == 401
    assert credential.asked == [None]
    assert [request[1] for request in other_service.seen] == [None]


def test_stream_is_sent_only_once(service: ScriptedServer) -> None:
    service.script[:] = [(401, {"WWW-Authenticate": CHALLENGE})]
    auth = ManagedIdentityAuth("s", credential=Credential())
    with httpx.Client(trust_env=False) as client:
        stream = iter([b"bo", b"dy"])
        headers = {"Content-Length": "4"}
        response = client.post(service.url, content=stream, headers=headers, auth=auth)
    assert response.status_code == 401
    assert len(service.seen) == 1


@CLIENTS
def test_token_is_not_sent_without_tls(send: Any, credential_type: Any) -> None:
    auth = ManagedIdentityAuth("s", credential=credential_type())
    with pytest.raises(ValueError, match="use https"):
        send("GET", "http://management.azure.com/", auth=auth)


@CLIENTS
def test_credential_of_the_wrong_kind_is_rejected(send: Any, credential_type: Any) -> None:
    other = Credential() if credential_type is AsyncCredential else AsyncCredential()
    auth = ManagedIdentityAuth("s", credential=other)
    with pytest.raises(TypeError, match=r"needs a?sync credentials"):
        send("GET", "https://127.0.0.1:1/", auth=auth)


def test_settings_are_passed_to_the_credential_and_conflict_with_an_explicit_one() -> None:
    assert "client_id='c'" in repr(ManagedIdentityAuth("s", client_id="c"))
    with pytest.raises(TypeError, match="not both"):
        ManagedIdentityAuth("s", credential=Credential(), client_id="c")
