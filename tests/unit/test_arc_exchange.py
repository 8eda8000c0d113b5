"""Arc's exchange, stepped by hand."""

from __future__ import annotations

import base64
import traceback
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._core.failure import Failure, Malformed, Refused, SecretUnreadable, Unavailable
from imds_identity._core.identity import SYSTEM_ASSIGNED, Identity
from imds_identity._core.secret import Secret
from imds_identity._core.token_request import TokenRequest
from imds_identity._http.exchange import (
    ConfirmListener,
    ConnectFailed,
    Pause,
    ReadFailed,
    ReadSecret,
    Response,
    Send,
)
from imds_identity._http.transport_errors import plain_headers
from imds_identity._sources.arc import exchange, is_on_127
from support import ExchangeDriver, FakeClock, ResponseFactory, no_jitter

ENDPOINT = "http://localhost:40342/metadata/identity/oauth2/token"
KEY_FILE = "/var/opt/azcmagent/tokens/1.key"


def start(
    identity: Identity = SYSTEM_ASSIGNED, endpoint: str = ENDPOINT, claims: str | None = None
) -> ExchangeDriver:
    return ExchangeDriver(
        exchange(endpoint, TokenRequest("https://vault", identity, claims), no_jitter)
    )


def challenge(responses: ResponseFactory, realm: str = KEY_FILE) -> Response:
    return responses.raw(401, www_authenticate=f"Basic realm={realm}")


def challenged(stepped: ExchangeDriver, challenge: Response) -> Any:
    """The step after a challenge and a look at who listens."""
    assert isinstance(stepped.respond(challenge), ConfirmListener)
    return stepped.respond(None)


def authorized(stepped: ExchangeDriver, responses: ResponseFactory, secret: str = "s3cret") -> Any:
    """The step with the secret."""
    challenged(stepped, challenge(responses))
    return stepped.respond(Secret(secret))


def test_challenge_listener_secret_token(responses: ResponseFactory) -> None:
    stepped = start()
    first = stepped.step.request
    assert first.url == (
        "http://127.0.0.1:40342/metadata/identity/oauth2/token"
        "?api-version=2020-06-01&resource=https%3A%2F%2Fvault"
    )
    assert first.headers == {"Metadata": "true", "Host": "localhost:40342"}
    assert first.listener == 0
    assert stepped.respond(challenge(responses)) == ConfirmListener(40342)
    assert stepped.respond(None) == ReadSecret(KEY_FILE)
    second = stepped.respond(Secret("s3cret")).request
    assert (second.url, second.listener) == (first.url, 40342)
    expected = {**first.headers, "Authorization": "Basic s3cret"}
    assert plain_headers(second).items() >= expected.items()
    assert stepped.finish(responses.token("secret")).value == "secret"


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [("http://localhost:7/x", 7), ("http://localhost/x", 80), ("https://127.0.0.1/x", 443)],
)
def test_the_port_that_is_looked_at_is_the_one_that_is_asked(
    responses: ResponseFactory, endpoint: str, port: int
) -> None:
    assert start(endpoint=endpoint).respond(challenge(responses)) == ConfirmListener(port)


def test_the_request_with_the_secret_does_not_show_it(responses: ResponseFactory) -> None:
    step = authorized(start(), responses)
    assert "s3cret" not in repr(step)
    assert "s3cret" not in repr(step.request.headers)


def test_a_listener_that_may_not_have_the_secret_ends_it_before_it_is_read(
    responses: ResponseFactory,
) -> None:
    stepped = start()
    stepped.respond(challenge(responses))
    with pytest.raises(SecretUnreadable, match="user 7 listens"):
        stepped.respond(SecretUnreadable("user 7 listens"))


SECRET = "dGhlIHNlY3JldCBvZiB0aGUgYWdlbnQ+Pz8/Cg=="
ECHOES = {
    "as it is": SECRET,
    "shortened": SECRET[:12],
    "percent-encoded": quote_plus(SECRET),
    "in base64": base64.b64encode(f"user:{SECRET}".encode()).decode(),
    "in base64 for URLs": base64.urlsafe_b64encode(SECRET.encode()).decode(),
    "in hexadecimal": SECRET.encode().hex(),
    "with zeros between": "\0".join(SECRET),
    "in lines": "\r\n".join(SECRET[i : i + 10] for i in range(0, len(SECRET), 10)),
    "in another case": SECRET.upper(),
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
@pytest.mark.parametrize("where", ["words", "body", "header", "echo", "content type", "dropped"])
def test_a_secret_that_is_echoed_is_in_no_message(
    responses: ResponseFactory, echo: str, where: str
) -> None:
    stepped = start(Identity("client_id", "x-1"))
    stepped.respond(challenge(responses))
    stepped.respond(None)
    outcome = {
        "words": responses.json(403, {"error": "no", "error_description": f"not {echo} !"}),
        "body": responses.raw(403, f"what is {echo} ?"),
        "header": responses.raw(401, www_authenticate=f"Digest {echo}"),
        "echo": responses.token(client_id=echo),
        "content type": responses.raw(200, "{", content_type=f"json {echo}"),
        "dropped": ReadFailed(f"reset by {echo}"),
    }[where]
    stepped.respond(Secret(SECRET))
    with pytest.raises(Failure) as caught:
        for _ in range(20):
            step = stepped.respond(outcome)
            while isinstance(step, Pause):
                step = stepped.respond(None)
    message = "".join(c for c in str(caught.value).lower() if c.isalnum())
    bare = "".join(c for c in echo.lower() if c.isalnum())
    assert not [i for i in range(len(bare) - 8) if bare[i : i + 9] in message]
    assert not [a for a in caught.value.args if SECRET in a]


def test_no_variable_of_a_frame_that_fails_shows_the_secret(responses: ResponseFactory) -> None:
    stepped = start()
    authorized(stepped, responses, SECRET)
    with pytest.raises(Failure) as caught:
        stepped.respond(responses.raw(403, "no"))
    frames = [frame for frame, _ in traceback.walk_tb(caught.tb)][2:]
    assert frames
    assert not [f for f in frames if SECRET in repr(f.f_locals)]


@pytest.mark.parametrize(
    ("header", "path"),
    [
        ("Basic realm=/a/b.key", "/a/b.key"),
        ('basic REALM = "/a/b c.key"', "/a/b c.key"),
        ("Basic realm=/a/x=y.key ", "/a/x=y.key"),
        (r"Basic realm=C:\ProgramData\x\Tokens\a.key", r"C:\ProgramData\x\Tokens\a.key"),
    ],
)
def test_realms_as_agents_write_them(responses: ResponseFactory, header: str, path: str) -> None:
    assert challenged(start(), responses.raw(401, www_authenticate=header)) == ReadSecret(path)


@given(st.text() | st.text(alphabet='Basic realm="/.,key'))
def test_any_header_is_a_path_or_a_failure(header: str) -> None:
    responses = ResponseFactory(FakeClock())
    try:
        step = challenged(start(), responses.raw(401, www_authenticate=header))
    except SecretUnreadable as failure:
        step = failure
    assert isinstance(step, ReadSecret) or str(step).isprintable()


def test_a_header_of_hundred_thousand_spaces_takes_no_time(responses: ResponseFactory) -> None:
    header = "Basic realm=" + " " * 100_000 + "\x00"
    assert isinstance(start().respond(responses.raw(401, www_authenticate=header)), ConfirmListener)


@pytest.mark.parametrize(
    "header", ["Basic", "Basic realm=", 'Basic realm=""', "Bearer realm=/a", ""]
)
def test_a_challenge_without_a_key_file_is_refused(responses: ResponseFactory, header: str) -> None:
    with pytest.raises(SecretUnreadable, match="names no key file"):
        start().respond(responses.raw(401, www_authenticate=header))


def test_a_token_without_a_challenge_is_refused(responses: ResponseFactory) -> None:
    with pytest.raises(Refused, match="200 where a 401 challenge was due") as caught:
        start().respond(responses.token("secret"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("status", "kind"), [(400, Unavailable), (403, Refused), (405, Refused)])
def test_a_first_answer_that_is_no_challenge_is_shown(
    responses: ResponseFactory, status: int, kind: type[Failure]
) -> None:
    with pytest.raises(kind, match=f"{status}, an_error: what the service says"):
        start().respond(responses.error(status))


def test_a_500_is_retried_and_then_shown(responses: ResponseFactory) -> None:
    stepped = start()
    for _ in range(4):
        assert isinstance(stepped.respond(responses.error(500)), Pause)
        assert isinstance(stepped.respond(None), Send)
    with pytest.raises(Refused, match="keeps answering 500, an_error: what the service says"):
        stepped.respond(responses.error(500))


def test_a_key_file_that_was_replaced_is_asked_for_anew(responses: ResponseFactory) -> None:
    stepped = start()
    authorized(stepped, responses, "stale")
    again = stepped.respond(challenge(responses))
    assert isinstance(again, Send)
    assert "Authorization" not in again.request.headers
    assert challenged(stepped, challenge(responses, "/other.key")) == ReadSecret("/other.key")
    stepped.respond(Secret("fresh"))
    assert stepped.finish(responses.token()).value == "a-token"


def test_a_secret_that_is_never_accepted_ends_in_an_error(responses: ResponseFactory) -> None:
    stepped = start()
    with pytest.raises(Refused, match="401"):
        for _ in range(10):
            authorized(stepped, responses, "wrong")
            stepped.respond(challenge(responses))


def test_the_second_leg_has_a_schedule_of_its_own(responses: ResponseFactory) -> None:
    stepped = start()
    assert stepped.respond(responses.error(503)) == Pause(2)
    stepped.respond(None)
    authorized(stepped, responses)
    assert stepped.respond(responses.error(503)) == Pause(2)


def test_no_agent_is_unavailable(responses: ResponseFactory) -> None:
    stepped = start()
    with pytest.raises(Unavailable, match="azcmagent"):
        for _ in range(10):
            stepped.respond(ConnectFailed("refused"))
            stepped.respond(None)


@pytest.mark.parametrize(
    ("selector", "parameter"),
    [("client_id", "client_id"), ("object_id", "object_id"), ("resource_id", "msi_res_id")],
)
@pytest.mark.parametrize("echo", ["X-1", "x-1", None, "", "other"])
def test_a_user_assigned_identity_must_be_confirmed(
    responses: ResponseFactory, selector: str, parameter: str, echo: str | None
) -> None:
    stepped = start(Identity(selector, "x-1"))
    assert f"&{parameter}=x-1" in stepped.step.request.url
    authorized(stepped, responses)
    respond = responses.token("secret", **{parameter: echo})
    if echo and echo.lower() == "x-1":
        assert stepped.finish(respond).value == "secret"
        return
    with pytest.raises(Malformed, match="did not confirm") as caught:
        stepped.respond(respond)
    assert "secret" not in str(caught.value)


def test_claims_are_not_sent_to_an_agent_that_does_not_know_them() -> None:
    assert "bypass_cache" not in start(claims="{}").step.request.url


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://localhost:40342/x",
        "http://LOCALHOST/x",
        "http://127.0.0.1:1/x",
    ],
)
def test_loopback_endpoints_are_known(endpoint: str) -> None:
    assert is_on_127(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://169.254.169.254/x",
        "http://example.com/x",
        "http://localhost.example.com/x",
        "http://localhost@example.com/x",
        "http://10.0.0.1/x",
        "http:///x",
        "http://127.9.9.9/x",
        "http://[::1]:1/x",
        "http://2130706433/x",
        "...",
    ],
)
def test_nothing_is_sent_to_an_endpoint_elsewhere(endpoint: str) -> None:
    assert not is_on_127(endpoint)
    with pytest.raises(SecretUnreadable, match="not on this machine"):
        start(endpoint=endpoint)
