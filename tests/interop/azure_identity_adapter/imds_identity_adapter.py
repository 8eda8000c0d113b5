"""Lets azure-identity's own managed-identity tests run against this package's credential.

A pytest plugin for their test suite. In place of azure-identity's classes it puts subclasses of
ours, before the test modules import them. It fakes no result: requests go through our exchange and
the transport that a test gives. What it does change, because their fixtures want it:

- Sleeping takes no time, and where an answer says ``expires_on: 42`` the clock starts in 1970.
- The cache of the process is emptied before each test: their credentials have one each.
- The firmware says Azure, where their tests take themselves to be.
- Their User-Agent and number of retries are ours.
- An endpoint that is called ``...`` is one at localhost, an empty scope is one.
- Who answers at ``...`` is the same fixture for every host, and knows no challenge of Arc's.
- A form is shown as the mapping that they look into, and the scope in it as they wrote it.
- A mocked transport has no connection, and so no certificate of Service Fabric's to check, whose
  thumbprint is ``SHA1HEX``.
- Nobody listens where their mocked agent is said to be, so nobody is asked who it is.
- Arc's tokens directory is the one that a test's patch of their private functions means.

`LEFT_OUT` names each test that is not run, and docs/azure-identity-tests.md why that is better.
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
import azure.identity._credentials.azure_arc as their_arc
import azure.identity._credentials.imds as their_imds
import azure.identity._internal.user_agent
import azure.identity.aio
import azure.identity.aio._credentials.imds as their_async_imds
import pytest
from azure.core.rest import HttpRequest

import imds_identity
import imds_identity.aio
from imds_identity._azure_core.transports import sender as transport
from imds_identity._http.transport_errors import USER_AGENT, plain_headers
from imds_identity._platform import environment
from imds_identity._sources import app_hosts
from imds_identity._sources import sources as kinds
from imds_identity._sources.arc import exchange as arc
from imds_identity._sources.arc import key_file as secret_file
from imds_identity._sources.arc import peer as listener
from imds_identity._token_cache import process
from imds_identity._token_cache.cache import TokenCache

if TYPE_CHECKING:
    from imds_identity._core.secret import Secret
    from imds_identity._http.messages import Request

_ANYWHERE = "http://localhost:40342/metadata/identity/oauth2/token"
_TABLE = Path(__file__).parents[3] / "docs/azure-identity-tests.md"
_ROW = re.compile(r"^\| `(?P<part>[^`]+)` \| (?P<number>[0-9]+) \| (?P<why>.+) \|$", re.MULTILINE)
# Why a test is left out, by a part of its id. Everything else must pass.
LEFT_OUT = {row["part"]: row["why"] for row in _ROW.finditer(_TABLE.read_text(encoding="utf-8"))}

_VALIDATE_KEY_FILE = their_arc._validate_key_file
_HTTP = transport._http
_AUTHENTICATED = arc._authenticated_response
_READ_SECRET = secret_file.read_secret


class Clock:
    """A clock of 1970 in which waiting takes no time."""

    seconds = 1.0

    def now(self) -> float:
        return Clock.seconds

    tick = wall = now

    def sleep(self, seconds: float) -> None:
        Clock.seconds += seconds


class TokenCache1970:
    """One broker a test, so that nothing is left of the test before."""

    current: TokenCache

    @classmethod
    def renew(cls, seconds: float) -> None:
        Clock.seconds = seconds
        cls.current = TokenCache(Clock(), lambda: 0.5)


def adapted(settings: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a test's constructor, as ours takes them."""
    settings.pop("_enable_imds_probe", None)
    Clock.seconds += 3  # a credential of theirs knows nothing of the failure before it
    return {**settings, "_token_cache": TokenCache1970.current}


def read_secret(path: str, directory: str) -> Secret:
    """Our own reader, in the directory that a test's patches of their private functions mean."""
    anywhere = their_arc._validate_key_file is not _VALIDATE_KEY_FILE
    return _READ_SECRET(path, os.path.dirname(path) if anywhere else their_arc._get_key_file_path())


class Variables(environment.Environment):
    """The environment, in which ``...`` is an endpoint."""

    def __getitem__(self, name: str) -> str:
        value = super().__getitem__(name)
        return _ANYWHERE if value == "..." and name.endswith("ENDPOINT") else value


def named(scopes: tuple[str, ...]) -> tuple[str, ...]:
    """The scopes of a test that takes any for one."""
    return tuple(scope or "scope" for scope in scopes)


class Credential(imds_identity.ManagedIdentityCredential):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**adapted(settings))


class AsyncCredential(imds_identity.aio.ManagedIdentityCredential):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**adapted(settings))

    async def get_token(self, *scopes: str, **options: Any) -> Any:
        return await super().get_token(*named(scopes), **options)

    async def get_token_info(self, *scopes: str, **options: Any) -> Any:
        return await super().get_token_info(*named(scopes), **options)


def authenticated_response(request: Request, *rest: Any) -> Any:
    """Send Arc's two requests, or the one that is enough for a fixture of all hosts."""
    if not request.url.startswith(_ANYWHERE):
        return (yield from _AUTHENTICATED(request, *rest))
    *_, send = rest
    return (yield from send(request))


def http(request: Request) -> HttpRequest:
    """Our own request, with a form as azure-core makes one of a mapping."""
    form = dict(parse_qsl((request.body or b"").decode()))
    if not form:
        return _HTTP(request)
    # No scope of theirs is one of Microsoft Entra ID's, which end like that.
    form = {name: value.removesuffix("/.default") for name, value in form.items()}
    return HttpRequest(request.method, request.url, headers=plain_headers(request), data=form)


def _install() -> None:
    azure.identity.ManagedIdentityCredential = Credential  # type: ignore[misc, assignment]
    their_imds.ImdsCredential = Credential  # type: ignore[misc, assignment]
    azure.identity.aio.ManagedIdentityCredential = AsyncCredential  # type: ignore[misc, assignment]
    their_async_imds.ImdsCredential = AsyncCredential  # type: ignore[misc, assignment]
    azure.identity._internal.user_agent.USER_AGENT = USER_AGENT
    # One request and four retries: the schedule that Microsoft publishes.
    their_imds.PIPELINE_SETTINGS["retry_total"] = 4
    secret_file.read_secret = read_secret
    listener.confirm = lambda port: None
    kinds._firmware_says_azure = lambda: True  # type: ignore[assignment]
    process.Environment = Variables  # type: ignore[attr-defined]
    transport._http = http
    arc._authenticated_response = authenticated_response  # type: ignore[assignment]
    app_hosts._certificate = lambda *_: "ab" * 20
    transport.check_certificate = lambda *_: None  # type: ignore[attr-defined]
    # Their transports insist on the host as it was named; ours means 127.0.0.1 by localhost.
    arc._by_address = lambda endpoint: endpoint


class _TestTools(ModuleType):
    """Stands in for the Azure SDK's own test tools, which are on no index."""

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
    """Their recording proxy, which nothing is recorded with here."""


@pytest.fixture(scope="session")
def environment_variables() -> Any:
    """Their sanitizer of recordings."""
    return mock.MagicMock()


@pytest.fixture(autouse=True)
def _fresh(request: pytest.FixtureRequest) -> None:
    written = inspect.getsource(request.function)
    TokenCache1970.renew(1.0 if re.search(r'expires_on ?= ?"?42', written) else time.time())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Say which tests are left out and why; all others must pass."""
    reasons = {item.nodeid: why for item in items if (why := _reason(item))}
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in reasons])
    items[:] = [item for item in items if item.nodeid not in reasons]
    if report := os.environ.get("LEFT_OUT_REPORT"):
        Path(report).write_text(json.dumps(reasons, indent=2))


def _reason(item: pytest.Item) -> str | None:
    return next((why for part, why in LEFT_OUT.items() if part in f"{item.nodeid}$"), None)
