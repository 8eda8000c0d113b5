"""The credential helper for Azure Container Registry."""

from __future__ import annotations

import io
import json
import sys
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_exchange import FakeServices, jwt_of
from imds_identity._http import transport
from imds_identity._token_cache.process import process_token_cache
from imds_identity.cli import main, scripts
from imds_identity.cli._api.container_registry import registry_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from imds_identity._http.messages import Request


REGISTRY = "myregistry.azurecr.io"
USER = "00000000-0000-0000-0000-000000000000"
NOT_FOUND = "credentials not found in native keychain\n"
IDENTITY_TOKEN = "identity.token.s3cret"


class Services(FakeServices):
    """IMDS and a registry in this process; records the requests to both."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.registry_response: tuple[int, dict[str, object]] | None = None

    def respond(self, request: Request) -> tuple[int, dict[str, object]]:
        self.requests.append(request)
        expires_on = int(time.time()) + 10800
        if urlsplit(request.url).path.startswith("/metadata"):
            return 200, {
                "access_token": IDENTITY_TOKEN,
                "expires_on": str(expires_on),
                "token_type": "Bearer",
            }
        token = jwt_of(exp=expires_on, number=len(self.requests))
        return self.registry_response or (200, {"refresh_token": token})


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Services:
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1")
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com")
    services = Services()
    monkeypatch.setattr(transport, "direct_sender", services.sender)
    return services


@pytest.fixture
def helper(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Runs the helper in this process; returns the exit status and standard output."""

    def run(action: str, server: str = "", *flags: str) -> tuple[int, str]:
        process_token_cache().clear()  # as in a new process
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(server.encode())))
        status = main(["docker-credential", action, *flags])
        captured = capsys.readouterr()
        assert captured.err == ""
        return status, captured.out

    return run


def test_refresh_token_is_the_secret(
    services: Services, helper: Callable[..., tuple[int, str]]
) -> None:
    status, output = helper("get", f"{REGISTRY}\n")
    assert status == 0
    assert json.loads(output).keys() == {"ServerURL", "Username", "Secret"}
    assert json.loads(output)["ServerURL"] == REGISTRY
    assert json.loads(output)["Username"] == USER
    identity, exchange = services.requests
    assert parse_qs(urlsplit(identity.url).query)["resource"] == [
        "https://containerregistry.azure.net"
    ]
    assert exchange.url == f"https://{REGISTRY}/oauth2/exchange"
    assert exchange.over_internet
    assert parse_qs((exchange.body or b"").decode()) == {
        "grant_type": ["access_token"],
        "service": [REGISTRY],
        "access_token": [IDENTITY_TOKEN],
    }


def test_token_is_cached_for_each_registry(
    services: Services, helper: Callable[..., tuple[int, str]]
) -> None:
    first = helper("get", REGISTRY)
    assert helper("get", REGISTRY) == first
    assert len(services.requests) == 2
    helper("get", "other.azurecr.io")
    assert len(services.requests) == 3


def test_console_script_uses_the_identity_of_the_environment(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    client_id = "33333333-3333-3333-3333-333333333333"
    monkeypatch.setenv("AZURE_CLIENT_ID", client_id)
    monkeypatch.setattr(sys, "argv", ["docker-credential-imds-identity", "get"])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(REGISTRY.encode())))
    assert scripts.docker_credential() == 0
    assert parse_qs(urlsplit(services.requests[0].url).query)["client_id"] == [client_id]


@pytest.mark.parametrize(
    ("server", "registry"),
    [
        ("myregistry.azurecr.io", REGISTRY),
        ("https://MyRegistry.AzureCR.io/v2/", REGISTRY),
        (" https://myregistry.azurecr.io \n", REGISTRY),
        ("myregistry.westeurope.data.azurecr.io", REGISTRY),
        ("my-registry-abc123.azurecr.us", "my-registry-abc123.azurecr.us"),
        ("myregistry.azurecr.cn/v1", "myregistry.azurecr.cn"),
    ],
)
def test_registries_are_recognized(server: str, registry: str) -> None:
    assert registry_of(server) == registry


OTHER_SERVERS = [
    *("", " ", ".", "azurecr.io", ".azurecr.io", "-a.azurecr.io", "a-.azurecr.io"),
    *("docker.io", "https://index.docker.io/v1/", "mcr.microsoft.com", "azurecr.io.evil.com"),
    *("evil.com/my.azurecr.io", "my.azurecr.io.", "my.azurecr.io:443", "my.azurecr.io:5000"),
    *("user@my.azurecr.io", "my.azurecr.io@evil.com", "http://my.azurecr.io"),
    *("https://https://my.azurecr.io", "ftp://my.azurecr.io", "//my.azurecr.io"),
    *("a.b.azurecr.io", "a.b.c.data.azurecr.io", "a.data.azurecr.io", "data.azurecr.io.x"),
    *("myazurecr.io", "my_azurecr.io", "my.azurecr.iox", "my.azurecr.com", "my.azurecr.de"),
    *("my.azurecr.io\\evil.com", "my.azurecr.io#", "my.azurecr.io?x", "my.azurecr.io%2e"),
    *("my%2eazurecr.io", "my.azurecr\u3002io", "m\u0443.azurecr.io", "my.azurecr.\u0131o"),
    *("my.azurecr.io\x00", "my.azur\tecr.io", "my.azurecr.io\n.evil.com", "my .azurecr.io"),
    *("[::1].azurecr.io", "127.0.0.1", "localhost", "my..azurecr.io", "*.azurecr.io"),
    *("https:/my.azurecr.io", "https:my.azurecr.io", "https:///my.azurecr.io"),
    *(f"{'a' * 64}.azurecr.io", "my.azurecr.io;evil.com", "my.azurecr.io,evil.com"),
]


@pytest.mark.parametrize("server", OTHER_SERVERS)
def test_other_servers_get_nothing(
    services: Services, helper: Callable[..., tuple[int, str]], server: str
) -> None:
    assert len(OTHER_SERVERS) >= 50
    assert helper("get", server) == (1, NOT_FOUND)
    assert services.requests == []


@given(st.text(), st.sampled_from(["{}.azurecr.io", "my.azurecr.io{}", "{}", "my{}azurecr.io"]))
def test_a_host_is_a_single_label_of_a_known_domain(text: str, form: str) -> None:
    registry = registry_of(form.format(text))
    if registry is not None:
        label, _, domain = registry.partition(".")
        assert domain in ("azurecr.io", "azurecr.us", "azurecr.cn")
        assert label.replace("-", "a").isalnum()
        assert label.isascii()


def test_registry_of_another_cloud_gets_nothing(
    services: Services, helper: Callable[..., tuple[int, str]]
) -> None:
    status, output = helper("get", "myregistry.azurecr.cn")
    assert status == 1
    assert "belongs to AzureChinaCloud, but this machine to AzurePublicCloud" in output
    assert services.requests == []
    assert helper("get", "myregistry.azurecr.cn", "--cloud", "AzureChinaCloud")[0] == 0


def test_refusal_names_the_role_and_hides_the_token(
    services: Services, helper: Callable[..., tuple[int, str]]
) -> None:
    error = {"code": "UNAUTHORIZED", "message": f"no access for {IDENTITY_TOKEN}"}
    services.registry_response = 401, {"errors": [error]}
    status, output = helper("get", REGISTRY)
    assert status == 4
    assert "myregistry.azurecr.io returned HTTP 401: UNAUTHORIZED: no access" in output
    assert "AcrPull" in output
    assert IDENTITY_TOKEN not in output


@pytest.mark.parametrize(
    "fields", [{}, {"refresh_token": 1}, {"refresh_token": "opaque"}, {"refresh_token": jwt_of()}]
)
def test_response_without_a_usable_token_is_an_error(
    services: Services, helper: Callable[..., tuple[int, str]], fields: dict[str, object]
) -> None:
    services.registry_response = 200, fields
    status, output = helper("get", REGISTRY)
    assert status == 1
    assert "no refresh token" in output


@pytest.mark.parametrize("stdin", [None, io.TextIOWrapper(io.BytesIO(b"\xff.azurecr.io"))])
def test_input_that_is_not_text_gets_nothing(
    services: Services, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    stdin: io.TextIOWrapper | None,
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main(["docker-credential", "get"]) == 1
    assert capsys.readouterr() == (NOT_FOUND, "")


def test_nothing_is_listed_stored_or_erased(
    services: Services, helper: Callable[..., tuple[int, str]]
) -> None:
    assert helper("list") == (0, "{}\n")
    assert helper("erase", REGISTRY) == (0, "")
    status, output = helper("store", json.dumps({"ServerURL": REGISTRY, "Secret": "s3cret"}))
    assert status == 1
    assert "need no login" in output
    assert "s3cret" not in output
    assert services.requests == []
