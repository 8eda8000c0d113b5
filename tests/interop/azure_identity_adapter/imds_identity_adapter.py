"""Runs azure-identity's own managed-identity tests against this package's credential.

This pytest plugin for azure-identity's test suite replaces its classes by subclasses of this
package's classes, before the test modules import them. It fakes no result: requests go through this
package's exchange and the transport of the test. The fixtures of the suite require these changes:

- Sleeping takes no time. If a response contains ``expires_on: 42``, the clock starts in 1970.
- Each test starts with an empty cache, because each azure-identity credential has its own.
- The firmware identifies the machine as an Azure VM.
- The expected User-Agent and number of retries are this package's.
- The endpoint ``...`` is a URL at localhost, and an empty scope is valid.
- The mock at ``...`` is the same for all hosts and does not send Arc's challenge.
- A form is passed to the mock as a mapping, with the scope as the test wrote it.
- A mocked transport has no connection, so the certificate of Service Fabric is not checked; the
  tests use the thumbprint ``SHA1HEX``.
- The owner of the mocked Arc agent's listener is not checked.
- Arc's tokens directory is the one that the test's patch of private functions sets.

docs/azure-identity-tests.md lists the excluded tests (`EXCLUDED`) with reasons.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from unittest import mock
from urllib.parse import parse_qsl

import azure.identity
import azure.identity._credentials.azure_arc as azure_identity_arc
import azure.identity._credentials.imds as azure_identity_imds
import azure.identity._internal.user_agent
import azure.identity.aio
import azure.identity.aio._credentials.imds as azure_identity_async_imds
import pytest
from azure.core.rest import HttpRequest

import imds_identity
import imds_identity.aio
from imds_identity._azure_core.transports import sender as transport
from imds_identity._http.transport_errors import USER_AGENT, plain_headers
from imds_identity._platform import environment
from imds_identity._sources import azure_vm
from imds_identity._sources.app_hosts import exchange as app_host_exchange
from imds_identity._sources.arc import exchange as arc
from imds_identity._sources.arc import key_file as secret_file
from imds_identity._sources.arc import peer as listener
from imds_identity._token_cache import process
from imds_identity._token_cache.cache import TokenCache

if TYPE_CHECKING:
    from imds_identity._core.secret import Secret
    from imds_identity._http.messages import Request

_MOCK_ENDPOINT = "http://localhost:40342/metadata/identity/oauth2/token"
_TABLE = Path(__file__).parents[3] / "docs/azure-identity-tests.md"
_ROW = re.compile(
    r"^\| `(?P<part>[^`]+)` \| (?P<number>[0-9]+) \| (?P<reason>.+) \|$", re.MULTILINE
)
# The reason for excluding a test, by a part of its id. All other tests must pass.
EXCLUDED = {row["part"]: row["reason"] for row in _ROW.finditer(_TABLE.read_text(encoding="utf-8"))}

_VALIDATE_KEY_FILE = azure_identity_arc._validate_key_file
_HTTP = transport._http
_AUTHENTICATED = arc._authenticated_response
_READ_SECRET = secret_file.read_secret


class FakeClock:
    """A clock that starts in 1970; sleeping only advances it."""

    seconds = 1.0

    def now(self) -> float:
        return FakeClock.seconds

    tick = wall = now

    def sleep(self, seconds: float) -> None:
        FakeClock.seconds += seconds


class PerTestTokenCache:
    """A new token cache for each test."""

    current: TokenCache

    @classmethod
    def reset(cls, seconds: float) -> None:
        FakeClock.seconds = seconds
        cls.current = TokenCache(FakeClock(), lambda: 0.5)


def adapt_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Convert a test's constructor arguments for this package."""
    settings.pop("_enable_imds_probe", None)
    FakeClock.seconds += 3  # past the failure that an earlier credential cached
    return {**settings, "_token_cache": PerTestTokenCache.current}


def read_secret(path: str, directory: str) -> Secret:
    """Read a key file in the directory that a test's patches of azure-identity set."""
    anywhere = azure_identity_arc._validate_key_file is not _VALIDATE_KEY_FILE
    return _READ_SECRET(
        path, os.path.dirname(path) if anywhere else azure_identity_arc._get_key_file_path()
    )


class FakeEnvironment(environment.Environment):
    """The environment, with ``...`` replaced by an endpoint."""

    def __getitem__(self, name: str) -> str:
        value = super().__getitem__(name)
        return _MOCK_ENDPOINT if value == "..." and name.endswith("ENDPOINT") else value


def replace_empty_scopes(scopes: tuple[str, ...]) -> tuple[str, ...]:
    """Replace empty scopes, which azure-identity accepts."""
    return tuple(scope or "scope" for scope in scopes)


class Credential(imds_identity.ManagedIdentityCredential):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**adapt_settings(settings))


class AsyncCredential(imds_identity.aio.ManagedIdentityCredential):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**adapt_settings(settings))

    async def get_token(self, *scopes: str, **options: Any) -> Any:
        return await super().get_token(*replace_empty_scopes(scopes), **options)

    async def get_token_info(self, *scopes: str, **options: Any) -> Any:
        return await super().get_token_info(*replace_empty_scopes(scopes), **options)


def authenticated_response(request: Request, *rest: Any) -> Any:
    """Send Arc's two requests, or one request to the mock that all hosts share."""
    if not request.url.startswith(_MOCK_ENDPOINT):
        return (yield from _AUTHENTICATED(request, *rest))
    *_, send = rest
    return (yield from send(request))


def http(request: Request) -> HttpRequest:
    """Convert a request, with its form as a mapping as azure-identity passes it."""
    form = dict(parse_qsl((request.body or b"").decode()))
    if not form:
        return _HTTP(request)
    # The tests compare the scope without this suffix, which Microsoft Entra ID requires.
    form = {name: value.removesuffix("/.default") for name, value in form.items()}
    return HttpRequest(request.method, request.url, headers=plain_headers(request), data=form)


def _install() -> None:
    azure.identity.ManagedIdentityCredential = Credential  # type: ignore[misc, assignment]
    azure_identity_imds.ImdsCredential = Credential  # type: ignore[misc, assignment]
    azure.identity.aio.ManagedIdentityCredential = AsyncCredential  # type: ignore[misc, assignment]
    azure_identity_async_imds.ImdsCredential = AsyncCredential  # type: ignore[misc, assignment]
    azure.identity._internal.user_agent.USER_AGENT = USER_AGENT
    # One request and four retries, as Microsoft's documentation recommends.
    azure_identity_imds.PIPELINE_SETTINGS["retry_total"] = 4
    secret_file.read_secret = read_secret
    listener.confirm = lambda port: None
    azure_vm._is_azure_firmware = lambda: True
    process.Environment = FakeEnvironment  # type: ignore[attr-defined]
    transport._http = http
    arc._authenticated_response = authenticated_response  # type: ignore[assignment]
    app_host_exchange._fingerprint = lambda *_: "ab" * 20
    transport.check_certificate = lambda *_: None  # type: ignore[attr-defined]
    # The mocks expect the host as the test wrote it; this package replaces localhost by 127.0.0.1.
    arc._by_address = lambda endpoint: endpoint


class _TestTools(ModuleType):
    """Replaces the Azure SDK's test tools, which are not published."""

    AzureRecordedTestCase = object

    @staticmethod
    def is_live() -> bool:
        return False

    test_proxy = None

    def __getattr__(self, name: str) -> Any:
        return mock.MagicMock()


_install()
sys.modules["devtools_testutils"] = _TestTools("devtools_testutils")


@pytest.fixture(scope="session")
def test_proxy() -> None:
    """Replace the recording proxy of the Azure SDK."""


@pytest.fixture(scope="session")
def environment_variables() -> Any:
    """Replace the sanitizer of recordings."""
    return mock.MagicMock()


@pytest.fixture(autouse=True)
def _reset(request: pytest.FixtureRequest) -> None:
    source = inspect.getsource(request.function)
    PerTestTokenCache.reset(1.0 if re.search(r'expires_on ?= ?"?42', source) else time.time())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the excluded tests, and report them with their reasons."""
    reasons = {item.nodeid: reason for item in items if (reason := _reason(item))}
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in reasons])
    items[:] = [item for item in items if item.nodeid not in reasons]
    if report := os.environ.get("EXCLUDED_REPORT"):
        Path(report).write_text(json.dumps(reasons, indent=2))


def _reason(item: pytest.Item) -> str | None:
    return next((reason for part, reason in EXCLUDED.items() if part in f"{item.nodeid}$"), None)
