"""Workload identity: whatever is answered, MSAL's word comes out as a token or as a failure."""

from __future__ import annotations

import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any

import msal.exceptions
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imds_identity._core.failure import Failure, Malformed, Refused, Unavailable
from imds_identity._core.identity import SYSTEM_ASSIGNED, Identity
from imds_identity._core.token_request import TokenRequest
from imds_identity._sources import workload
from imds_identity._sources.kinds import WorkloadSource
from imds_identity._wire.channel import Channel
from imds_identity._wire.connection import too_large
from support import FakeClock, middle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imds_identity._wire.exchange import Request, Response

ASSERTION = "the-w0rkloads-own-token"
AUTHORITY = "https://login.microsoftonline.com/a-tenant"
WANTED = TokenRequest("https://vault.azure.net", SYSTEM_ASSIGNED)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


class Answer:
    """What a session of requests answers."""

    def __init__(self, said: Any, status: int = 200) -> None:
        self.text = said if isinstance(said, str) else json.dumps(said)
        self.status_code = status
        self.headers: dict[str, str] = {}

    def raise_for_status(self) -> None:
        """Older MSALs call this for what has worked, too."""


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Makes a host whose token endpoint answers everything alike."""
    (tmp_path / "token").write_text(ASSERTION)

    def make(answer: Answer | Exception) -> WorkloadSource:
        def get(url: str, **_: Any) -> Answer:
            endpoints = {name: f"{AUTHORITY}/{name}" for name in ("token_endpoint", "issuer")}
            authorize = {"authorization_endpoint": f"{AUTHORITY}/authorize"}
            return Answer({**endpoints, **authorize, "metadata": []})

        def post(*_: Any, data: Any, **__: Any) -> Answer:
            assert data["client_assertion"] == ASSERTION
            if isinstance(answer, Exception):
                raise answer
            return answer

        @contextlib.contextmanager
        def session(*_: Any) -> Iterator[Any]:
            client = requests.Session()
            monkeypatch.setattr(client, "get", get)
            monkeypatch.setattr(client, "post", post)
            yield client

        monkeypatch.setattr(workload, "MsalSession", session)
        path = str(tmp_path / "token")
        return WorkloadSource(AUTHORITY, "AZURE_AUTHORITY_HOST", "client", path)

    return make


def channel() -> Channel:
    def send(request: Request) -> Response:
        raise AssertionError("MSAL sends by a session of its own")

    return Channel(send, FakeClock(), random=middle)


def failure_of(host: WorkloadSource, wanted: TokenRequest = WANTED) -> Failure:
    with pytest.raises(Failure) as caught:
        host.fetch(wanted, channel())
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    assert str(caught.value).isprintable()
    traceback = caught.value.__traceback__
    while traceback is not None:
        assert "msal/" not in traceback.tb_frame.f_code.co_filename.replace("\\", "/")
        traceback = traceback.tb_next
    return caught.value


def token(**fields: Any) -> Answer:
    return Answer({"access_token": "a-token", "expires_in": 3600, "token_type": "Bearer", **fields})


def test_a_token_is_a_token(answered: Any) -> None:
    got = answered(token()).fetch(WANTED, channel())
    assert (got.value, got.token_type) == ("a-token", "Bearer")
    assert (got.received_at, got.expires_at) == (1000, 4600)


@pytest.mark.parametrize(
    "answer",
    [
        "", "null", "[]", '["access_token"]', '"s3cret-token"', "7", "[" * 100_000, "{",
        '{"access_token": {}}', '{"error": ["a"]}', '{"error": null}',
    ],
)  # fmt: skip
def test_an_answer_of_another_kind_is_a_failure(answered: Any, answer: str) -> None:
    assert "s3cret" not in str(failure_of(answered(Answer(answer))))


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-21T12:00:00Z", "soon", [1], {"a": 1}, 1e400, -1e400, float("nan"), True,
        10**400, "9" * 5000, -5, "-5", 0, None,
    ],
)  # fmt: skip
def test_a_lifetime_that_is_none_is_a_failure(answered: Any, value: Any) -> None:
    assert isinstance(failure_of(answered(token(expires_in=value))), Malformed)


def test_only_what_can_go_into_a_header_is_a_token(answered: Any) -> None:
    for value in ("a b", "a\r\nX-Evil: 1", "tökén", ["a"], {"a": 1}, 7, "x" * 70_000):
        failure = failure_of(answered(token(access_token=value)))
        assert isinstance(failure, Malformed)
        assert "Evil" not in str(failure)
    failure_of(answered(token(token_type="Bearer\r\nX-Evil: 1")))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    said=JSON
    | st.dictionaries(st.sampled_from(["access_token", "expires_in", "token_type", "error"]), JSON),
    status=st.sampled_from([200, 400, 500]),
)
def test_any_json_is_a_token_or_a_failure(answered: Any, said: Any, status: int) -> None:
    try:
        got = answered(Answer(said, status)).fetch(WANTED, channel())
    except Failure as failure:
        got = failure
    assert str(got).isprintable()


@pytest.mark.parametrize(
    "error",
    [
        TypeError("x"), OverflowError("x"), AttributeError("x"), RecursionError("x"), KeyError("x"),
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "x"), IndexError("x"), AssertionError(),
        msal.ManagedIdentityError("x"), EOFError("x"), Exception("x"),
        msal.exceptions.MsalServiceError(error="x", error_description="y"),
        NotImplementedError("x"),
    ],
)  # fmt: skip
def test_what_msal_trips_over_is_a_documented_failure(answered: Any, error: Exception) -> None:
    failure = failure_of(answered(error))
    assert isinstance(failure, Malformed)
    assert type(error).__name__ in str(failure)


@pytest.mark.parametrize(
    "error", [requests.ConnectionError("x"), requests.exceptions.InvalidURL("x"), OSError("x")]
)
def test_a_host_that_does_not_answer_is_named_by_its_variable(
    answered: Any, error: Exception
) -> None:
    failure = failure_of(answered(error))
    assert isinstance(failure, Unavailable)
    assert "AZURE_AUTHORITY_HOST" in str(failure)


def test_an_authority_without_tls_is_not_sent_the_workload_s_token() -> None:
    source = WorkloadSource("http://127.0.0.1:9/t", "AZURE_AUTHORITY_HOST", "client", "/none")
    failure = failure_of(source)
    assert isinstance(failure, Unavailable)
    assert str(failure).startswith("AZURE_AUTHORITY_HOST must begin with https")


def test_a_failure_from_within_msal_brings_none_of_its_frames(answered: Any) -> None:
    assert isinstance(failure_of(answered(too_large())), Malformed)


def test_the_host_s_own_words_are_told(answered: Any) -> None:
    said = {"error": "invalid_client", "error_description": "AADSTS7000215\x1b[31m"}
    failure = failure_of(answered(Answer(said, 401)))
    assert isinstance(failure, Refused)
    assert "invalid_client: AADSTS7000215" in str(failure)


@pytest.mark.parametrize("said", [token(), token(expires_in="soon"), Answer("{"), Answer({}, 400)])
def test_neither_token_nor_assertion_is_in_a_log(
    answered: Any, caplog: pytest.LogCaptureFixture, said: Answer
) -> None:
    caplog.set_level(logging.DEBUG)
    with contextlib.suppress(Failure):
        answered(said).fetch(WANTED, channel())
    assert "a-token" not in caplog.text
    assert ASSERTION not in caplog.text


def test_a_selector_that_it_does_not_know_is_refused(answered: Any) -> None:
    wanted = TokenRequest(WANTED.resource, Identity("object_id", "c"))
    failure = failure_of(answered(token()), wanted)
    assert "cannot select an identity by object_id" in str(failure)


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file"), (b"\xff\xfe\x00", "UnicodeDecodeError")]
)
def test_a_federated_token_that_cannot_be_read_is_named_by_its_variable(
    answered: Any, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    host = answered(token())
    (tmp_path / "token").unlink()
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    failure = failure_of(host)
    assert isinstance(failure, Unavailable)
    assert reason in str(failure)
    assert "AZURE_FEDERATED_TOKEN_FILE" in str(failure)
