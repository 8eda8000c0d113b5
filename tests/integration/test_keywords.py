"""azure-identity's keywords, each by what it does on the wire, and what is refused."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import logging
import os
import pickle
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
    RetryPolicy,
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
from imds_identity._azure_core.keywords import Keywords, retry_options_of
from imds_identity._platform.threads import join_all
from support import RawServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imds_identity.emulator import Emulator

SCOPE = "https://vault.azure.net/.default"
AIO = imds_identity.aio.ManagedIdentityCredential


def ask(face: Any, **settings: Any) -> str:
    """A token by either face; the async one has a loop and closes what it was given."""
    if face is not AIO:
        return str(face(**settings).get_token(SCOPE).token)

    async def main() -> str:
        async with face(**settings) as credential:
            return str((await credential.get_token(SCOPE)).token)

    return asyncio.run(main())


FACES = pytest.mark.parametrize("face", [ManagedIdentityCredential, AIO], ids=["sync", "aio"])


class Adds(SansIOHTTPPolicy[Any, Any]):
    def __init__(self) -> None:
        self.responses: list[int] = []

    def on_request(self, request: Any) -> None:
        request.http_request.headers["X-Added"] = "by-a-policy"

    def on_response(self, request: Any, response: Any) -> None:
        self.responses.append(response.http_response.status_code)


class Wraps(HTTPPolicy[Any, Any]):
    def send(self, request: Any) -> Any:
        request.http_request.headers["X-Wrapped"] = "yes"
        return self.next.send(request)


class WrapsAsync(AsyncHTTPPolicy[Any, Any]):
    async def send(self, request: Any) -> Any:
        request.http_request.headers["X-Wrapped"] = "yes"
        await asyncio.sleep(0)
        return await self.next.send(request)


class TestWhatIsSent:
    @FACES
    def test_headers(self, imds_emulator: Emulator, face: Any) -> None:
        ask(face, headers={"X-One": "1"})
        assert imds_emulator.requests[-1].headers["x-one"] == "1"

    @FACES
    def test_a_user_agent(self, imds_emulator: Emulator, face: Any) -> None:
        ask(face, user_agent="my-app/1.0")
        said = imds_emulator.requests[-1].headers["user-agent"]
        assert said.startswith("my-app/1.0 imds-identity/")

    def test_a_user_agent_alone(self, imds_emulator: Emulator) -> None:
        ask(ManagedIdentityCredential, user_agent="my-app", user_agent_overwrite=True)
        assert imds_emulator.requests[-1].headers["user-agent"] == "my-app"

    def test_a_request_id(self, imds_emulator: Emulator) -> None:
        ask(ManagedIdentityCredential, request_id="an-id")
        assert imds_emulator.requests[-1].headers["x-ms-client-request-id"] == "an-id"

    @FACES
    @pytest.mark.parametrize("name", ["per_call_policies", "per_retry_policies", "policies"])
    def test_policies_see_each_request(self, imds_emulator: Emulator, face: Any, name: str) -> None:
        imds_emulator.fault(status=500, times=1)
        policy = Adds()
        ask(face, **{name: [policy]}, retry_backoff_factor=0)
        assert policy.responses == [500, 200]
        assert imds_emulator.requests[-1].headers["x-added"] == "by-a-policy"

    def test_a_policy_need_be_in_no_list(self, imds_emulator: Emulator) -> None:
        ask(ManagedIdentityCredential, per_call_policies=Adds())
        assert imds_emulator.requests[-1].headers["x-added"] == "by-a-policy"

    @pytest.mark.parametrize("transport", [None, RequestsTransport])
    def test_a_policy_may_do_the_sending(
        self, imds_emulator: Emulator, transport: Callable[[], Any] | None
    ) -> None:
        ask(
            ManagedIdentityCredential,
            per_call_policies=[Wraps()],
            transport=transport and transport(),
        )
        assert imds_emulator.requests[-1].headers["x-wrapped"] == "yes"

    @pytest.mark.parametrize("transport", [None, AioHttpTransport])
    def test_an_async_policy_may_do_the_sending(
        self, imds_emulator: Emulator, transport: Callable[[], Any] | None
    ) -> None:
        ask(AIO, per_call_policies=[WrapsAsync()], transport=transport and transport())
        assert imds_emulator.requests[-1].headers["x-wrapped"] == "yes"

    def test_nobody_gets_the_answer_to_another_s_request(self, imds_emulator: Emulator) -> None:
        """A policy knows its next one; with a pipeline a request, threads would exchange theirs."""
        imds_emulator.fault(delay=0.3, times=2)
        credential = ManagedIdentityCredential(per_call_policies=[Wraps()])

        async def both() -> list[str]:
            got = [
                asyncio.to_thread(credential.get_token, resource)
                for resource in ("https://vault.azure.net", "https://management.azure.com")
            ]
            return [token.token for token in await asyncio.gather(*got)]

        one, two = asyncio.run(both())
        assert [audience_of(token) for token in (one, two)] == [
            "https://vault.azure.net",
            "https://management.azure.com",
        ]

    @FACES
    @pytest.mark.parametrize("kind", ["sync", "async"])
    def test_a_policy_of_the_other_kind_is_refused_at_once(self, face: Any, kind: str) -> None:
        policy = Wraps() if face is AIO else WrapsAsync()
        transport = AioHttpTransport() if face is AIO else None
        with pytest.raises(TypeError, match="policy"):
            face(per_call_policies=[policy], transport=transport)


class TestRetries:
    @FACES
    def test_one_request_is_one(self, imds_emulator: Emulator, face: Any) -> None:
        imds_emulator.fault(status=500, times=9)
        with pytest.raises(ManagedIdentityError):
            ask(face, retry_total=0)
        assert len(imds_emulator.token_requests) == 1

    @FACES
    @pytest.mark.parametrize("transport", [False, True])
    def test_where_nothing_answers_it_is_over_after_one_time_out(
        self, monkeypatch: pytest.MonkeyPatch, face: Any, transport: bool
    ) -> None:
        # An address that takes no connection and refuses none.
        with full_server() as url:
            monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", url)
            kind: Any = AioHttpTransport if face is AIO else RequestsTransport
            ask_nobody(face, transport=kind() if transport else None)  # imports what it needs
            started = time.monotonic()
            ask_nobody(
                face,
                transport=kind() if transport else None,
                retry_total=0,
                connection_timeout=1,
            )
            assert time.monotonic() - started < 1.8  # two would take two seconds

    def test_more_retries_than_usual(self, imds_emulator: Emulator) -> None:
        imds_emulator.fault(status=503, times=7)
        with pytest.raises(ManagedIdentityError):
            ask(ManagedIdentityCredential, retry_status=1, retry_backoff_factor=0)
        assert len(imds_emulator.token_requests) == 2

    def test_one_request_may_be_given_less_time(self, imds_emulator: Emulator) -> None:
        imds_emulator.fault(delay=5, times=1)
        started = time.monotonic()
        with pytest.raises(ManagedIdentityError, match=r"no response within|no complete response"):
            ask(ManagedIdentityCredential, retry_total=0, read_timeout=0.3)
        assert time.monotonic() - started < 4

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"retry_total": -1}, "retry_total must be a number of 0 or more"),
            ({"retry_total": "3"}, "retry_total"),
            ({"connection_timeout": 0}, "connection_timeout must be a number above 0"),
            ({"read_timeout": True}, "read_timeout"),
            ({"timeout": float("nan")}, "timeout"),
            ({"retry_backoff_factor": -0.1}, "retry_backoff_factor"),
            ({"retry_mode": "sometimes"}, "retry_mode must be 'exponential' or 'fixed'"),
            ({"retry_on_status_codes": 503}, "retry_on_status_codes"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, wrong: dict[str, Any], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            ManagedIdentityCredential(**wrong)

    def test_azure_core_s_words_for_a_mode_are_understood(self) -> None:
        from azure.core.pipeline.policies import RetryMode

        assert retry_options_of({"retry_mode": RetryMode.Fixed}).growth == 1
        assert retry_options_of({"retry_mode": "Exponential"}).growth is None

    @pytest.mark.parametrize(
        ("wanted", "whole"),
        [
            ({}, None),
            ({"connection_timeout": 1}, None),
            ({"read_timeout": 5}, 5),
            ({"read_timeout": 5, "connection_timeout": 1}, 6),
            ({"connection_timeout": 30}, 40),
            ({"read_timeout": 1e9, "connection_timeout": 1e9}, 120),
        ],
    )
    def test_a_request_has_the_time_of_its_parts(
        self, wanted: dict[str, float], whole: float | None
    ) -> None:
        assert retry_options_of(wanted).request_seconds == whole

    def test_arc_s_challenge_is_no_reason_to_ask_again(self) -> None:
        wanted = retry_options_of({"retry_on_status_codes": [200, 401, 418]})
        assert wanted.statuses == frozenset({418})


def audience_of(token: str) -> str:
    payload = token.split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(payload + "=="))["aud"])


def ask_nobody(face: Any, **settings: Any) -> None:
    settings = {"retry_total": 0, "connection_timeout": 0.05, **settings}
    with pytest.raises(CredentialUnavailableError):
        ask(face, client_id=f"{len(settings)}-{settings['connection_timeout']}", **settings)


class full_server:  # noqa: N801 - used as a statement
    """A port whose queue of connections is full: who connects hears nothing."""

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


class TestWhatHasNoEffect:
    @FACES
    @pytest.mark.parametrize("name", ["proxies", "retry_policy_class", "headers_policy", "_cache"])
    def test_it_is_accepted_with_a_warning(self, face: Any, name: str) -> None:
        with pytest.warns(UserWarning, match=f"^{name} has no effect") as caught:
            face(**{name: object()})
        assert Path(caught[0].filename) == Path(__file__)

    def test_one_warning_names_all(self) -> None:
        with pytest.warns(UserWarning, match="^proxies, retry_policy have no effect") as caught:
            ManagedIdentityCredential(retry_policy=RetryPolicy(), proxies={"http": "x"})
        assert len(caught) == 1

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
    def test_what_is_not_missed_is_accepted_in_silence(self, name: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            face: Any = ManagedIdentityCredential
            face(**{name: True})

    def test_an_authority_is_missed_where_tokens_come_from_one(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("AZURE_TENANT_ID", "a-tenant")
        monkeypatch.setenv("AZURE_CLIENT_ID", "a-client")
        monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "token"))
        with pytest.warns(UserWarning, match="^authority has no effect"):
            ManagedIdentityCredential(authority="login.microsoftonline.us")

    @FACES
    def test_continuous_access_evaluation_makes_another_token_where_there_is_one(
        self, face: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        credential = face()
        assert credential._entry((SCOPE,), None, True) == credential._entry((SCOPE,), None, False)
        monkeypatch.setenv("AZURE_TENANT_ID", "a-tenant")
        monkeypatch.setenv("AZURE_CLIENT_ID", "a-client")
        monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "token"))
        credential = face()
        assert credential._entry((SCOPE,), None, True) != credential._entry((SCOPE,), None, False)

    def test_what_was_not_given_is_none(self) -> None:
        nothing: dict[str, Any] = dict.fromkeys(Keywords.__annotations__)
        assert repr(ManagedIdentityCredential(**nothing)) == "ManagedIdentityCredential()"


class TestServiceFabric:
    @pytest.fixture(autouse=True)
    def fabric(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("IDENTITY_ENDPOINT", "https://127.0.0.1:1/token")
        monkeypatch.setenv("IDENTITY_HEADER", "s3cret")
        monkeypatch.setenv("IDENTITY_SERVER_THUMBPRINT", "a" * 40)

    def test_a_transport_that_cannot_check_its_certificate_is_warned_of(self) -> None:
        with pytest.warns(UserWarning, match="^transport is a AioHttpTransport") as caught:
            AIO(transport=AioHttpTransport(use_env_settings=False))
        assert Path(caught[0].filename) == Path(__file__)

    def test_one_that_can_is_not(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ManagedIdentityCredential(transport=RequestsTransport(), headers={"X": "1"})

    def test_nothing_is_sent_by_one_that_cannot(self) -> None:
        with pytest.warns(UserWarning, match="transport"):
            credential = AIO(transport=AioHttpTransport(use_env_settings=False))

        async def main() -> None:
            async with credential:
                await credential.get_token(SCOPE)

        with pytest.raises(ManagedIdentityError, match="cannot check Service Fabric's certificate"):
            asyncio.run(main())


class TestWhatIsRefused:
    @FACES
    def test_a_misspelled_keyword(self, face: Any) -> None:
        said = r"ManagedIdentityCredential\(\) .*'client_idd'; did you mean 'client_id'\?"
        with pytest.raises(TypeError, match=said):
            face(client_idd="x")

    @FACES
    def test_what_has_no_name(self, face: Any) -> None:
        with pytest.raises(TypeError, match=r"^ManagedIdentityCredential\(\) takes keywords only"):
            face("a-client-id")

    def test_headers_that_are_none(self) -> None:
        with pytest.raises(TypeError, match="headers must be a mapping"):
            ManagedIdentityCredential(headers="X-One: 1")  # type: ignore[arg-type]

    def test_a_hook_that_cannot_be_called(self) -> None:
        with pytest.raises(TypeError, match="on_event must be a callable"):
            ManagedIdentityCredential(on_event="x")  # type: ignore[arg-type]


def test_the_page_of_keywords_has_them_all() -> None:
    page = (Path(__file__).parents[2] / "docs/keywords.md").read_text()
    ours = inspect.signature(ManagedIdentityCredential).parameters.keys() - {
        "positional", "options", "_token_cache",
    }  # fmt: skip
    known = ours | Keywords.__annotations__.keys()
    assert not [name for name in sorted(known) if f"`{name}`" not in page]


class TestPathsAndCaches:
    @pytest.mark.parametrize("off", [False, "off", "OFF", "0", "None", "no", "False"])
    def test_off_is_off(
        self,
        imds_emulator: Emulator,
        off: Any,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        credential = ManagedIdentityCredential(cache=off)
        assert credential._client.shared_cache is None
        assert credential.get_token(SCOPE).token
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("on", [True, "on", "TRUE", "1"])
    def test_on_is_the_default(self, imds_emulator: Emulator, on: Any) -> None:
        machine = ManagedIdentityCredential(cache=on)._client.shared_cache
        assert machine is not None

    @pytest.mark.parametrize("wrong", [0, 1, 3.5, b"/x", ["/x"], ""])
    def test_anything_else_is_refused(self, wrong: Any) -> None:
        with pytest.raises(ValueError, match="cache must be False, a directory or 'off'"):
            ManagedIdentityCredential(cache=wrong)

    def test_paths_are_path_like(self, arc_emulator: Emulator, tmp_path: Path) -> None:
        directory = arc_emulator.tokens_directory
        assert directory is not None
        credential = ManagedIdentityCredential(
            arc_tokens_directory=Path(directory), cache=tmp_path / "cache"
        )
        assert credential.get_token(SCOPE).token
        assert pickle.loads(pickle.dumps(credential)).get_token(SCOPE).token

    def test_a_list_of_scopes_gets_a_good_error(self) -> None:
        with pytest.raises(ValueError, match="a scope is a string, not a list"):
            ManagedIdentityCredential().get_token([SCOPE])  # type: ignore[arg-type]


class TestReprAndPickle:
    def test_headers_are_not_shown_but_kept(self) -> None:
        credential = ManagedIdentityCredential(headers={"X-Key": "s3cret"}, retry_total=2)
        assert repr(credential) == "ManagedIdentityCredential(retry_total=2)"
        again = pickle.loads(pickle.dumps(credential))
        assert again._settings == credential._settings

    def test_what_cannot_be_pickled_is_named(self) -> None:
        with pytest.raises(TypeError, match="own on_event and per_call_policies cannot"):
            pickle.dumps(ManagedIdentityCredential(on_event=print, per_call_policies=[Adds()]))


class TestWhatIsLogged:
    def test_each_request_if_that_is_wanted(
        self, arc_emulator: Emulator, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG, "imds_identity")
        credential = ManagedIdentityCredential(
            logging_enable=True, arc_tokens_directory=arc_emulator.tokens_directory
        )
        token = credential.get_token(SCOPE).token
        join_all(10)  # what is told of a fetch is told when nobody waits for it any more
        lines = [message for message in caplog.messages if message.startswith("GET ")]
        assert [line.split(", ")[0].rsplit(": ")[-1] for line in lines] == ["401", "200"]
        assert token not in caplog.text
        for key in Path(str(arc_emulator.tokens_directory)).glob("*.key"):
            assert key.read_text() not in caplog.text

    def test_a_secret_that_the_service_repeats_is_not(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG, "imds_identity")
        answer = b"HTTP/1.1 400 No\r\nContent-Type: s3cret-of-this-app\r\nContent-Length: 0\r\n\r\n"
        with RawServer(answer) as server:
            monkeypatch.setenv("IDENTITY_ENDPOINT", server.url)
            monkeypatch.setenv("IDENTITY_HEADER", "s3cret-of-this-app")
            with pytest.raises(ManagedIdentityError):
                ManagedIdentityCredential(logging_enable=True).get_token(SCOPE)
        eventually(lambda: [r for r in caplog.messages if r.startswith("GET ")])
        assert "s3cret-of-this-app" not in caplog.text


def eventually(look: Callable[[], Any]) -> Any:
    """What is told comes once nobody waits for the token any more."""
    for _ in range(500):
        if found := look():
            return found
        time.sleep(0.01)
    raise AssertionError("it did not come")


class Span:
    """As azure-core's tracing wants one of a plug-in."""

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
    @FACES
    def test_there_is_a_span_for_each_request(
        self, imds_emulator: Emulator, spans: list[Span], face: Any
    ) -> None:
        imds_emulator.fault(status=500, times=1)
        ask(face, retry_backoff_factor=0)
        assert [(span.attributes["status"], span.finished) for span in spans] == [
            (500, True),
            (200, True),
        ]
        assert imds_emulator.requests[-1].headers["traceparent"].startswith("00-0af7")

    def test_no_secret_is_in_a_span(self, arc_emulator: Emulator, spans: list[Span]) -> None:
        ask(ManagedIdentityCredential, arc_tokens_directory=arc_emulator.tokens_directory)
        assert len(spans) == 2
        said = str([span.attributes for span in spans])
        for key in Path(str(arc_emulator.tokens_directory)).glob("*.key"):
            assert key.read_text() not in said
        assert "eyJ" not in said

    def test_the_variable_that_turns_it_on_is_enough(self, imds_emulator: Emulator) -> None:
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

    def test_where_nothing_is_traced_azure_core_s_pipeline_is_not_loaded(
        self, imds_emulator: Emulator
    ) -> None:
        assert ManagedIdentityCredential()._sender() is None
