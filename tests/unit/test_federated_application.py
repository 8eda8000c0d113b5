"""Tokens of an application that trusts a managed identity."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import pickle
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from azure.core.credentials import SupportsTokenInfo, TokenCredential
from azure.core.credentials_async import AsyncSupportsTokenInfo, AsyncTokenCredential
from azure.core.exceptions import ClientAuthenticationError

import imds_identity.aio
from fake_exchange import FakeServices, jwt_of
from imds_identity import (
    CredentialUnavailableError,
    FederatedApplicationCredential,
    TokenRefusedError,
)
from imds_identity._core.identity import SYSTEM_ASSIGNED
from imds_identity._http import transport
from imds_identity._http.exchange import ConnectFailed, ErrorKind
from imds_identity._sources.azure_vm import ImdsSource
from imds_identity._sources.federated_application import FEDERATED_APPLICATION
from imds_identity._sources.registry import HOSTS
from imds_identity._token_cache.client import TokenClient
from imds_identity._token_cache.process import application_client, process_token_cache
from imds_identity.cli import main
from support import FakeCredential

if TYPE_CHECKING:
    from pathlib import Path

    from imds_identity._http.messages import Request
    from imds_identity._token_cache.cache import TokenCache
    from support import BackgroundQueue, FakeClock


TENANT = "11111111-1111-1111-1111-111111111111"
APPLICATION = "22222222-2222-2222-2222-222222222222"
IDENTITY = "33333333-3333-3333-3333-333333333333"
SCOPE = "https://vault.azure.net/.default"
CLAIMS = json.dumps({"access_token": {"nbf": {"essential": True, "value": "1"}}})


class Services(FakeServices):
    """IMDS and Microsoft Entra ID in this process; records the requests to both."""

    def __init__(self) -> None:
        self.identity_requests: list[Request] = []
        self.entra_requests: list[Request] = []
        self.entra_error: dict[str, object] | None = None
        self.identity_status = 200
        self.lifetime = 86400
        self.clock = time.time
        self.is_blocked = False

    def respond(self, request: Request) -> tuple[int, dict[str, object]]:
        if urlsplit(request.url).path.startswith("/metadata"):
            self.identity_requests.append(request)
            if self.identity_status != 200:
                return self.identity_status, {
                    "error": "invalid_request",
                    "error_description": "Identity not found",
                }
            token = jwt_of(iss="https://sts.windows.net/tenant/", sub="the-object-id")
            expires_on = str(int(self.clock()) + self.lifetime)
            return 200, {
                "access_token": token,
                "expires_on": expires_on,
                "token_type": "Bearer",
                "resource": "api://AzureADTokenExchange",
            }
        self.entra_requests.append(request)
        if self.is_blocked:
            raise ConnectFailed("connection refused", kind=ErrorKind.REFUSED)
        if self.entra_error:
            return 401, self.entra_error
        token = jwt_of(appid=APPLICATION, number=len(self.entra_requests))
        return 200, {"access_token": token, "expires_in": 3599, "token_type": "Bearer"}

    @property
    def form(self) -> dict[str, list[str]]:
        return parse_qs((self.entra_requests[-1].body or b"").decode())


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Services:
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1")
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", "off")
    services = Services()
    monkeypatch.setattr(transport, "direct_sender", services.sender)
    return services


def error_of(code: int, text: str) -> dict[str, object]:
    return {"error": "invalid_client", "error_description": f"AADSTS{code}: {text}"}


def test_token_of_the_identity_is_the_assertion(services: Services) -> None:
    credential = FederatedApplicationCredential(TENANT, APPLICATION, identity=IDENTITY)
    token = credential.get_token(SCOPE)
    assert token.token.startswith("header.")
    [identity_request] = services.identity_requests
    query = parse_qs(urlsplit(identity_request.url).query)
    assert (query["resource"], query["client_id"]) == (["api://AzureADTokenExchange"], [IDENTITY])
    [request] = services.entra_requests
    assert request.url == f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"
    assert request.over_internet
    form = services.form
    assert form["client_id"] == [APPLICATION]
    assert form["scope"] == [SCOPE]
    assert form["grant_type"] == ["client_credentials"]
    assert form["client_assertion"] == [
        jwt_of(iss="https://sts.windows.net/tenant/", sub="the-object-id")
    ]


def test_both_tokens_are_cached(services: Services) -> None:
    for _ in range(3):
        credential = FederatedApplicationCredential(TENANT, APPLICATION)
        credential.get_token(SCOPE)
        credential.get_token_info("https://storage.azure.com/.default")
    assert (len(services.identity_requests), len(services.entra_requests)) == (1, 2)


def test_processes_share_the_tokens(services: Services, tmp_path: Path) -> None:
    for _ in range(2):
        FederatedApplicationCredential(TENANT, APPLICATION, cache=tmp_path / "c").get_token(SCOPE)
        process_token_cache().clear()  # as in another process
    assert (len(services.identity_requests), len(services.entra_requests)) == (1, 1)


def test_tokens_of_app_platforms_are_not_shared(
    services: Services, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:1/metadata")
    monkeypatch.setenv("IDENTITY_HEADER", "secret")
    for _ in range(2):
        FederatedApplicationCredential(TENANT, APPLICATION, cache=tmp_path / "c").get_token(SCOPE)
        process_token_cache().clear()
    assert (len(services.identity_requests), len(services.entra_requests)) == (2, 2)


def test_async_credential_shares_the_cache(services: Services) -> None:
    first = FederatedApplicationCredential(TENANT, APPLICATION).get_token(SCOPE)

    async def get() -> Any:
        async with imds_identity.aio.FederatedApplicationCredential(TENANT, APPLICATION) as second:
            return await second.get_token(SCOPE)

    assert asyncio.run(get()) == first
    imds_identity.clear_cache()
    assert asyncio.run(get()) != first


@pytest.mark.parametrize(
    "other",
    [
        {"identity": IDENTITY},
        {"identity": {"object_id": IDENTITY}},
        {"authority": "https://login.microsoftonline.us"},
    ],
)
def test_another_identity_or_authority_has_its_own_token(
    services: Services, other: dict[str, Any]
) -> None:
    FederatedApplicationCredential(TENANT, APPLICATION).get_token(SCOPE)
    FederatedApplicationCredential(TENANT, APPLICATION, **other).get_token(SCOPE)
    assert len(services.entra_requests) == 2


@pytest.mark.parametrize(
    ("authority", "audience"),
    [
        ("https://login.microsoftonline.us/", "api://AzureADTokenExchangeUSGov"),
        ("login.chinacloudapi.cn", "api://AzureADTokenExchangeChina"),
        ("https://LOGIN.partner.microsoftonline.cn", "api://AzureADTokenExchangeChina"),
        ("https://login.example", "api://AzureADTokenExchange"),
    ],
)
def test_audience_is_that_of_the_authority_s_cloud(
    services: Services, monkeypatch: pytest.MonkeyPatch, authority: str, audience: str
) -> None:
    FederatedApplicationCredential(TENANT, APPLICATION, authority=authority).get_token(SCOPE)
    imds_identity.clear_cache()
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", authority)
    FederatedApplicationCredential(TENANT, APPLICATION).get_token(SCOPE)
    queries = [parse_qs(urlsplit(each.url).query) for each in services.identity_requests]
    assert [query["resource"] for query in queries] == [[audience]] * 2
    hosts = {urlsplit(each.url).netloc.lower() for each in services.entra_requests}
    assert hosts == {urlsplit(authority).netloc.lower() or authority}


def test_claims_challenge_gets_a_new_token_of_the_application(services: Services) -> None:
    credential = FederatedApplicationCredential(TENANT, APPLICATION)
    first = credential.get_token(SCOPE, enable_cae=True)
    assert "cp1" in services.form["claims"][0].lower()
    second = credential.get_token(SCOPE, claims=CLAIMS, enable_cae=True)
    assert second.token != first.token
    assert "nbf" in services.form["claims"][0]
    assert len(services.identity_requests) == 1


@pytest.mark.parametrize("code", [70021, 70023, 70025, 700211, 700212, 700213, 700216])
def test_missing_federated_credential_is_explained(services: Services, code: int) -> None:
    services.entra_error = error_of(code, "No matching federated identity record found.")
    with pytest.raises(TokenRefusedError) as caught:
        FederatedApplicationCredential(TENANT, APPLICATION).get_token(SCOPE)
    message = str(caught.value)
    assert f"AADSTS{code}" in message
    assert "issuer https://sts.windows.net/tenant/, the subject the-object-id" in message
    assert "audience api://AzureADTokenExchange." in message
    assert "signature" not in message


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (700016, "does not exist in this tenant"),
        (7000112, "disabled the application"),
        (90002, "The tenant does not exist"),
        (700024, "clock of this machine"),
        (500011, "is the scope correct"),
        (700236, "must belong to the same tenant"),
    ],
)
def test_other_errors_are_explained(services: Services, code: int, expected: str) -> None:
    services.entra_error = error_of(code, "An error.")
    with pytest.raises(TokenRefusedError, match=expected):
        FederatedApplicationCredential(TENANT, APPLICATION).get_token(SCOPE)


def test_failure_of_the_identity_says_so(services: Services) -> None:
    services.identity_status = 400
    with pytest.raises(CredentialUnavailableError) as caught:
        FederatedApplicationCredential(TENANT, APPLICATION).get_token(SCOPE)
    assert "the managed identity has no token for api://AzureADTokenExchange" in str(caught.value)
    assert services.entra_requests == []


def test_credentials_implement_azure_core_s_protocols(services: Services) -> None:
    sync = FederatedApplicationCredential(TENANT, APPLICATION)
    assert isinstance(sync, TokenCredential)
    assert isinstance(sync, SupportsTokenInfo)
    assert sync.get_token_info(SCOPE).token == sync.get_token(SCOPE).token
    twin = imds_identity.aio.FederatedApplicationCredential(TENANT, APPLICATION)
    assert isinstance(twin, AsyncTokenCredential)
    assert isinstance(twin, AsyncSupportsTokenInfo)


def test_chain_continues_only_if_no_identity_is_available(services: Services) -> None:
    from azure.identity import ChainedTokenCredential  # not installed on every interpreter

    credential = FederatedApplicationCredential(TENANT, APPLICATION)
    chain = ChainedTokenCredential(credential, FakeCredential())
    services.entra_error = error_of(700213, "No matching federated identity record found.")
    with pytest.raises(ClientAuthenticationError, match="AADSTS700213"):
        chain.get_token(SCOPE)
    services.identity_status = 400  # no identity is assigned
    imds_identity.clear_cache()
    assert chain.get_token(SCOPE) == FakeCredential().get_token(SCOPE)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX processes")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_child_has_the_tokens_of_its_parent(services: Services) -> None:
    credential = FederatedApplicationCredential(TENANT, APPLICATION)
    credential.get_token(SCOPE)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            credential.get_token(SCOPE)
            credential.get_token("https://storage.azure.com/.default")
            os.write(writing, f"{len(services.identity_requests)} ".encode())
            os.write(writing, f"{len(services.entra_requests)}".encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with open(reading) as file:
        assert file.read() == "1 2"


def test_token_is_refreshed_in_the_background_and_an_expired_assertion_with_it(
    services: Services, clock: FakeClock, token_cache: TokenCache, background: BackgroundQueue
) -> None:
    source = ImdsSource("http://127.0.0.1:9/metadata/token", "AZURE_POD_IDENTITY_AUTHORITY_HOST")
    services.clock = clock.wall
    identity = TokenClient(source, SYSTEM_ASSIGNED, token_cache, None)
    client = application_client(identity, TENANT, APPLICATION)
    entry = client.entry(SCOPE)
    first = client.token(entry)
    clock.seconds += 3400  # the application's token is due
    assert client.token(entry) is first
    services.is_blocked = True
    background.run()
    assert client.token(entry).value == first.value  # the failed refresh is invisible
    services.is_blocked = False
    clock.seconds += 150
    client.token(entry)
    background.run()
    second = client.token(entry)
    assert second.value != first.value
    assert len(services.identity_requests) == 1
    clock.seconds += 86400  # both have expired
    assert client.token(entry).value not in (first.value, second.value)
    assert len(services.identity_requests) == 2


def test_copy_has_the_same_configuration(services: Services) -> None:
    credential = FederatedApplicationCredential(
        TENANT, APPLICATION, identity={"object_id": IDENTITY}, cache=False
    )
    twin = imds_identity.aio.FederatedApplicationCredential(TENANT, APPLICATION, identity=IDENTITY)
    assert repr(pickle.loads(pickle.dumps(twin))) == repr(twin)
    copied = pickle.loads(pickle.dumps(credential))
    assert repr(copied) == repr(credential)
    assert repr(credential) == (
        f"FederatedApplicationCredential(tenant_id={TENANT!r}, client_id={APPLICATION!r}, "
        f"identity={{'object_id': {IDENTITY!r}}}, cache=False)"
    )
    assert copied.get_token(SCOPE) == credential.get_token(SCOPE)


def test_unreachable_authority_is_not_blamed_on_a_pod(services: Services) -> None:
    services.is_blocked = True
    credential = FederatedApplicationCredential(TENANT, APPLICATION, retry_total=0)
    with pytest.raises(TokenRefusedError, match="Do the firewall and the proxy allow") as caught:
        credential.get_token(SCOPE)
    assert "pod" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        (("", APPLICATION), {}, "tenant_id must be"),
        (("a/b", APPLICATION), {}, "tenant_id must be"),
        ((None, APPLICATION), {}, "tenant_id must be"),
        ((TENANT, ""), {}, "client_id must be"),
        ((TENANT, None), {}, "client_id must be"),
        ((TENANT, APPLICATION), {"authority": "http://login.example"}, "authority must be"),
        ((TENANT, APPLICATION), {"authority": "https://a/b"}, "authority must be"),
        ((TENANT, APPLICATION), {"authority": "https://user@a"}, "authority must be"),
        ((TENANT, APPLICATION), {"authority": "https://"}, "authority must be"),
        ((TENANT, APPLICATION), {"authority": "https://["}, "authority must be"),
        ((TENANT, APPLICATION), {"authority": "https://a#b"}, "authority must be"),
        ((TENANT, APPLICATION), {"identity": {"no": "x"}}, "unknown key"),
        ((TENANT, APPLICATION), {"identity": IDENTITY, "object_id": IDENTITY}, "at most one"),
    ],
)
def test_invalid_arguments_are_refused(
    services: Services, arguments: tuple[Any, ...], options: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        FederatedApplicationCredential(*arguments, **options)


def test_credential_can_be_constructed_without_descriptors(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def preload(client: TokenClient) -> None:
        client.is_preloaded = client.source.name != FEDERATED_APPLICATION.name
        if not client.is_preloaded:
            raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(TokenClient, "preload", preload)
    FederatedApplicationCredential(TENANT, APPLICATION)


def test_unknown_keyword_is_refused(services: Services) -> None:
    with pytest.raises(TypeError, match="no_such"):
        FederatedApplicationCredential(TENANT, APPLICATION, no_such=1)


def test_command_prints_a_token_of_the_application(
    services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--as-application", APPLICATION, "--tenant", TENANT, "--client-id", IDENTITY]
    assert main(["token", SCOPE, *flags]) == 0
    assert capsys.readouterr().out.strip() == jwt_of(appid=APPLICATION, number=1)
    assert parse_qs(urlsplit(services.identity_requests[0].url).query)["client_id"] == [IDENTITY]


@pytest.mark.parametrize("flags", [["--as-application", APPLICATION], ["--tenant", TENANT]])
def test_flags_of_the_application_require_each_other(
    services: Services, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    assert main(["token", SCOPE, *flags]) == 2
    assert "--as-application and --tenant require each other" in capsys.readouterr().err


def test_no_host_is_detected_as_an_application() -> None:
    assert FEDERATED_APPLICATION not in HOSTS
