"""Tests of each app platform, configured by its environment, against its documented behavior."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.core.pipeline.transport import RequestsTransport
from documented_hosts import (
    ASSERTION,
    CLIENT,
    HOSTS,
    RESOURCE,
    SECRET,
    ContainerInstances,
    DocumentedHost,
)

import imds_identity
import imds_identity.aio
from imds_identity import (
    ManagedIdentityCredential,
    ManagedIdentityError,
    TokenRefusedError,
)
from imds_identity._platform.clock import SYSTEM_CLOCK
from support import TlsServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from imds_identity.emulator import Emulator
    from imds_identity.telemetry import Event

SCOPE = f"{RESOURCE}/.default"
NAMES = pytest.mark.parametrize("name", sorted(HOSTS))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:

        def start(name: str) -> DocumentedHost:
            host: DocumentedHost = stack.enter_context(HOSTS[name].over(tmp_path))
            for variable, value in host.variables().items():
                monkeypatch.setenv(variable, value)
            if isinstance(host, TlsServer):
                monkeypatch.setenv("REQUESTS_CA_BUNDLE", host.certificates)
            return host

        yield start


@NAMES
def test_request_follows_the_host_documentation(host: Any, name: str) -> None:
    asked = host(name)
    before = SYSTEM_CLOCK.wall()
    token = ManagedIdentityCredential().get_token(SCOPE)
    assert asked.problems == []
    assert token.token.startswith("token-")
    assert token.expires_on >= before + 3500
    assert len(asked.requests) == 1
    assert ManagedIdentityCredential().get_token(SCOPE) is token
    assert len(asked.requests) == 1


@NAMES
def test_async_credential_sends_the_same_request(host: Any, name: str) -> None:
    asked = host(name)
    credential = imds_identity.aio.ManagedIdentityCredential()
    assert asyncio.run(credential.get_token(SCOPE)).token.startswith("token-")
    assert asked.problems == []


@pytest.mark.parametrize(
    ("name", "settings", "whose"),
    [
        ("app-service", {"client_id": "c"}, "c"),
        ("app-service", {"object_id": "o"}, "o"),
        ("app-service", {"resource_id": "/r"}, "/r"),
        ("app-service", {"identity_config": {"mi_res_id": "/r"}}, "/r"),
        ("azure-ml", {"client_id": "c"}, "c"),
        ("azure-ml", {"identity_config": {"client_id": "c"}}, "c"),
        ("workload-identity", {}, CLIENT),
        ("workload-identity", {"client_id": "c"}, "c"),
        ("workload-identity", {"identity_config": {"client_id": "c"}}, "c"),
    ],
)
def test_selector_selects_the_identity(
    host: Any, name: str, settings: dict[str, Any], whose: str
) -> None:
    asked = host(name)
    token = ManagedIdentityCredential(**settings).get_token(SCOPE)
    assert (token.token, asked.problems) == (f"token-of-{whose}", [])


def test_service_fabric_selects_an_identity_by_its_object_id(host: Any) -> None:
    asked = host("service-fabric")
    assert ManagedIdentityCredential(object_id="o").get_token(SCOPE).token == "token-of-o-1"
    assert asked.problems == []


@pytest.mark.parametrize(
    ("settings", "token"), [({}, "token-of-the-app"), ({"object_id": "o"}, "token-of-o")]
)
def test_container_instances_on_windows(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], token: str
) -> None:
    with ContainerInstances() as host:
        monkeypatch.delenv("IMDS_IDENTITY_ENDPOINT", raising=False)
        for variable, value in host.variables().items():
            monkeypatch.setenv(variable, value)
        with monkeypatch.context() as windows:
            windows.setattr(sys, "platform", "win32")
            credential = ManagedIdentityCredential(**settings)
            with pytest.raises(ValueError, match="by object_id only"):
                ManagedIdentityCredential(client_id="c")
        assert credential.get_token(SCOPE).token == token
        assert host.problems == []


def test_azure_ml_uses_its_default_identity(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a client ID, it may return a token of the user who is signed in."""
    asked = host("azure-ml")
    monkeypatch.setenv("DEFAULT_IDENTITY_CLIENT_ID", "the-default")
    assert ManagedIdentityCredential().get_token(SCOPE).token == "token-of-the-default"
    same, other = (
        ManagedIdentityCredential(client_id=client_id) for client_id in ("The-Default", "c")
    )
    assert same.get_token(SCOPE).token == "token-of-the-default"
    assert other.get_token(SCOPE).token == "token-of-c"
    assert len(asked.requests) == 2
    with pytest.raises(ManagedIdentityError, match="as client_id 'the-default'"):
        ManagedIdentityCredential().get_token("https://other/.default")
    # Azure ML sets this value if there is no managed identity, and ignores it in requests.
    monkeypatch.setenv("DEFAULT_IDENTITY_CLIENT_ID", "clientid")
    assert ManagedIdentityCredential().get_token(SCOPE).token == "token-of-the-app"


@pytest.mark.parametrize(
    "settings", [{"object_id": "o"}, {"identity_config": {"resource_id": "r"}}]
)
def test_azure_ml_refuses_selectors_that_it_would_ignore(
    host: Any, settings: dict[str, Any]
) -> None:
    asked = host("azure-ml")
    with pytest.raises(ValueError, match="selects an identity by client_id only"):
        ManagedIdentityCredential(**settings)
    assert asked.requests == []


@pytest.mark.parametrize("name", ["azure-ml", "service-fabric"])
def test_cae_is_requested_where_the_host_supports_it(host: Any, name: str) -> None:
    asked = host(name)
    credential = ManagedIdentityCredential()
    credential.get_token(SCOPE)
    credential.get_token(SCOPE, enable_cae=True)
    sent = [b"xms_cc=cp1" in request for request in asked.requests]
    assert sent == ([False, True] if name == "service-fabric" else [False])
    assert asked.problems == []


def test_workload_identity_errors_name_the_client_id(host: Any) -> None:
    host("workload-identity")
    with pytest.raises(ManagedIdentityError) as caught:
        ManagedIdentityCredential().get_token("https://other/.default")
    assert f"as client_id '{CLIENT}'" in str(caught.value)
    assert f"Does client_id '{CLIENT}' have a federated credential" in str(caught.value)
    assert "system-assigned" not in str(caught.value)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("name", ["app-service", "azure-ml", "cloud-shell", "service-fabric"])
@pytest.mark.parametrize(
    "make",
    [imds_identity.ManagedIdentityCredential, imds_identity.aio.ManagedIdentityCredential],
)
def test_unused_azure_client_id_is_logged_once(
    host: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    make: Any,
) -> None:
    host(name)
    monkeypatch.setenv("AZURE_CLIENT_ID", "the-other-one")
    make()
    make()
    [message] = warnings_of(caplog)
    assert "AZURE_CLIENT_ID='the-other-one' is set but not used" in message
    has_selector = name in ("app-service", "azure-ml")
    assert ("pass it as client_id" in message) == has_selector
    assert ("cannot select an identity by client_id" in message) == (not has_selector)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("app-service", {"client_id": "c"}),
        ("app-service", {"object_id": "o"}),
        ("workload-identity", {}),
        ("azure-ml", {}),
    ],
)
def test_azure_client_id_that_is_used_is_not_logged(
    host: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    settings: dict[str, Any],
) -> None:
    host(name)
    monkeypatch.setenv("AZURE_CLIENT_ID", CLIENT)
    monkeypatch.setenv("DEFAULT_IDENTITY_CLIENT_ID", CLIENT.upper())
    ManagedIdentityCredential(**settings)
    assert warnings_of(caplog) == []


def test_errors_name_the_unused_azure_client_id(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    host("app-service")
    monkeypatch.setenv("AZURE_CLIENT_ID", "the-other-one")
    with pytest.raises(ManagedIdentityError) as caught:
        ManagedIdentityCredential().get_token("https://other/.default")
    assert "as system-assigned identity (AZURE_CLIENT_ID='the-other-one' is set" in str(
        caught.value
    )
    with pytest.raises(ManagedIdentityError) as caught:
        ManagedIdentityCredential(client_id="c").get_token("https://other/.default")
    assert "AZURE_CLIENT_ID" not in str(caught.value)


def test_cloud_shell_has_no_identity_to_select(host: Any) -> None:
    asked = host("cloud-shell")
    for settings in ({"client_id": "c"}, {"identity_config": {"object_id": "o"}}):
        with pytest.raises(ValueError, match="Cloud Shell issues tokens for its own user only"):
            ManagedIdentityCredential(**settings)
    ManagedIdentityCredential(client_id="", identity_config={"object_id": None})
    assert asked.requests == []


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("service-fabric", {"client_id": "c"}),
        ("service-fabric", {"resource_id": "/r"}),
        ("workload-identity", {"object_id": "o"}),
        ("workload-identity", {"resource_id": "/r"}),
    ],
)
def test_unsupported_selector_is_refused_before_any_request(
    host: Any, name: str, settings: dict[str, Any]
) -> None:
    asked = host(name)
    with pytest.raises(ManagedIdentityError, match="cannot select an identity by"):
        ManagedIdentityCredential(**settings).get_token(SCOPE)
    assert asked.requests == []


@NAMES
def test_refusal_contains_the_error_text_and_no_secret(host: Any, name: str) -> None:
    host(name)
    with pytest.raises(ManagedIdentityError, match=r"returned HTTP 400: .*https://other") as caught:
        ManagedIdentityCredential().get_token("https://other/.default")
    assert SECRET not in str(caught.value)
    assert ASSERTION not in str(caught.value)


@pytest.mark.parametrize("name", ["service-fabric", "workload-identity"])
def test_claims_reach_the_hosts_that_take_them(host: Any, name: str) -> None:
    claims = '{"access_token": {"nbf": {"value": "1"}}}'
    asked = host(name)
    credential = ManagedIdentityCredential()
    first = credential.get_token(SCOPE)
    # Another credential of this process may have fetched the token that was refused.
    ManagedIdentityCredential().get_token(SCOPE, claims=claims)
    refused = hashlib.sha256(first.token.encode()).hexdigest()
    assert asked.claims == ["", refused if name == "service-fabric" else claims]
    assert asked.problems == []


class Counting(RequestsTransport):  # type: ignore[misc]
    """A transport of a user's own kind."""

    sent = 0

    def send(self, request: Any, **options: Any) -> Any:
        self.sent += 1
        return super().send(request, **options)


@pytest.mark.parametrize("name", sorted(HOSTS.keys() - {"service-fabric"}))
def test_transport_of_the_caller_works_for_every_host(host: Any, name: str) -> None:
    asked = host(name)
    transport = Counting()
    seen: list[Any] = []
    credential = ManagedIdentityCredential(transport=transport, raw_request_hook=seen.append)
    assert credential.get_token(SCOPE).token.startswith("token-")
    assert (transport.sent, len(seen), asked.problems) == (1, 1, [])


@NAMES
def test_hooks_and_plain_transports_work_for_every_host(host: Any, name: str) -> None:
    asked = host(name)
    seen: list[Any] = []
    for settings in ({}, {"transport": RequestsTransport()}):
        credential = ManagedIdentityCredential(
            raw_response_hook=lambda answer: seen.append(answer.http_response.status_code),
            **settings,
        )
        assert credential.get_token(SCOPE).token.startswith("token-")
        imds_identity.clear_cache()
    assert (seen, asked.problems) == ([200, 200], [])


@pytest.mark.parametrize("name", ["service-fabric", "workload-identity"])
def test_untrusted_certificate_is_not_retried(
    host: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    asked = host(name)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    if name == "service-fabric":
        monkeypatch.setenv("IDENTITY_SERVER_THUMBPRINT", "ab" * 20)
    with pytest.raises(TokenRefusedError, match="certificate") as caught:  # ends a chain
        ManagedIdentityCredential().get_token(SCOPE)
    assert (caught.value.attempts, asked.requests) == (1, [])


def test_transport_that_cannot_check_the_certificate_gets_no_secret(
    host: Any,
) -> None:
    asked = host("service-fabric")
    transport = Counting()
    with pytest.warns(UserWarning, match="^transport is a Counting"):
        credential = ManagedIdentityCredential(transport=transport)
    with pytest.raises(ManagedIdentityError, match=r"Counting cannot check .* thumbprint"):
        credential.get_token(SCOPE)
    assert (transport.sent, asked.requests) == (0, [])


def test_source_named_by_the_environment_is_final(host: Any, tmp_path: Path) -> None:
    first = host("app-service")
    credential = ManagedIdentityCredential()
    other = host("app-service")
    credential.get_token(SCOPE)
    assert (len(first.requests), len(other.requests)) == (1, 0)


def test_credential_re_detects_its_host_once(
    monkeypatch: pytest.MonkeyPatch, emulator_factory: Callable[..., Emulator]
) -> None:
    """As a module's credential does, and the fixture of a test of that module."""
    monkeypatch.delenv("AZURE_POD_IDENTITY_AUTHORITY_HOST")
    credential = ManagedIdentityCredential()
    first, other = emulator_factory(), emulator_factory()
    for emulator in (first, other):
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        credential.get_token(SCOPE)
        imds_identity.clear_cache()
    assert (len(first.token_requests), len(other.token_requests)) == (2, 0)


def test_re_detected_host_and_unused_client_id_are_logged(
    monkeypatch: pytest.MonkeyPatch, host: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "imds_identity")
    monkeypatch.delenv("AZURE_POD_IDENTITY_AUTHORITY_HOST")
    credential = ManagedIdentityCredential()
    assert "Azure VM (IMDS)" in caplog.text
    caplog.clear()
    host("app-service")
    monkeypatch.setenv("AZURE_CLIENT_ID", "the-other-one")
    for _ in range(2):
        credential.get_token(SCOPE)
        imds_identity.clear_cache()
    texts = [
        record.message
        for record in caplog.records
        if record.levelname != "DEBUG" and "fetched" not in record.message
    ]
    assert ["will use App Service" in text for text in texts] == [True, False]
    assert "AZURE_CLIENT_ID='the-other-one' is set but not used" in texts[1]


def test_selector_is_checked_again_after_re_detection(
    monkeypatch: pytest.MonkeyPatch, host: Any
) -> None:
    monkeypatch.delenv("AZURE_POD_IDENTITY_AUTHORITY_HOST")
    credential = ManagedIdentityCredential(client_id="c")
    host("cloud-shell")
    with pytest.raises(ValueError, match="Cloud Shell"):
        credential.get_token(SCOPE)


@pytest.mark.parametrize(
    "make",
    [
        imds_identity.ManagedIdentityCredential,
        imds_identity.aio.ManagedIdentityCredential,
    ],
)
def test_warning_points_to_the_line_of_the_constructor(make: Any) -> None:
    with pytest.warns(UserWarning, match="unknown key 'foo'") as warned:
        make(identity_config={"object_id": "o", "foo": "bar"})
    assert [warning.filename for warning in warned] == [__file__]


FACES = pytest.mark.parametrize(
    "face",
    [ManagedIdentityCredential, imds_identity.aio.ManagedIdentityCredential],
    ids=["sync", "aio"],
)


def ask(face: Any, **settings: Any) -> str:
    """A token by either face."""
    credential = face(**settings)
    if face is ManagedIdentityCredential:
        return str(credential.get_token(SCOPE).token)
    return str(asyncio.run(credential.get_token(SCOPE)).token)


@NAMES
@FACES
def test_keywords_work_for_every_host(
    host: Any, name: str, face: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Policy(SansIOHTTPPolicy[Any, Any]):
        def on_request(self, request: Any) -> None:
            request.http_request.headers["X-Policy"] = "yes"

    caplog.set_level(logging.DEBUG, "imds_identity")
    asked = host(name)
    events: list[Event] = []
    told = threading.Event()

    def hook(event: Event) -> None:
        events.append(event)
        told.set()

    ask(
        face,
        headers={"X-Header": "yes"},
        user_agent="my-app",
        per_call_policies=[Policy()],
        logging_enable=True,
        on_event=hook,
    )
    head = str(asked.requests[0]).lower()
    assert all(words in head for words in ("x-header", "x-policy", "my-app imds-identity/"))
    assert asked.problems == []
    assert told.wait(10)
    assert [(event.name, event.source, event.outcome) for event in events] == [
        ("fetch", name, "fetched")
    ]
    assert ": 200, " in caplog.text
    for secret in (SECRET, ASSERTION, "token-"):
        assert secret not in caplog.text


@pytest.mark.parametrize("verify", [True, False])
def test_certificates_of_the_workload_environment_are_used(
    host: Any, monkeypatch: pytest.MonkeyPatch, verify: bool
) -> None:
    asked = host("workload-identity")
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    if verify:
        assert ask(ManagedIdentityCredential, connection_verify=asked.certificates)
    else:
        with pytest.raises(TokenRefusedError, match="certificate"):
            ask(ManagedIdentityCredential, connection_verify=True)
    assert asked.problems == []
