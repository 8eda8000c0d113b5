"""Lets azure-identity's own tests for VM and Arc run against this package's credential.

A pytest plugin for their test suite. In place of azure-identity's classes it puts subclasses of
ours, before the test modules import them. It fakes no result: requests go through our exchange and
the transport that a test gives. What it does change, because their fixtures want it:

- The clock starts in 1970 and sleeping takes no time: their answers say ``expires_on: 42``.
- The cache of the process is emptied before each test: their credentials have one each.
- Their User-Agent and number of retries are ours.
- Nobody listens where their mocked agent is said to be, so nobody is asked who it is.
- Arc's tokens directory is the one that a test's patch of their private functions means.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from unittest import mock

import azure.identity
import azure.identity._credentials.azure_arc as their_arc
import azure.identity._credentials.imds as their_imds
import azure.identity._internal.user_agent
import azure.identity.aio
import azure.identity.aio._credentials.imds as their_async_imds
import pytest

import imds_identity
import imds_identity.aio
from imds_identity._engine.broker import Broker
from imds_identity._sources import arc
from imds_identity._wire import listener, secret_file
from imds_identity._wire.sender import USER_AGENT

if TYPE_CHECKING:
    from imds_identity._core.secret import Secret

# Why a test is left out, by a part of its id. Everything else must pass.
CONTRADICTS = "contradicts what this package promises"
INTERNALS = "is about azure-identity's own insides"
LEFT_OUT = {
    "test_managed_identity_async.py::test_azure_arc_key_not_exist": (
        "whether a path outside the agent's directory exists is not even looked at"
    ),
    "test_imds_credential_uses_custom_retry_policy": INTERNALS,
    "test_imds_retry_policy": INTERNALS,
    "test_log": INTERNALS,
    "test_claims_propagated": INTERNALS + ": a mocked MSAL client",
    "test_msal_managed_identity_error": INTERNALS + ": a mocked MSAL client",
    "test_validate_identity_config": INTERNALS,
    "test_enable_imds_probe": INTERNALS + ": an extra request before the first one",
    "test_imds_probe_enabled_in_chain": INTERNALS + ": an extra request before the first one",
    "test_retries": CONTRADICTS + ": 410 is retried for 70 s, not for a number of times",
    "test_client_id_none": "is about Cloud Shell in its second half",
    "TestImds": "needs recordings, which its source distribution has not",
    "test_imds_credential_async.py::test_cache": CONTRADICTS + ": an expired token is refused",
    "test_imds_credential_async.py::test_identity_config": CONTRADICTS + ": an unknown selector",
    "test_managed_identity_async.py::test_imds_text_response": CONTRADICTS + ": an empty scope",
}
_SUITE = (
    "test_imds_credential.py", "test_imds_credential_async.py", "test_managed_identity.py",
    "test_managed_identity_async.py", "test_azure_arc.py",
)  # fmt: skip
# Other hosts' tests, and Arc's where the fixture answers 200 with no challenge: that is refused.
_OTHER_HOSTS = (
    "app_service", "azure_ml", "cloud_shell", "service_fabric", "token_exchange",
)  # fmt: skip
_HOST_VARIABLES = {"IDENTITY_ENDPOINT", "MSI_ENDPOINT", "AZURE_FEDERATED_TOKEN_FILE"}


_VALIDATE_KEY_FILE = their_arc._validate_key_file
_READ_SECRET = secret_file.read_secret


class Clock:
    """A clock of 1970 in which waiting takes no time."""

    seconds = 1.0

    def now(self) -> float:
        return Clock.seconds

    tick = wall = now

    def sleep(self, seconds: float) -> None:
        Clock.seconds += seconds


class Broker1970:
    """One broker a test, so that nothing is left of the test before."""

    current: Broker

    @classmethod
    def renew(cls) -> None:
        Clock.seconds = 1.0
        cls.current = Broker(Clock(), lambda: 0.5)


def adapted(settings: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a test's constructor, as ours takes them."""
    settings.pop("_enable_imds_probe", None)
    Clock.seconds += 3  # a credential of theirs knows nothing of the failure before it
    return {**settings, "_broker": Broker1970.current}


def read_secret(path: str, directory: str) -> Secret:
    """Our own reader, in the directory that a test's patches of their private functions mean."""
    anywhere = their_arc._validate_key_file is not _VALIDATE_KEY_FILE
    return _READ_SECRET(path, os.path.dirname(path) if anywhere else their_arc._get_key_file_path())


class Credential(imds_identity.ManagedIdentityCredential):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**adapted(settings))


class AsyncCredential(imds_identity.aio.ManagedIdentityCredential):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**adapted(settings))


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
    # Their transports insist on the host as it was named; ours means 127.0.0.1 by localhost.
    arc._on_127 = lambda endpoint: endpoint


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
def _fresh() -> None:
    Broker1970.renew()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests for VM and Arc, and say which of them are left out and why."""
    kept, left = [], {}
    for item in items:
        if not _is_ours(item):
            continue
        reason = _reason(item)
        if reason:
            left[item.nodeid] = reason
        else:
            kept.append(item)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept
    if report := os.environ.get("LEFT_OUT_REPORT"):
        Path(report).write_text(json.dumps(left, indent=2))


def _is_ours(item: pytest.Item) -> bool:
    if item.path.name not in _SUITE or any(host in item.name for host in _OTHER_HOSTS):
        return False
    environ = _environ(item)
    return environ is None or not environ.keys() & _HOST_VARIABLES or "IMDS_ENDPOINT" in environ


def _reason(item: pytest.Item) -> str | None:
    environ = _environ(item)
    if environ and getattr(item, "originalname", None) in (
        "test_custom_hooks",
        "test_tenant_id",
        "test_claims_force_token_refresh",
    ):
        return CONTRADICTS + ": its Arc answers 200 with no challenge"
    return next((why for part, why in LEFT_OUT.items() if part in item.nodeid), None)


def _environ(item: pytest.Item) -> dict[str, str] | None:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("environ") if callspec else None
