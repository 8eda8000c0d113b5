"""httpx's face: what `test_auth` asks of requests' one, for both kinds of client."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from support import CHALLENGE, CLAIMS, Credential, ScriptedServer

httpx = pytest.importorskip("httpx")

import imds_identity.httpx as face  # noqa: E402 - only where httpx is

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken

    from imds_identity.emulator import Emulator

SCOPE = "https://vault.azure.net/.default"


class AsyncCredential(Credential):
    async def get_token(  # type: ignore[override]
        self, *scopes: str, claims: str | None = None, **kwargs: Any
    ) -> AccessToken:
        return super().get_token(*scopes, claims=claims, **kwargs)


def sync_request(method: str, url: str, verify: Any = True, **how: Any) -> Any:
    with httpx.Client(trust_env=False, verify=verify) as client:
        return client.request(method, url, **how)


def async_request(method: str, url: str, verify: Any = True, **how: Any) -> Any:
    async def main() -> Any:
        async with httpx.AsyncClient(trust_env=False, verify=verify) as client:
            return await client.request(method, url, **how)

    return asyncio.run(main())


KINDS = pytest.mark.parametrize(
    ("request_by", "kind"), [(sync_request, Credential), (async_request, AsyncCredential)],
    ids=["sync", "async"],
)  # fmt: skip


@KINDS
def test_a_secret_is_read(imds_emulator: Emulator, request_by: Any, kind: Any) -> None:
    import ssl

    url = f"{imds_emulator.key_vault.url}/secrets/greeting?api-version=7.4"
    trusted = ssl.create_default_context(cafile=str(imds_emulator.key_vault.ca_file))
    auth = face.ManagedIdentityAuth(SCOPE)
    for _ in range(3):
        answer = request_by("GET", url, verify=trusted, auth=auth)
        assert answer.json()["value"] == imds_emulator.key_vault.secrets["greeting"]
    assert len(imds_emulator.token_requests) == 1


@KINDS
def test_a_challenge_is_met_once(service: ScriptedServer, request_by: Any, kind: Any) -> None:
    service.script[:] = [(401, {"WWW-Authenticate": CHALLENGE})] * 2
    credential = kind()
    auth = face.ManagedIdentityAuth("s", credential=credential)
    answer = request_by("POST", service.url, content=b"body", auth=auth)
    assert answer.status_code == 401
    assert credential.asked == [None, CLAIMS]
    assert [seen[1:] for seen in service.seen] == [
        ("Bearer token-1", b"body"),
        ("Bearer token-2", b"body"),
    ]


@KINDS
def test_another_kind_of_refusal_is_the_answer(
    service: ScriptedServer, request_by: Any, kind: Any
) -> None:
    service.script[:] = [(401, {"WWW-Authenticate": "Bearer"})]
    credential = kind()
    auth = face.ManagedIdentityAuth("s", credential=credential)
    assert request_by("GET", service.url, auth=auth).status_code == 401
    assert credential.asked == [None]


@KINDS
def test_another_server_gets_no_token(
    service: ScriptedServer, other_service: ScriptedServer, request_by: Any, kind: Any
) -> None:
    service.script[:] = [(307, {"Location": other_service.url.replace("127.0.0.1", "localhost")})]
    other_service.script[:] = [(401, {"WWW-Authenticate": CHALLENGE})]
    credential = kind()
    auth = face.ManagedIdentityAuth("s", credential=credential)
    answer = request_by("GET", service.url, auth=auth, follow_redirects=True)
    assert answer.status_code == 401
    assert credential.asked == [None]
    assert [seen[1] for seen in other_service.seen] == [None]


def test_what_can_be_sent_only_once_is_sent_once(service: ScriptedServer) -> None:
    service.script[:] = [(401, {"WWW-Authenticate": CHALLENGE})]
    auth = face.ManagedIdentityAuth("s", credential=Credential())
    with httpx.Client(trust_env=False) as client:
        stream = iter([b"bo", b"dy"])
        headers = {"Content-Length": "4"}
        answer = client.post(service.url, content=stream, headers=headers, auth=auth)
    assert answer.status_code == 401
    assert len(service.seen) == 1


@KINDS
def test_a_token_does_not_travel_unencrypted(request_by: Any, kind: Any) -> None:
    auth = face.ManagedIdentityAuth("s", credential=kind())
    with pytest.raises(ValueError, match="use https"):
        request_by("GET", "http://management.azure.com/", auth=auth)


@KINDS
def test_a_credential_of_the_other_kind_is_refused(request_by: Any, kind: Any) -> None:
    other = Credential() if kind is AsyncCredential else AsyncCredential()
    auth = face.ManagedIdentityAuth("s", credential=other)
    with pytest.raises(TypeError, match=r"needs a?sync credentials"):
        request_by("GET", "https://127.0.0.1:1/", auth=auth)


def test_settings_go_to_the_credential_and_not_beside_one() -> None:
    assert "client_id='c'" in repr(face.ManagedIdentityAuth("s", client_id="c"))
    with pytest.raises(TypeError, match="not both"):
        face.ManagedIdentityAuth("s", credential=Credential(), client_id="c")
