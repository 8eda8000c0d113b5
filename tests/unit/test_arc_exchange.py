"""Arc's exchange, stepped by hand."""

from __future__ import annotations

import pytest

from imds_identity._core.failure import Malformed, Refused, SecretUnreadable, Unavailable
from imds_identity._core.identity import SYSTEM_ASSIGNED, Identity
from imds_identity._core.token_request import TokenRequest
from imds_identity._sources.arc import exchange, is_loopback
from imds_identity._wire.exchange import Pause, ReadSecret, Response, Send, Unreached
from support import Answers, Stepped, middle

ENDPOINT = "http://localhost:40342/metadata/identity/oauth2/token"
KEY_FILE = "/var/opt/azcmagent/tokens/1.key"


def start(
    identity: Identity = SYSTEM_ASSIGNED, endpoint: str = ENDPOINT, claims: str | None = None
) -> Stepped:
    return Stepped(exchange(endpoint, TokenRequest("https://vault", identity, claims), middle))


def challenge(answers: Answers, realm: str = KEY_FILE) -> Response:
    return answers.raw(401, www_authenticate=f"Basic realm={realm}")


def test_challenge_secret_token(answers: Answers) -> None:
    stepped = start()
    first = stepped.step.request
    assert first.url == f"{ENDPOINT}?api-version=2020-06-01&resource=https%3A%2F%2Fvault"
    assert first.headers == {"Metadata": "true"}
    assert stepped.answer(challenge(answers)) == ReadSecret(KEY_FILE)
    second = stepped.answer("s3cret").request
    assert second.url == first.url
    assert second.headers == {"Metadata": "true", "Authorization": "Basic s3cret"}
    assert stepped.finish(answers.token("secret")).value == "secret"


def test_the_request_with_the_secret_does_not_show_it(answers: Answers) -> None:
    stepped = start()
    stepped.answer(challenge(answers))
    assert "s3cret" not in repr(stepped.answer("s3cret"))


@pytest.mark.parametrize(
    ("header", "path"),
    [
        ("Basic realm=/a/b.key", "/a/b.key"),
        ('basic REALM = "/a/b c.key"', "/a/b c.key"),
        ("Basic realm=/a/x=y.key ", "/a/x=y.key"),
        (r"Basic realm=C:\ProgramData\x\Tokens\a.key", r"C:\ProgramData\x\Tokens\a.key"),
    ],
)
def test_realms_as_agents_write_them(answers: Answers, header: str, path: str) -> None:
    assert start().answer(answers.raw(401, www_authenticate=header)) == ReadSecret(path)


@pytest.mark.parametrize(
    "header", ["Basic", "Basic realm=", 'Basic realm=""', "Bearer realm=/a", ""]
)
def test_a_challenge_without_a_key_file_is_refused(answers: Answers, header: str) -> None:
    with pytest.raises(SecretUnreadable, match="names no key file"):
        start().answer(answers.raw(401, www_authenticate=header))


def test_a_token_without_a_challenge_is_refused(answers: Answers) -> None:
    with pytest.raises(Refused, match="200 where a 401 challenge was due") as caught:
        start().answer(answers.token("secret"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("status", [400, 403, 405])
def test_a_first_answer_that_is_no_challenge_is_shown(answers: Answers, status: int) -> None:
    with pytest.raises(Refused, match=f"{status}, an_error: what the service says"):
        start().answer(answers.error(status))


def test_a_500_is_retried_and_then_shown(answers: Answers) -> None:
    stepped = start()
    for _ in range(4):
        assert isinstance(stepped.answer(answers.error(500)), Pause)
        assert isinstance(stepped.answer(None), Send)
    with pytest.raises(Refused, match="keeps answering 500, an_error: what the service says"):
        stepped.answer(answers.error(500))


def test_a_key_file_that_was_replaced_is_asked_for_anew(answers: Answers) -> None:
    stepped = start()
    stepped.answer(challenge(answers))
    stepped.answer("stale")
    again = stepped.answer(challenge(answers))
    assert isinstance(again, Send)
    assert "Authorization" not in again.request.headers
    assert stepped.answer(challenge(answers, "/other.key")) == ReadSecret("/other.key")
    stepped.answer("fresh")
    assert stepped.finish(answers.token()).value == "a-token"


def test_a_secret_that_is_never_accepted_ends_in_an_error(answers: Answers) -> None:
    stepped = start()
    with pytest.raises(Refused, match="401"):
        for _ in range(10):
            stepped.answer(challenge(answers))
            stepped.answer("wrong")
            stepped.answer(challenge(answers))


def test_the_second_leg_has_a_schedule_of_its_own(answers: Answers) -> None:
    stepped = start()
    assert stepped.answer(answers.error(503)) == Pause(2)
    stepped.answer(None)
    stepped.answer(challenge(answers))
    stepped.answer("s3cret")
    assert stepped.answer(answers.error(503)) == Pause(2)


def test_no_agent_is_unavailable(answers: Answers) -> None:
    stepped = start()
    with pytest.raises(Unavailable, match="azcmagent"):
        for _ in range(10):
            stepped.answer(Unreached("refused"))
            stepped.answer(None)


@pytest.mark.parametrize(
    ("selector", "parameter"),
    [("client_id", "client_id"), ("object_id", "object_id"), ("resource_id", "msi_res_id")],
)
@pytest.mark.parametrize("echo", ["X-1", "x-1", None, "", "other"])
def test_a_user_assigned_identity_must_be_confirmed(
    answers: Answers, selector: str, parameter: str, echo: str | None
) -> None:
    stepped = start(Identity(selector, "x-1"))
    assert f"&{parameter}=x-1" in stepped.step.request.url
    stepped.answer(challenge(answers))
    stepped.answer("s3cret")
    answer = answers.token("secret", **{parameter: echo})
    if echo and echo.lower() == "x-1":
        assert stepped.finish(answer).value == "secret"
        return
    with pytest.raises(Malformed, match="did not confirm") as caught:
        stepped.answer(answer)
    assert "secret" not in str(caught.value)


def test_claims_are_not_sent_to_an_agent_that_does_not_know_them() -> None:
    assert "bypass_cache" not in start(claims="{}").step.request.url


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://localhost:40342/x",
        "http://LOCALHOST/x",
        "http://127.0.0.1:1/x",
        "http://127.9.9.9/x",
        "http://[::1]:1/x",
    ],
)
def test_loopback_endpoints_are_known(endpoint: str) -> None:
    assert is_loopback(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://169.254.169.254/x",
        "http://example.com/x",
        "http://localhost.example.com/x",
        "http://localhost@example.com/x",
        "http://10.0.0.1/x",
        "http:///x",
        "...",
    ],
)
def test_nothing_is_sent_to_an_endpoint_elsewhere(endpoint: str) -> None:
    assert not is_loopback(endpoint)
    with pytest.raises(SecretUnreadable, match="not on this machine"):
        start(endpoint=endpoint)
