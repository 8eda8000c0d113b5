"""AKS identity bindings: workload identity through a token proxy."""

from __future__ import annotations

import asyncio
import json
import warnings
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import azure.identity
import azure.identity._constants
import pytest
from azure.core.pipeline.transport import AioHttpTransport, RequestsTransport

import imds_identity.aio
from imds_identity import CredentialUnavailableError, ManagedIdentityCredential, TokenRefusedError
from imds_identity.doctor import diagnose
from imds_identity.emulator._pki.certificates import Authority, pem, server_context
from support import RawServer, TlsServer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

SCOPE = "https://vault.azure.net/.default"
NAME = "1234.ests.aks"
ASSERTION = "the-w0rkloads-own-token"
BODY = json.dumps({"access_token": "a-token", "expires_in": 3600}).encode()
RESPONSE = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + BODY


class TokenProxy(TlsServer):
    """A token proxy whose certificate is for `NAME`; it records the server names of clients."""

    def __init__(self, directory: Path) -> None:
        self.names: list[str | None] = []
        self._folder = directory
        super().__init__(directory, RESPONSE)
        self.replace_certificate()

    def replace_certificate(self) -> str:
        """Use a certificate of a new authority, and return that authority's certificate."""
        authority = Authority("the cluster's authority")
        self._context = server_context(authority, self._folder, "127.0.0.1", [NAME])
        self._context.sni_callback = self._record
        self.names.clear()
        self.authority = pem(authority.certificate).decode()
        return self.authority

    def _record(self, _socket: Any, name: str | None, _context: ssl.SSLContext) -> None:
        self.names.append(name)


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[TokenProxy]:
    token_file = tmp_path / "own-token"
    token_file.write_text(ASSERTION)
    monkeypatch.setenv("AZURE_TENANT_ID", "a-tenant")
    monkeypatch.setenv("AZURE_CLIENT_ID", "a-client")
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(token_file))
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", "https://127.0.0.1:9/")
    with TokenProxy(tmp_path) as proxy:
        monkeypatch.setenv("AZURE_KUBERNETES_TOKEN_PROXY", f"{proxy.url}/a/path/")
        monkeypatch.setenv("AZURE_KUBERNETES_SNI_NAME", NAME)
        monkeypatch.setenv("AZURE_KUBERNETES_CA_DATA", proxy.authority)
        yield proxy


def get_token(**settings: Any) -> str:
    return ManagedIdentityCredential(**settings).get_token(SCOPE).token


def get_async_token(**settings: Any) -> str:
    async def main() -> str:
        async with imds_identity.aio.ManagedIdentityCredential(**settings) as credential:
            return (await credential.get_token(SCOPE)).token

    return asyncio.run(main())


@pytest.mark.parametrize(
    "call",
    [
        get_token,
        get_async_token,
        lambda: get_token(enable_azure_proxy=True),
        lambda: get_token(user_agent="an-app"),
        lambda: get_token(transport=RequestsTransport()),
        lambda: get_token(transport=RequestsTransport(connection_verify=False)),
        lambda: get_async_token(user_agent="an-app"),
    ],
)
def test_token_request_goes_to_the_proxy(proxy: TokenProxy, call: Callable[[], str]) -> None:
    assert call() == "a-token"
    [request] = proxy.requests
    assert request.startswith(b"POST /a/path/a-tenant/oauth2/v2.0/token HTTP/1.1\r\n")
    assert f"client_assertion={ASSERTION}".encode() in request
    assert b"client_id=a-client" in request
    assert proxy.names == [NAME]


def test_token_of_the_workload_is_read_for_each_request(proxy: TokenProxy, tmp_path: Path) -> None:
    credential = ManagedIdentityCredential()
    for own_token in (ASSERTION, "its-renewed-t0ken"):
        (tmp_path / "own-token").write_text(own_token)
        credential.get_token(SCOPE, claims='{"access_token":{}}')
        assert f"client_assertion={own_token}".encode() in proxy.requests[-1]


@pytest.mark.skipif(
    not hasattr(azure.identity._constants.EnvironmentVariables, "AZURE_KUBERNETES_TOKEN_PROXY"),
    reason="this version of azure-identity does not support identity bindings",
)
def test_azure_identity_sends_the_same_request(proxy: TokenProxy) -> None:
    theirs: Any = azure.identity.ManagedIdentityCredential(enable_azure_proxy=True)
    assert theirs.get_token(SCOPE).token == get_token() == "a-token"
    lines = [request.split(b"\r\n")[0] for request in proxy.requests]
    forms = [parse_qs(request.rpartition(b"\r\n\r\n")[2].decode()) for request in proxy.requests]
    assert len(proxy.requests) == 2
    assert lines[0] == lines[1]
    assert forms[0] == forms[1]
    assert proxy.names == [NAME, NAME]


def test_ca_file_is_read_again_when_it_changes(
    proxy: TokenProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "ca.crt"
    monkeypatch.delenv("AZURE_KUBERNETES_CA_DATA")
    monkeypatch.setenv("AZURE_KUBERNETES_CA_FILE", str(file))
    credential = ManagedIdentityCredential()

    def fetch() -> str:
        imds_identity.clear_cache()
        return credential.get_token(SCOPE).token

    with pytest.raises(CredentialUnavailableError, match=r"AZURE_KUBERNETES_CA_FILE.*No such file"):
        fetch()
    file.write_text("")
    with pytest.raises(CredentialUnavailableError, match="it is empty"):
        fetch()
    file.write_text(f"# a comment: é\n{proxy.authority}", encoding="utf-8")
    assert fetch() == "a-token"
    file.write_text("")  # Kubernetes is replacing it
    assert fetch() == "a-token"
    file.unlink()
    assert fetch() == "a-token"
    renewed = proxy.replace_certificate()
    with pytest.raises(TokenRefusedError, match="TLS certificate verification failed"):
        fetch()
    file.write_text(renewed)
    assert fetch() == "a-token"


@pytest.mark.parametrize("transport", [None, RequestsTransport])
def test_only_the_named_authority_is_trusted(
    proxy: TokenProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, transport: Any
) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(proxy.authority)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    monkeypatch.setenv("AZURE_KUBERNETES_CA_DATA", pem(Authority("another").certificate).decode())
    with pytest.raises(TokenRefusedError, match="correct the variables") as caught:
        get_token(transport=transport() if transport else None)
    assert caught.value.reason_code == "tls"
    assert proxy.requests == []
    monkeypatch.delenv("AZURE_KUBERNETES_CA_DATA")
    imds_identity.clear_cache()
    assert get_token(transport=transport() if transport else None) == "a-token"


@pytest.mark.parametrize("name", ["another.ests.aks", "127.0.0.2"])
def test_certificate_must_be_for_the_sni_name(
    proxy: TokenProxy, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("AZURE_KUBERNETES_SNI_NAME", name)
    with pytest.raises(TokenRefusedError, match="TLS certificate verification failed"):
        get_token()
    assert proxy.requests == []


def test_host_of_the_url_is_verified_without_an_sni_name(
    proxy: TokenProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_KUBERNETES_SNI_NAME")
    assert get_token() == "a-token"
    assert NAME not in proxy.names


def test_environment_s_proxy_gets_a_tunnel(
    proxy: TokenProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RawServer(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n") as http_proxy:
        monkeypatch.setenv("HTTPS_PROXY", http_proxy.url)
        with pytest.raises(TokenRefusedError):
            get_token(retry_total=0)
    assert http_proxy.requests[0].startswith(f"CONNECT 127.0.0.1:{proxy.port} HTTP/1.".encode())
    assert ASSERTION.encode() not in b"".join(http_proxy.requests)


@pytest.mark.parametrize(
    ("changes", "problem", "causes"),
    [
        ({"CA_FILE": "/ca.crt"}, "CA_FILE and AZURE_KUBERNETES_CA_DATA are both set", ["CA_DATA"]),
        ({"TOKEN_PROXY": ""}, "without AZURE_KUBERNETES_TOKEN_PROXY", ["SNI_NAME", "CA_DATA"]),
        ({"TOKEN_PROXY": "http://10.0.0.1"}, "must be an https URL", ["TOKEN_PROXY"]),
        ({"TOKEN_PROXY": "10.0.0.1:443"}, "must be an https URL", ["TOKEN_PROXY"]),
        ({"TOKEN_PROXY": "https://me:s3cret@host"}, "without user", ["TOKEN_PROXY"]),
        ({"TOKEN_PROXY": "https://host/?a=b"}, "without user, query", ["TOKEN_PROXY"]),
        ({"SNI_NAME": "a name\n"}, "must be a DNS name", ["SNI_NAME"]),
    ],
)
def test_contradictory_or_invalid_variables_raise_value_error(
    proxy: TokenProxy,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str],
    problem: str,
    causes: list[str],
) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(f"AZURE_KUBERNETES_{name}", value)
    for credential_type in (ManagedIdentityCredential, imds_identity.aio.ManagedIdentityCredential):
        with pytest.raises(ValueError, match=problem) as caught:
            credential_type()
        assert "s3cret" not in str(caught.value)
    [finding] = [each for each in diagnose().findings if each.status == "failure"]
    remedy = f"unset {' '.join(f'AZURE_KUBERNETES_{name}' for name in causes)}"
    if changes.get("TOKEN_PROXY") == "10.0.0.1:443":  # only its scheme is missing
        remedy = f"export AZURE_KUBERNETES_TOKEN_PROXY=https://10.0.0.1:443 # or: {remedy}"
    assert finding.remedy == remedy
    assert proxy.requests == []


@pytest.mark.parametrize(
    "data", ["no certificate", " ", "é", "\udce9", "-----BEGIN CERTIFICATE-----\nAA"]
)
def test_invalid_authority_is_an_error(
    proxy: TokenProxy, monkeypatch: pytest.MonkeyPatch, data: str
) -> None:
    monkeypatch.setenv("AZURE_KUBERNETES_CA_DATA", data)
    with pytest.raises(CredentialUnavailableError, match="AZURE_KUBERNETES_CA_DATA") as caught:
        get_token()
    assert caught.value.reason_code == "invalid-setting"
    assert proxy.requests == []


def test_proxy_can_be_turned_off(
    proxy: TokenProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "entra").mkdir()
    with TlsServer(tmp_path / "entra", RESPONSE) as entra_id:
        monkeypatch.setenv("AZURE_AUTHORITY_HOST", entra_id.url)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", entra_id.certificates)
        assert get_token(enable_azure_proxy=False) == "a-token"
        assert len(entra_id.requests) == 1
    assert proxy.requests == []
    monkeypatch.delenv("AZURE_KUBERNETES_TOKEN_PROXY")
    ManagedIdentityCredential(enable_azure_proxy=False)


def test_keyword_causes_no_warning(imds_emulator: object) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in (True, False):
            assert ManagedIdentityCredential(enable_azure_proxy=value).get_token(SCOPE)


def test_transport_that_cannot_verify_the_proxy_is_refused(proxy: TokenProxy) -> None:
    with pytest.raises(TokenRefusedError, match=r"certificate of AZURE_KUBERNETES_TOKEN_PROXY"):
        get_async_token(transport=AioHttpTransport())
    assert proxy.requests == []
