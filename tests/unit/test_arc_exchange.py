"""The exchange with the Arc agent, step by step."""

from __future__ import annotations

import base64
import functools
import traceback
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._core.failure import (
    Failure,
    Malformed,
    Reason,
    Refused,
    SecretUnreadable,
    Unavailable,
)
from imds_identity._core.identity import SYSTEM_ASSIGNED, Identity
from imds_identity._core.token_request import TokenRequest
from imds_identity._http.exchange import ConnectFailed, Pause, ReadFailed, Send
from imds_identity._http.messages import Request, Response
from imds_identity._http.runner import ExchangeRunner
from imds_identity._http.transport_errors import plain_headers
from imds_identity._sources.arc import key_file, peer
from imds_identity._sources.arc.auth import KeyFileAuth, port_of
from imds_identity._sources.arc.exchange import exchange, is_loopback
from imds_identity._sources.arc.source import ARC
from support import ExchangeDriver, FakeClock, ResponseFactory, no_jitter

if TYPE_CHECKING:
    from pathlib import Path

ENDPOINT = "http://localhost:40342/metadata/identity/oauth2/token"
KEY_FILE = "/var/opt/azcmagent/tokens/1.key"
TOKENS = "/var/opt/azcmagent/tokens"
auth_for = functools.partial(KeyFileAuth, directory=TOKENS)


def start(
    identity: Identity = SYSTEM_ASSIGNED,
    endpoint: str = ENDPOINT,
    claims: str | None = None,
    *,
    is_named: bool = False,
) -> ExchangeDriver:
    token_request = TokenRequest("https://vault", identity, claims)
    return ExchangeDriver(
        exchange(ARC, endpoint, token_request, no_jitter, auth_for, is_named=is_named)
    )


def challenge(responses: ResponseFactory, realm: str = KEY_FILE) -> Response:
    return responses.raw(401, www_authenticate=f"Basic realm={realm}")


def auth_after(driver: ExchangeDriver, challenge: Response) -> KeyFileAuth:
    """Return the authentication of the request that follows a challenge."""
    auth = driver.respond(challenge).request.auth
    assert isinstance(auth, KeyFileAuth)
    return auth


@pytest.fixture
def confirmed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ports whose listeners were checked; all are trusted."""
    ports: list[int] = []
    monkeypatch.setattr(peer, "confirm", ports.append)
    return ports


def test_challenge_is_followed_by_an_authenticated_request(responses: ResponseFactory) -> None:
    driver = start()
    first = driver.step.request
    assert first.url == (
        "http://127.0.0.1:40342/metadata/identity/oauth2/token"
        "?api-version=2020-06-01&resource=https%3A%2F%2Fvault"
    )
    assert first.headers == {"Metadata": "true", "Host": "localhost:40342"}
    assert first.auth is None
    second = driver.respond(challenge(responses)).request
    assert second.auth.path == KEY_FILE
    assert (second.url, second.headers) == (first.url, first.headers)
    assert driver.finish(responses.token("secret")).value == "secret"


def test_key_file_is_sent_as_basic_credentials(
    confirmed: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.key"
    path.write_text("s3cret")
    auth = KeyFileAuth(str(path), str(tmp_path))
    request = auth(Request("http://127.0.0.1:40342/x", {"Metadata": "true"}))
    assert plain_headers(request)["Authorization"] == "Basic s3cret"
    assert plain_headers(request)["Metadata"] == "true"
    assert "s3cret" not in repr(request) + repr(request.headers)


def test_listener_is_checked_before_each_send_and_the_key_file_is_read_once(
    confirmed: list[int], tmp_path: Path
) -> None:
    path = tmp_path / "a.key"
    path.write_text("s3cret")
    auth = KeyFileAuth(str(path), str(tmp_path))
    auth(Request("http://127.0.0.1:7/x", {}))
    path.unlink()
    request = auth(Request("http://127.0.0.1:7/x", {}))
    assert plain_headers(request)["Authorization"] == "Basic s3cret"
    assert confirmed == [7, 7]


def test_key_file_is_not_read_for_an_untrusted_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(port: int) -> None:
        raise SecretUnreadable(f"user 7 listens on {port}")

    monkeypatch.setattr(peer, "confirm", refuse)
    monkeypatch.setattr(key_file, "read_secret", lambda *_: pytest.fail("a key file was read"))
    with pytest.raises(SecretUnreadable, match="user 7 listens on 40342"):
        auth_for(KEY_FILE)(Request("http://127.0.0.1:40342/x", {}))


@pytest.mark.parametrize(
    ("url", "port"),
    [("http://localhost:7/x", 7), ("http://localhost/x", 80), ("https://127.0.0.1/x", 443)],
)
def test_checked_port_is_the_port_of_the_request(url: str, port: int) -> None:
    assert port_of(url) == port


def test_unreadable_key_file_ends_the_exchange(
    confirmed: list[int], clock: FakeClock, responses: ResponseFactory, tmp_path: Path
) -> None:
    auth_in = functools.partial(KeyFileAuth, directory=str(tmp_path))
    steps = exchange(ARC, ENDPOINT, TokenRequest("r", SYSTEM_ASSIGNED), no_jitter, auth_in)
    with pytest.raises(SecretUnreadable, match="does not exist") as caught:
        ExchangeRunner(lambda _: challenge(responses, f"{tmp_path}/a.key"), clock).run(steps)
    assert caught.value.reason is Reason.ARC_KEY_FILE_MISSING
    assert caught.value.attempts == 1


NOT_ASSIGNED = {"error": "identity_not_found", "error_codes": [404]}


@pytest.mark.parametrize("is_challenged", [True, False])
def test_identity_that_is_not_assigned_is_unavailable_and_not_retried(
    responses: ResponseFactory, is_challenged: bool
) -> None:
    driver = start(Identity("client_id", "abc"))
    if is_challenged:
        driver.respond(challenge(responses))
    with pytest.raises(Unavailable, match="client_id 'abc' to this server") as caught:
        driver.respond(responses.json(404, NOT_ASSIGNED))
    assert (caught.value.reason, caught.value.status) == (Reason.IDENTITY_NOT_FOUND, 404)


@pytest.mark.parametrize("body", [{"error": "not_found"}, {"error": {"code": 404}}, [], "x"])
def test_other_404_of_the_agent_is_retried(responses: ResponseFactory, body: object) -> None:
    assert isinstance(start().respond(responses.json(404, body)), Pause)


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


def failure_after_secret(
    clock: FakeClock, responses: ResponseFactory, tmp_path: Path, outcome: Response | Exception
) -> Failure:
    """Return the failure of a fetch in which each authenticated request has this outcome."""
    path = tmp_path / "a.key"
    path.write_text(SECRET)

    def send(request: Request) -> Response:
        if "Authorization" not in request.headers:
            return challenge(responses, str(path))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    auth_in = functools.partial(KeyFileAuth, directory=str(tmp_path))
    token_request = TokenRequest("r", Identity("client_id", "x-1"))
    with pytest.raises(Failure) as caught:
        ExchangeRunner(send, clock).run(exchange(ARC, ENDPOINT, token_request, no_jitter, auth_in))
    return caught.value


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
@pytest.mark.parametrize("where", ["text", "body", "header", "echo", "content type", "dropped"])
def test_no_message_contains_an_echoed_secret(
    confirmed: list[int],
    clock: FakeClock,
    responses: ResponseFactory,
    tmp_path: Path,
    echo: str,
    where: str,
) -> None:
    outcomes: dict[str, Response | Exception] = {
        "text": responses.json(403, {"error": "no", "error_description": f"not {echo} !"}),
        "body": responses.raw(403, f"what is {echo} ?"),
        "header": responses.raw(401, www_authenticate=f"Digest {echo}"),
        "echo": responses.token(client_id=echo),
        "content type": responses.raw(200, "{", content_type=f"json {echo}"),
        "dropped": ReadFailed(f"reset by {echo}"),
    }
    failure = failure_after_secret(clock, responses, tmp_path, outcomes[where])
    message = "".join(c for c in str(failure).lower() if c.isalnum())
    bare = "".join(c for c in echo.lower() if c.isalnum())
    assert not [i for i in range(len(bare) - 8) if bare[i : i + 9] in message]
    assert not [a for a in failure.args if SECRET in a]


def test_no_variable_of_a_failed_frame_shows_the_secret(
    confirmed: list[int], clock: FakeClock, responses: ResponseFactory, tmp_path: Path
) -> None:
    failure = failure_after_secret(clock, responses, tmp_path, responses.raw(403, "no"))
    frames = [frame for frame, _ in traceback.walk_tb(failure.__traceback__)][1:]
    assert frames
    assert not [f for f in frames if SECRET in repr(f.f_locals)]


@pytest.mark.parametrize(
    ("header", "path"),
    [
        ("Basic realm=/a/b.key", "/a/b.key"),
        (" Basic realm=/a/b.key", "/a/b.key"),
        ('basic REALM = "/a/b c.key"', "/a/b c.key"),
        ("Basic realm=/a/x=y.key ", "/a/x=y.key"),
        (r"Basic realm=C:\ProgramData\x\Tokens\a.key", r"C:\ProgramData\x\Tokens\a.key"),
    ],
)
def test_all_forms_of_the_realm_are_understood(
    responses: ResponseFactory, header: str, path: str
) -> None:
    assert auth_after(start(), responses.raw(401, www_authenticate=header)).path == path


@given(st.text() | st.text(alphabet='Basic realm="/.,key'))
def test_any_header_is_a_path_or_a_failure(header: str) -> None:
    responses = ResponseFactory(FakeClock())
    try:
        auth = auth_after(start(), responses.raw(401, www_authenticate=header))
    except SecretUnreadable as failure:
        message = str(failure)
    else:
        message = ""
        assert auth.path
    assert not message or message.isprintable()


def test_header_of_a_hundred_thousand_spaces_takes_no_time(responses: ResponseFactory) -> None:
    header = "Basic realm=" + " " * 100_000 + "\x00"
    assert auth_after(start(), responses.raw(401, www_authenticate=header)).path == "\x00"


@pytest.mark.parametrize(
    "header",
    ["Basic", "Basic realm=", 'Basic realm=""', "Bearer realm=/a", "Basic name=/a", "Basic /a", ""],
)
def test_challenge_without_a_key_file_is_refused(responses: ResponseFactory, header: str) -> None:
    with pytest.raises(SecretUnreadable, match="does not name a key file") as caught:
        start().respond(responses.raw(401, www_authenticate=header))
    assert caught.value.reason is Reason.ARC_CHALLENGE_MALFORMED


def test_token_without_a_challenge_is_refused(responses: ResponseFactory) -> None:
    with pytest.raises(Refused, match="200 instead of a 401 challenge") as caught:
        start().respond(responses.token("secret"))
    assert "secret" not in str(caught.value)
    assert caught.value.reason is Reason.ARC_NOT_CHALLENGED


@pytest.mark.parametrize(("status", "kind"), [(400, Unavailable), (403, Refused), (405, Refused)])
def test_error_instead_of_a_challenge_is_shown(
    responses: ResponseFactory, status: int, kind: type[Failure]
) -> None:
    with pytest.raises(kind, match=f"HTTP {status}: an_error: what the service says"):
        start().respond(responses.error(status))


def test_500_is_retried_and_then_shown(responses: ResponseFactory) -> None:
    driver = start()
    for _ in range(4):
        assert isinstance(driver.respond(responses.error(500)), Pause)
        assert isinstance(driver.respond(None), Send)
    with pytest.raises(Refused, match="keeps returning HTTP 500: an_error: what the service says"):
        driver.respond(responses.error(500))


def test_replaced_key_file_leads_to_a_new_challenge(responses: ResponseFactory) -> None:
    driver = start()
    driver.respond(challenge(responses))
    again = driver.respond(challenge(responses))
    assert isinstance(again, Send)
    assert again.request.auth is None
    assert auth_after(driver, challenge(responses, "/other.key")).path == "/other.key"
    assert driver.finish(responses.token()).value == "a-token"


def test_secret_that_is_never_accepted_ends_in_an_error(responses: ResponseFactory) -> None:
    driver = start()
    with pytest.raises(Refused, match="401"):
        for _ in range(10):
            driver.respond(challenge(responses))


def test_authenticated_request_has_retries_of_its_own(responses: ResponseFactory) -> None:
    driver = start()
    assert driver.respond(responses.error(503)) == Pause(2)
    driver.respond(None)
    driver.respond(challenge(responses))
    assert driver.respond(responses.error(503)) == Pause(2)


def test_no_agent_is_unavailable(responses: ResponseFactory) -> None:
    driver = start()
    with pytest.raises(Unavailable, match="azcmagent"):
        for _ in range(10):
            driver.respond(ConnectFailed("refused"))
            driver.respond(None)


@pytest.mark.parametrize(
    ("selector", "parameter"),
    [("client_id", "client_id"), ("object_id", "object_id"), ("resource_id", "msi_res_id")],
)
@pytest.mark.parametrize("echo", ["X-1", "x-1", None, "", "other"])
def test_user_assigned_identity_must_be_confirmed(
    responses: ResponseFactory, selector: str, parameter: str, echo: str | None
) -> None:
    driver = start(Identity(selector, "x-1"))
    assert f"&{parameter}=x-1" in driver.step.request.url
    driver.respond(challenge(responses))
    response = responses.token("secret", **{parameter: echo})
    if echo and echo.lower() == "x-1":
        assert driver.finish(response).value == "secret"
        return
    with pytest.raises(Malformed, match="did not confirm") as caught:
        driver.respond(response)
    assert "secret" not in str(caught.value)
    assert caught.value.reason is Reason.IDENTITY_MISMATCH


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
        "http://127.9.9.9/x",
        "http://[::1]:1/x",
        "http://2130706433/x",
        "...",
    ],
)
def test_no_request_is_sent_to_another_machine(endpoint: str) -> None:
    assert not is_loopback(endpoint)
    with pytest.raises(SecretUnreadable, match="not on this machine") as caught:
        start(endpoint=endpoint)
    assert caught.value.reason is Reason.ARC_ENDPOINT_NOT_LOCAL


def end_of(driver: ExchangeDriver, error: Exception) -> tuple[Failure, float]:
    """Return the failure after ``error`` for each request, and the seconds of all pauses."""
    seconds = 0.0
    try:
        while True:
            seconds += driver.respond(error).seconds
            driver.respond(None)
    except Failure as failure:
        return failure, seconds


@pytest.mark.parametrize(("is_named", "kind"), [(False, Unavailable), (True, Refused)])
def test_agent_may_start_late_and_exists_if_the_environment_names_it(
    is_named: bool, kind: type[Failure]
) -> None:
    failure, seconds = end_of(start(is_named=is_named), ConnectFailed("refused"))
    assert (type(failure), failure.reason) == (kind, Reason.UNREACHABLE)
    assert 8 <= seconds <= 10
    failure, _ = end_of(start(is_named=is_named), ReadFailed("reset"))
    assert (type(failure), failure.reason) == (kind, Reason.NO_RESPONSE)


@pytest.mark.parametrize("error", [ConnectFailed("refused"), ReadFailed("reset")])
def test_agent_that_has_sent_a_challenge_exists(
    responses: ResponseFactory, error: Exception
) -> None:
    driver = start()
    driver.respond(challenge(responses))
    assert type(end_of(driver, error)[0]) is Refused


def test_agent_that_rejects_its_own_key_has_a_reason(
    responses: ResponseFactory, confirmed: list[int]
) -> None:
    driver = start()
    with pytest.raises(Refused, match="rejected the content of its key file") as raised:
        for _ in range(6):
            driver.respond(challenge(responses))
    assert raised.value.reason is Reason.ARC_KEY_REJECTED
    assert not confirmed


def test_agent_without_a_connection_to_azure_has_a_reason(responses: ResponseFactory) -> None:
    driver = start()
    response = responses.json(503, {"error": "service_unavailable", "error_description": "x"})
    with pytest.raises(Refused, match="HTTP 503") as raised:
        for _ in range(20):
            driver.respond(None if isinstance(driver.step, Pause) else response)
    assert raised.value.reason is Reason.ARC_NOT_CONNECTED
