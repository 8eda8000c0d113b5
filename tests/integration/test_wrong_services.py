"""Somebody else answers where IMDS would: azure-identity's chains go on, sync and async."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from azure.core.credentials import AccessToken, AccessTokenInfo
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ChainedTokenCredential
from azure.identity.aio import ChainedTokenCredential as AsyncChainedTokenCredential

import imds_identity
import imds_identity.aio
from imds_identity._http.retry_options import RetryOptions
from imds_identity._sources import azure_vm, imds
from support import RawServer

SCOPE = "https://vault.azure.net/.default"


def answer(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


HTML, JSON = "Content-Type: text/html", "Content-Type: application/json"
SERVICES = {
    "EC2": answer("401 Unauthorized", b"<?xml version='1.0'?>", HTML, "Server: EC2ws"),
    "Google": answer("403 Forbidden", b"<html>Missing header</html>", HTML),
    "Google's APIs": answer("404 Not Found", b'{"error": {"code": 404}}', JSON),
    "OpenStack": answer("404 Not Found", b"The resource could not be found."),
    "a proxy": answer("502 Bad Gateway", b"<html>", HTML),
    "a busy proxy": answer("503 Service Unavailable", b"<html>", HTML, "Retry-After: 60"),
    "a gateway": answer("429 Too Many Requests", b'{"message": "slow"}', JSON, "Retry-After: 60"),
    "Docker": answer("403 Forbidden", b"dial tcp: connectex: to an unreachable network."),
    "a portal": answer("200 OK", b"<html>log in</html>", HTML),
    "a portal's API": answer("200 OK", b'{"status": "login"}', JSON),
    "a portal that leads on": answer("302 Found", b"", "Location: http://portal.example/"),
    "one that packs": answer("200 OK", b"x", "Content-Encoding: gzip"),
    "one that floods": b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 400_000,
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "nothing": b"",
}


class Next:
    """The next credential of a chain."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken("the next one's", int(time.time()) + 3600)

    def get_token_info(self, *scopes: str, **options: Any) -> AccessTokenInfo:
        return AccessTokenInfo("the next one's", int(time.time()) + 3600)

    def close(self) -> None:
        """Nothing to do."""


class AsyncNext:
    """The same, awaited."""

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return Next().get_token()

    async def close(self) -> None:
        """Nothing to do."""

    async def __aexit__(self, *_: object) -> None:
        """Nothing to do."""


@pytest.fixture
def instead(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a server where IMDS would be, on a machine whose firmware does not say Azure."""
    monkeypatch.delenv("AZURE_POD_IDENTITY_AUTHORITY_HOST")
    monkeypatch.setattr(azure_vm, "_is_azure_firmware", lambda: False)

    def at(server: RawServer) -> None:
        monkeypatch.setattr(azure_vm, "_AUTHORITY", server.url)

    return at


@pytest.mark.parametrize("name", SERVICES)
def test_chain_continues_after_one_request(instead: Any, name: str) -> None:
    with RawServer(SERVICES[name]) as server:
        instead(server)
        chain = ChainedTokenCredential(imds_identity.ManagedIdentityCredential(), Next())
        assert chain.get_token(SCOPE).token == "the next one's"
        assert len(server.requests) == 1


@pytest.mark.parametrize("name", SERVICES)
def test_async_chain_continues_after_one_request(instead: Any, name: str) -> None:
    async def ask() -> AccessToken:
        credential = imds_identity.aio.ManagedIdentityCredential()
        return await AsyncChainedTokenCredential(credential, AsyncNext()).get_token(SCOPE)  # type: ignore[arg-type]

    with RawServer(SERVICES[name]) as server:
        instead(server)
        assert asyncio.run(ask()).token == "the next one's"
        assert len(server.requests) == 1


@pytest.mark.parametrize("drip", [b"", b"X: y\r\n"])
def test_endless_response_is_awaited_briefly_and_once(
    instead: Any, monkeypatch: pytest.MonkeyPatch, drip: bytes
) -> None:
    briefly = RetryOptions(attempts=1, connect_seconds=0.2, request_seconds=0.2)
    assert briefly._replace(connect_seconds=1.0, request_seconds=1.0) == imds.PROBE_RETRY
    monkeypatch.setattr(imds, "PROBE_RETRY", briefly)
    with RawServer(b"HTTP/1.1 200 OK\r\n", drip, hold=True) as server:
        instead(server)
        for scope in (SCOPE, "https://management.azure.com/.default"):
            chain = ChainedTokenCredential(imds_identity.ManagedIdentityCredential(), Next())
            assert chain.get_token(scope).token == "the next one's"
        assert len(server.requests) == 1, "that nobody answers is remembered"


def test_denial_by_access_rules_never_switches_identity(instead: Any) -> None:
    with RawServer(answer("403 Forbidden", b"", "x-ms-azure-host-authorization: value")) as server:
        instead(server)
        chain = ChainedTokenCredential(imds_identity.ManagedIdentityCredential(), Next())
        with pytest.raises(ClientAuthenticationError, match="access rules deny"):
            chain.get_token(SCOPE)
        assert len(server.requests) == 1


def test_throttling_never_switches_identity(instead: Any) -> None:
    throttled = answer("429 Too Many Requests", b'{"error": "too_many"}', JSON, "Retry-After: 5")
    with RawServer(throttled) as server:
        instead(server)
        chain = ChainedTokenCredential(imds_identity.ManagedIdentityCredential(), Next())
        with pytest.raises(ClientAuthenticationError, match="throttled"):
            chain.get_token(SCOPE)
