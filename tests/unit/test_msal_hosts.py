"""The other hosts: whatever they answer, MSAL's word comes out as a token or as a failure."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msal
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imds_identity._core.environment import Environment
from imds_identity._core.failure import Failure, Malformed, Refused, Unavailable
from imds_identity._core.identity import SYSTEM_ASSIGNED, Identity
from imds_identity._core.token_request import TokenRequest
from imds_identity._sources import msal_hosts
from imds_identity._sources.detect import detect
from imds_identity._sources.kinds import WorkloadSource
from imds_identity._sources.msal_hosts import CloudShellHost
from imds_identity._wire.channel import Channel
from support import FakeClock, middle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imds_identity._core.token import Token
    from imds_identity._sources.kinds import TokenSource
    from imds_identity._wire.exchange import Request, Response

SECRET = "aVeryS3cretHeader-of-this-app"
HOSTS = {
    "app-service": {"IDENTITY_ENDPOINT": "http://127.0.0.1:9/msi", "IDENTITY_HEADER": SECRET},
    "azure-ml": {"MSI_ENDPOINT": "http://127.0.0.1:9/msi", "MSI_SECRET": SECRET},
    "cloud-shell": {"MSI_ENDPOINT": "http://127.0.0.1:9/msi"},
}
WANTED = TokenRequest("https://vault.azure.net", SYSTEM_ASSIGNED)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


class Host:
    """A host's token source, with what it takes to ask it."""

    def __init__(self, source: TokenSource) -> None:
        self.clock = FakeClock()
        self.source = source

    def fetch(self, wanted: TokenRequest) -> Token:
        return self.source.fetch(wanted, Channel(send_nothing, self.clock, random=middle))


def send_nothing(request: Request) -> Response:
    raise AssertionError("MSAL sends by a session of its own")


class Answer:
    """What a session of requests answers."""

    def __init__(self, text: str, status: int = 200) -> None:
        self.text, self.status_code = text, status
        self.headers: dict[str, str] = {}


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a host that answers everything alike."""

    def make(name: str, answer: Answer | Exception) -> Host:
        def send(*args: Any, **kwargs: Any) -> Answer:
            if isinstance(answer, Exception):
                raise answer
            return answer

        @contextmanager
        def session(*_: Any, **settings: Any) -> Iterator[Any]:
            client = requests.Session()
            monkeypatch.setattr(client, "get", send)
            monkeypatch.setattr(client, "post", send)
            yield client

        for variable, value in HOSTS.get(name, {}).items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setattr(msal_hosts, "MsalSession", session)
        source = detect(environment=Environment(HOSTS[name]))
        assert source.name == name
        return Host(source)

    return make


def failure_of(host: Host, wanted: TokenRequest = WANTED) -> Failure:
    with pytest.raises(Failure) as caught:
        host.fetch(wanted)
    assert caught.value.__context__ is None
    assert str(caught.value).isprintable()
    return caught.value


def token(**fields: Any) -> Answer:
    said = {"access_token": "a-token", "expires_on": "32000000000", "expires_in": "3600", **fields}
    return Answer(json.dumps(said))


@pytest.mark.parametrize("name", HOSTS)
def test_a_token_is_a_token(answered: Any, name: str) -> None:
    got = answered(name, token(token_type="Bearer")).fetch(WANTED)
    assert (got.value, got.token_type) == ("a-token", "Bearer")
    assert got.received_at < got.refresh_at < got.expires_at


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize(
    "answer",
    [
        "", "null", "[]", '["access_token"]', '"s3cret-token"', "7", "[" * 100_000, "{",
        '{"access_token": {}}', '{"error": ["a"]}', '{"error": null}', "\ud800",
    ],
)  # fmt: skip
def test_an_answer_of_another_kind_is_a_failure(answered: Any, name: str, answer: str) -> None:
    assert "s3cret" not in str(failure_of(answered(name, Answer(answer))))


@pytest.mark.parametrize("name", ["app-service", "azure-ml", "cloud-shell"])
@pytest.mark.parametrize(
    "value",
    [
        "2026-11-21T12:00:00Z", "soon", [1], {"a": 1}, 1e400, -1e400, float("nan"), True,
        10**400, "9" * 5000, -5, "-5",
    ],
)  # fmt: skip
def test_a_lifetime_that_is_none_is_a_failure(answered: Any, name: str, value: Any) -> None:
    failure = failure_of(answered(name, token(expires_on=value, expires_in=value)))
    assert isinstance(failure, Malformed)


@pytest.mark.parametrize("name", HOSTS)
def test_only_what_can_go_into_a_header_is_a_token(answered: Any, name: str) -> None:
    for value in ("a b", "a\r\nX-Evil: 1", "tökén", ["a"], {"a": 1}, 7, "x" * 70_000):
        failure = failure_of(answered(name, token(access_token=value)))
        assert isinstance(failure, Malformed)
        assert "Evil" not in str(failure)
    failure_of(answered(name, token(token_type="Bearer\r\nX-Evil: 1")))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    name=st.sampled_from(sorted(HOSTS)),
    said=JSON
    | st.dictionaries(
        st.sampled_from(["access_token", "expires_on", "expires_in", "token_type", "error"]), JSON
    ),
    status=st.sampled_from([200, 400, 500]),
)
def test_any_json_is_a_token_or_a_failure(answered: Any, name: str, said: Any, status: int) -> None:
    try:
        got = answered(name, Answer(json.dumps(said), status)).fetch(WANTED)
    except Failure as failure:
        got = failure
    assert str(got).isprintable()


@pytest.mark.parametrize(
    "error",
    [
        TypeError("x"), OverflowError("x"), AttributeError("x"), RecursionError("x"), KeyError("x"),
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "x"), IndexError("x"), AssertionError(),
        msal.ManagedIdentityError("x"),
        msal.exceptions.MsalServiceError(error="x", error_description="y"),
        NotImplementedError("x"),
    ],
)  # fmt: skip
def test_what_msal_trips_over_is_a_documented_failure(answered: Any, error: Exception) -> None:
    failure = failure_of(answered("app-service", error))
    assert isinstance(failure, Malformed)
    assert type(error).__name__ in str(failure)


@pytest.mark.parametrize(
    "error", [requests.ConnectionError("x"), requests.exceptions.InvalidURL("x"), OSError("x")]
)
def test_a_host_that_does_not_answer_is_named_by_its_variable(
    answered: Any, error: Exception
) -> None:
    failure = failure_of(answered("azure-ml", error))
    assert isinstance(failure, Unavailable)
    assert "MSI_ENDPOINT" in str(failure)


def test_the_app_s_secret_is_in_no_message(answered: Any) -> None:
    said = {"statusCode": 400, "message": f"wrong header {SECRET}\x1b[31m"}
    failure = failure_of(answered("app-service", Answer(json.dumps(said))))
    assert isinstance(failure, Refused)
    assert "wrong header" in str(failure)
    assert SECRET not in str(failure)


def test_a_lifetime_counts_from_when_the_token_was_asked_for(
    answered: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = answered("cloud-shell", token())
    result = CloudShellHost._result

    def slow(*args: Any) -> Any:
        host.clock.seconds += 600
        return result(*args)

    monkeypatch.setattr(CloudShellHost, "_result", slow)
    sent = host.clock.now()
    got = host.fetch(WANTED)
    assert (got.received_at, got.expires_at) == (sent, sent + 3600)


def test_cloud_shell_is_asked_where_its_variable_says_and_no_browser_is_opened(
    answered: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webbrowser.get", lambda *_: pytest.fail("a browser was opened"))
    assert answered("cloud-shell", token()).fetch(WANTED).value == "a-token"
    error = {"error": {"code": "AudienceNotSupported", "message": "no such audience"}}
    failure = failure_of(answered("cloud-shell", Answer(json.dumps(error), 400)))
    assert "AudienceNotSupported: no such audience" in str(failure)


def test_a_selector_that_a_host_does_not_know_is_refused(answered: Any) -> None:
    wanted = TokenRequest(WANTED.resource, Identity("client_id", "c"))
    failure = failure_of(answered("cloud-shell", token()), wanted)
    assert "cannot select an identity by client_id" in str(failure)


def test_a_federated_token_that_cannot_be_read_is_named_by_its_variable(tmp_path: Path) -> None:
    source = WorkloadSource("https://x", "v", client_id="c", token_file=str(tmp_path / "none"))
    captured: dict[str, Any] = {}

    def app(*args: Any, client_credential: dict[str, Any], **kwargs: Any) -> Any:
        captured.update(client_credential)
        raise KeyError("stop")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(msal, "ConfidentialClientApplication", app)
        failure_of(Host(source))
    with pytest.raises(Unavailable, match=r"No such file.*AZURE_FEDERATED_TOKEN_FILE"):
        captured["client_assertion"]()
    (tmp_path / "none").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Unavailable, match="UnicodeDecodeError"):
        captured["client_assertion"]()
