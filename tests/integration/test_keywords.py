"""The keywords of azure-identity: their effect on requests, and which values are rejected."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import logging
import os
import pickle
import socket
import subprocess
import sys
import time
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from azure.core.pipeline.policies import (
    AsyncHTTPPolicy,
    HTTPPolicy,
    SansIOHTTPPolicy,
)
from azure.core.pipeline.transport import AioHttpTransport, RequestsTransport
from azure.core.settings import settings

import imds_identity.aio
from imds_identity import (
    CredentialUnavailableError,
    ManagedIdentityCredential,
    ManagedIdentityError,
)
from imds_identity._azure_core.keywords import Keywords
from imds_identity._platform.threads import join_all
from support import RawServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imds_identity.emulator import Emulator

SCOPE = "https://vault.azure.net/.default"
AIO = imds_identity.aio.ManagedIdentityCredential


def fetch_token(credential_type: Any, **settings: Any) -> str:
    """Return a token from a new credential; an async one runs in a new loop and is closed."""
    if credential_type is not AIO:
        return str(credential_type(**settings).get_token(SCOPE).token)

    async def main() -> str:
        async with credential_type(**settings) as credential:
            return str((await credential.get_token(SCOPE)).token)

    return asyncio.run(main())


BOTH_TYPES = pytest.mark.parametrize(
    "credential_type", [ManagedIdentityCredential, AIO], ids=["sync", "aio"]
)


class HeaderPolicy(SansIOHTTPPolicy[Any, Any]):
    def __init__(self) -> None:
        self.responses: list[int] = []

    def on_request(self, request: Any) -> None:
        request.http_request.headers["X-Added"] = "by-a-policy"

    def on_response(self, request: Any, response: Any) -> None:
        self.responses.append(response.http_response.status_code)


class WrappingPolicy(HTTPPolicy[Any, Any]):
    def send(self, request: Any) -> Any:
        request.http_request.headers["X-Wrapped"] = "yes"
        return self.next.send(request)


class AsyncWrappingPolicy(AsyncHTTPPolicy[Any, Any]):
    async def send(self, request: Any) -> Any:
        request.http_request.headers["X-Wrapped"] = "yes"
        await asyncio.sleep(0)
        return await self.next.send(request)


class TestRequests:
    @BOTH_TYPES
    def test_headers_are_sent(self, imds_emulator: Emulator, credential_type: Any) -> None:
        fetch_token(credential_type, headers={"X-One": "1"})
        assert imds_emulator.requests[-1].headers["x-one"] == "1"

    @BOTH_TYPES
    def test_user_agent_is_prepended(self, imds_emulator: Emulator, credential_type: Any) -> None:
        fetch_token(credential_type, user_agent="my-app/1.0")
        user_agent = imds_emulator.requests[-1].headers["user-agent"]
        assert user_agent.startswith("my-app/1.0 imds-identity/")

    def test_user_agent_can_replace_the_default(self, imds_emulator: Emulator) -> None:
        fetch_token(ManagedIdentityCredential, user_agent="my-app", user_agent_overwrite=True)
        assert imds_emulator.requests[-1].headers["user-agent"] == "my-app"

    def test_request_id_is_sent(self, imds_emulator: Emulator) -> None:
        fetch_token(ManagedIdentityCredential, request_id="an-id")
        assert imds_emulator.requests[-1].headers["x-ms-client-request-id"] == "an-id"

    @BOTH_TYPES
    @pytest.mark.parametrize("name", ["per_call_policies", "per_retry_policies", "policies"])
    def test_policies_see_each_request(
        self, imds_emulator: Emulator, credential_type: Any, name: str
    ) -> None:
        imds_emulator.fault(status=500, times=1)
        policy = HeaderPolicy()
        fetch_token(credential_type, **{name: [policy]}, retry_backoff_factor=0)
        assert policy.responses == [500, 200]
        assert imds_emulator.requests[-1].headers["x-added"] == "by-a-policy"

    def test_single_policy_is_accepted_without_a_list(self, imds_emulator: Emulator) -> None:
        fetch_token(ManagedIdentityCredential, per_call_policies=HeaderPolicy())
        assert imds_emulator.requests[-1].headers["x-added"] == "by-a-policy"

    @pytest.mark.parametrize("transport", [None, RequestsTransport])
    def test_policy_can_send_the_request(
        self, imds_emulator: Emulator, transport: Callable[[], Any] | None
    ) -> None:
        fetch_token(
            ManagedIdentityCredential,
            per_call_policies=[WrappingPolicy()],
            transport=transport and transport(),
        )
        assert imds_emulator.requests[-1].headers["x-wrapped"] == "yes"

    @pytest.mark.parametrize("transport", [None, AioHttpTransport])
    def test_async_policy_can_send_the_request(
        self, imds_emulator: Emulator, transport: Callable[[], Any] | None
    ) -> None:
        fetch_token(
            AIO, per_call_policies=[AsyncWrappingPolicy()], transport=transport and transport()
        )
        assert imds_emulator.requests[-1].headers["x-wrapped"] == "yes"

    def test_concurrent_requests_get_their_own_responses(self, imds_emulator: Emulator) -> None:
        """A policy stores its successor, so concurrent requests could swap their responses."""
        imds_emulator.fault(delay=0.3, times=2)
        credential = ManagedIdentityCredential(per_call_policies=[WrappingPolicy()])

        async def both() -> list[str]:
            calls = [
                asyncio.to_thread(credential.get_token, resource)
                for resource in ("https://vault.azure.net", "https://management.azure.com")
            ]
            return [token.token for token in await asyncio.gather(*calls)]

        one, two = asyncio.run(both())
        assert [audience_of(token) for token in (one, two)] == [
            "https://vault.azure.net",
            "https://management.azure.com",
        ]

    @BOTH_TYPES
    @pytest.mark.parametrize("kind", ["sync", "async"])
    def test_policy_of_the_wrong_kind_is_rejected(self, credential_type: Any, kind: str) -> None:
        policy = WrappingPolicy() if credential_type is AIO else AsyncWrappingPolicy()
        transport = AioHttpTransport() if credential_type is AIO else None
        with pytest.raises(TypeError, match="policy"):
            credential_type(per_call_policies=[policy], transport=transport)


class TestRetries:
    @BOTH_TYPES
    def test_retry_total_of_zero_sends_one_request(
        self, imds_emulator: Emulator, credential_type: Any
    ) -> None:
        imds_emulator.fault(status=500, times=9)
        with pytest.raises(ManagedIdentityError):
            fetch_token(credential_type, retry_total=0)
        assert len(imds_emulator.token_requests) == 1

    @BOTH_TYPES
    @pytest.mark.parametrize("transport", [False, True])
    def test_unresponsive_endpoint_fails_after_one_timeout(
        self, monkeypatch: pytest.MonkeyPatch, credential_type: Any, transport: bool
    ) -> None:
        # The address neither accepts nor refuses connections.
        with FullBacklog() as url:
            monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", url)
            kind: Any = AioHttpTransport if credential_type is AIO else RequestsTransport
            # The first call imports the transport, which takes time.
            expect_unavailable(credential_type, transport=kind() if transport else None)
            started = time.monotonic()
            expect_unavailable(
                credential_type,
                transport=kind() if transport else None,
                retry_total=0,
                connection_timeout=1,
            )
            assert time.monotonic() - started < 1.8  # two attempts would take two seconds

    def test_retry_status_limits_the_retries(self, imds_emulator: Emulator) -> None:
        imds_emulator.fault(status=503, times=7)
        with pytest.raises(ManagedIdentityError):
            fetch_token(ManagedIdentityCredential, retry_status=1, retry_backoff_factor=0)
        assert len(imds_emulator.token_requests) == 2

    def test_read_timeout_limits_a_request(self, imds_emulator: Emulator) -> None:
        imds_emulator.fault(delay=5, times=1)
        started = time.monotonic()
        with pytest.raises(ManagedIdentityError, match=r"no response within|no complete response"):
            fetch_token(ManagedIdentityCredential, retry_total=0, read_timeout=0.3)
        assert time.monotonic() - started < 4


def audience_of(token: str) -> str:
    payload = token.split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(payload + "=="))["aud"])


def expect_unavailable(credential_type: Any, **settings: Any) -> None:
    settings = {"retry_total": 0, "connection_timeout": 0.05, **settings}
    with pytest.raises(CredentialUnavailableError):
        fetch_token(
            credential_type,
            client_id=f"{len(settings)}-{settings['connection_timeout']}",
            **settings,
        )


class FullBacklog:
    """A port with a full backlog: it neither accepts nor refuses new connections."""

    def __enter__(self) -> str:
        import socket

        self._listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        port = self._listener.getsockname()[1]
        self._filled = []
        for _ in range(4):
            connection = socket.socket()
            connection.setblocking(False)
            connection.connect_ex(("127.0.0.1", port))
            self._filled.append(connection)
        return f"http://127.0.0.1:{port}"

    def __exit__(self, *_: object) -> None:
        for connection in (*self._filled, self._listener):
            connection.close()


class TestIgnoredKeywords:
    @BOTH_TYPES
    @pytest.mark.parametrize("name", ["proxies", "retry_policy_class", "headers_policy", "_cache"])
    def test_ignored_keyword_causes_a_warning(self, credential_type: Any, name: str) -> None:
        with pytest.warns(UserWarning, match=f"^{name} has no effect") as caught:
            credential_type(**{name: object()})
        assert Path(caught[0].filename) == Path(__file__)

    @pytest.mark.parametrize(
        "name",
        [
            "authority",
            "exclude_environment_credential",
            "_enable_imds_probe",
            "additionally_allowed_tenants",
            "disable_instance_discovery",
            "tenant_id",
        ],
    )
    def test_irrelevant_keyword_causes_no_warning(self, name: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            credential_type: Any = ManagedIdentityCredential
            credential_type(**{name: True})

    def test_authority_causes_a_warning_with_workload_identity(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("AZURE_TENANT_ID", "a-tenant")
        monkeypatch.setenv("AZURE_CLIENT_ID", "a-client")
        monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "token"))
        with pytest.warns(UserWarning, match="^authority has no effect"):
            ManagedIdentityCredential(authority="login.microsoftonline.us")

    @BOTH_TYPES
    def test_enable_cae_selects_another_token_only_with_workload_identity(
        self, credential_type: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        credential = credential_type()
        assert credential._entry((SCOPE,), None, True) == credential._entry((SCOPE,), None, False)
        monkeypatch.setenv("AZURE_TENANT_ID", "a-tenant")
        monkeypatch.setenv("AZURE_CLIENT_ID", "a-client")
        monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "token"))
        credential = credential_type()
        assert credential._entry((SCOPE,), None, True) != credential._entry((SCOPE,), None, False)

    def test_none_means_not_given(self) -> None:
        keywords: dict[str, Any] = dict.fromkeys(Keywords.__annotations__)
        assert repr(ManagedIdentityCredential(**keywords)) == "ManagedIdentityCredential()"


class TestServiceFabric:
    @pytest.fixture(autouse=True)
    def service_fabric_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("IDENTITY_ENDPOINT", "https://127.0.0.1:1/token")
        monkeypatch.setenv("IDENTITY_HEADER", "s3cret")
        monkeypatch.setenv("IDENTITY_SERVER_THUMBPRINT", "a" * 40)

    def test_transport_that_cannot_check_the_certificate_causes_a_warning(self) -> None:
        with pytest.warns(UserWarning, match="^transport is a AioHttpTransport") as caught:
            AIO(transport=AioHttpTransport(use_env_settings=False))
        assert Path(caught[0].filename) == Path(__file__)

    def test_requests_transport_causes_no_warning(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ManagedIdentityCredential(transport=RequestsTransport(), headers={"X": "1"})

    def test_transport_that_cannot_check_the_certificate_sends_nothing(self) -> None:
        with pytest.warns(UserWarning, match="transport"):
            credential = AIO(transport=AioHttpTransport(use_env_settings=False))

        async def main() -> None:
            async with credential:
                await credential.get_token(SCOPE)

        with pytest.raises(ManagedIdentityError, match="cannot check Service Fabric's certificate"):
            asyncio.run(main())


class TestInvalidArguments:
    @BOTH_TYPES
    def test_misspelled_keyword_is_rejected_with_a_suggestion(self, credential_type: Any) -> None:
        message = r"ManagedIdentityCredential\(\) .*'client_idd'; did you mean 'client_id'\?"
        with pytest.raises(TypeError, match=message):
            credential_type(client_idd="x")

    @BOTH_TYPES
    def test_positional_argument_is_rejected(self, credential_type: Any) -> None:
        with pytest.raises(TypeError, match="positional argument"):
            credential_type("a-client-id")

    @BOTH_TYPES
    def test_help_shows_no_internals(self, credential_type: Any) -> None:
        signature = inspect.signature(credential_type)
        assert [each for each in signature.parameters if each.startswith("_")] == []
        assert {each.kind.name for each in signature.parameters.values()} == {
            "KEYWORD_ONLY", "VAR_KEYWORD",
        }  # fmt: skip

    def test_hook_must_be_callable(self) -> None:
        with pytest.raises(TypeError, match="on_event must be a callable"):
            ManagedIdentityCredential(on_event="x")  # type: ignore[arg-type]


def test_keywords_page_lists_all_keywords() -> None:
    page = (Path(__file__).parents[2] / "docs/keywords.md").read_text()
    own = inspect.signature(ManagedIdentityCredential).parameters.keys() - {"options"}
    known = own | Keywords.__annotations__.keys() - {"_token_cache"}
    assert not [name for name in sorted(known) if f"`{name}`" not in page]


class TestPathsAndCache:
    @pytest.mark.parametrize("value", [False, "off", "OFF", "0", "None", "no", "False"])
    def test_cache_can_be_turned_off(
        self,
        imds_emulator: Emulator,
        value: Any,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        credential = ManagedIdentityCredential(cache=value)
        assert credential._client.shared_cache is None
        assert credential.get_token(SCOPE).token
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("value", [True, "on", "TRUE", "1"])
    def test_cache_can_be_turned_on(self, imds_emulator: Emulator, value: Any) -> None:
        shared_cache = ManagedIdentityCredential(cache=value)._client.shared_cache
        assert shared_cache is not None

    @pytest.mark.parametrize("value", [0, 1, 3.5, b"/x", ["/x"], ""])
    def test_invalid_cache_value_is_rejected(self, value: Any) -> None:
        with pytest.raises(ValueError, match="cache must be False, a directory or 'off'"):
            ManagedIdentityCredential(cache=value)

    def test_path_objects_are_accepted(self, arc_emulator: Emulator, tmp_path: Path) -> None:
        directory = arc_emulator.tokens_directory
        assert directory is not None
        credential = ManagedIdentityCredential(
            arc_tokens_directory=Path(directory), cache=tmp_path / "cache"
        )
        assert credential.get_token(SCOPE).token
        assert pickle.loads(pickle.dumps(credential)).get_token(SCOPE).token

    def test_list_of_scopes_is_rejected(self) -> None:
        with pytest.raises(ValueError, match="a scope must be a string, not a list"):
            ManagedIdentityCredential().get_token([SCOPE])  # type: ignore[arg-type]


class TestReprAndPickle:
    def test_headers_are_hidden_in_repr_and_kept_in_pickle(self) -> None:
        credential = ManagedIdentityCredential(headers={"X-Key": "s3cret"}, retry_total=2)
        assert repr(credential) == "ManagedIdentityCredential(retry_total=2)"
        restored = pickle.loads(pickle.dumps(credential))
        assert restored._settings == credential._settings

    def test_pickle_error_names_the_settings_that_cannot_be_pickled(self) -> None:
        with pytest.raises(TypeError, match="own on_event and per_call_policies cannot"):
            pickle.dumps(
                ManagedIdentityCredential(on_event=print, per_call_policies=[HeaderPolicy()])
            )


class TestLogging:
    def test_logging_enable_logs_each_request(
        self, arc_emulator: Emulator, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG, "imds_identity")
        credential = ManagedIdentityCredential(
            logging_enable=True, arc_tokens_directory=arc_emulator.tokens_directory
        )
        token = credential.get_token(SCOPE).token
        join_all(10)  # requests are logged after the call has returned
        lines = [message for message in caplog.messages if message.startswith("GET ")]
        assert [line.split(", ")[0].rsplit(": ")[-1] for line in lines] == ["401", "200"]
        assert token not in caplog.text
        for key in Path(str(arc_emulator.tokens_directory)).glob("*.key"):
            assert key.read_text() not in caplog.text

    @pytest.mark.parametrize(
        ("listens", "reason", "outcome"),
        [(False, "unreachable", "ConnectFailed"), (True, "no-response", "ReadFailed")],
    )
    def test_failing_network_is_logged_and_its_reason_is_raised(
        self,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        listens: bool,
        reason: str,
        outcome: str,
    ) -> None:
        caplog.set_level(logging.DEBUG, "imds_identity")
        with RawServer(b"") as server, socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            url = server.url if listens else f"http://127.0.0.1:{closed.getsockname()[1]}"
            monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", url)
            credential = ManagedIdentityCredential(logging_enable=True, retry_total=0)
            with pytest.raises(ManagedIdentityError) as caught:
                credential.get_token(SCOPE)
        assert caught.value.reason_code == reason
        [line] = wait_for(lambda: [r for r in caplog.messages if r.startswith("GET ")])
        assert line.endswith(f": {outcome}")

    def test_echoed_secret_is_not_logged(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG, "imds_identity")
        response = (
            b"HTTP/1.1 400 No\r\nContent-Type: s3cret-of-this-app\r\nContent-Length: 0\r\n\r\n"
        )
        with RawServer(response) as server:
            monkeypatch.setenv("IDENTITY_ENDPOINT", server.url)
            monkeypatch.setenv("IDENTITY_HEADER", "s3cret-of-this-app")
            with pytest.raises(ManagedIdentityError):
                ManagedIdentityCredential(logging_enable=True).get_token(SCOPE)
        wait_for(lambda: [r for r in caplog.messages if r.startswith("GET ")])
        assert "s3cret-of-this-app" not in caplog.text


def wait_for(condition: Callable[[], Any]) -> Any:
    """Wait until ``condition()`` is true: log lines are written after the call has returned."""
    for _ in range(500):
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError("the condition did not become true")


class Span:
    """A span of a fake tracing plug-in for azure-core."""

    all: ClassVar[list[Span]] = []

    def __init__(self, span: Any = None, name: str = "span", **_: Any) -> None:
        self.name = name
        self.span_instance = span or self
        self.attributes: dict[str, Any] = {}
        self.finished = False
        Span.all.append(self)

    def add_attribute(self, key: str, value: Any) -> None:
        self.attributes[key] = value

    def set_http_attributes(self, request: Any, response: Any = None) -> None:
        self.attributes["status"] = response and response.status_code

    def to_header(self) -> dict[str, str]:
        return {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}

    def start(self) -> None:
        """Older versions of azure-core call this."""

    def finish(self) -> None:
        self.finished = True

    def __exit__(self, *_: object) -> None:
        self.finish()

    @classmethod
    def change_context(cls, span: Any) -> Any:
        return nullcontext()


@pytest.fixture
def spans() -> Iterator[list[Span]]:
    Span.all.clear()
    settings.tracing_enabled.set_value(True)
    span: Any = Span
    settings.tracing_implementation.set_value(span)
    yield Span.all
    settings.tracing_enabled.unset_value()
    settings.tracing_implementation.unset_value()


class TestTracing:
    @BOTH_TYPES
    def test_each_request_has_a_span(
        self, imds_emulator: Emulator, spans: list[Span], credential_type: Any
    ) -> None:
        imds_emulator.fault(status=500, times=1)
        fetch_token(credential_type, retry_backoff_factor=0)
        assert [(span.attributes["status"], span.finished) for span in spans] == [
            (500, True),
            (200, True),
        ]
        assert imds_emulator.requests[-1].headers["traceparent"].startswith("00-0af7")

    def test_span_contains_no_secret(self, arc_emulator: Emulator, spans: list[Span]) -> None:
        fetch_token(ManagedIdentityCredential, arc_tokens_directory=arc_emulator.tokens_directory)
        assert len(spans) == 2
        text = str([span.attributes for span in spans])
        for key in Path(str(arc_emulator.tokens_directory)).glob("*.key"):
            assert key.read_text() not in text
        assert "eyJ" not in text

    def test_environment_variable_turns_tracing_on(self, imds_emulator: Emulator) -> None:
        script = """
import sys
from imds_identity import ManagedIdentityCredential
assert "azure.core.settings" not in sys.modules
print(ManagedIdentityCredential()._sender() is not None)
"""
        environment = {**os.environ, **imds_emulator.environment(), "AZURE_TRACING_ENABLED": "yes"}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        assert done.stdout.strip() == "True"

    def test_pipeline_is_not_used_without_tracing(self, imds_emulator: Emulator) -> None:
        assert ManagedIdentityCredential()._sender() is None
