"""The sync credential with emulators of a VM and an Arc server, and with injected faults."""

from __future__ import annotations

import copy
import inspect
import logging
import os
import pickle
import threading
import traceback
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from azure.core.credentials import AccessToken, AccessTokenInfo, SupportsTokenInfo, TokenCredential
from azure.core.exceptions import ClientAuthenticationError
from azure.core.pipeline.transport import AioHttpTransport, RequestsTransport

import imds_identity
from imds_identity import (
    ArcSecretError,
    CredentialUnavailableError,
    MalformedAnswerError,
    ManagedIdentityCredential,
    ManagedIdentityError,
    TokenRefusedError,
)
from imds_identity.emulator import DEFAULT_USER_ASSIGNED

if TYPE_CHECKING:
    from imds_identity.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Callable

SCOPE = "https://vault.azure.net/.default"


def claims_of(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def arc_credential(emulator: Emulator, **settings: Any) -> ManagedIdentityCredential:
    directory = emulator.tokens_directory
    return ManagedIdentityCredential(
        arc_tokens_directory=str(directory) if directory else None, **settings
    )


def run_in_child(work: Callable[[], str]) -> str:
    """Return the result of ``work`` in a forked child, or the repr of its exception."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - the child must exit here in any case
            result = repr(error)
        os.write(writing, result.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        result = pipe.read()
    os.waitpid(child, 0)
    return result


@pytest.fixture
def start_configured_emulator(
    emulator_factory: Callable[..., Emulator], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Emulator]:
    """Return a function that starts an emulator and sets its environment variables."""

    def start(profile: str, **settings: Any) -> Emulator:
        emulator = emulator_factory(profile, **settings)
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        return emulator

    return start


def test_vm_token_is_fetched(imds_emulator: Emulator) -> None:
    token = ManagedIdentityCredential().get_token(SCOPE)
    assert isinstance(token, AccessToken)
    claims = claims_of(token.token)
    assert claims["aud"] == "https://vault.azure.net"
    assert token.expires_on == claims["exp"]
    [request] = imds_emulator.token_requests
    assert request.query == {"api-version": "2018-02-01", "resource": "https://vault.azure.net"}


def test_arc_server_token_is_fetched(arc_emulator: Emulator) -> None:
    token = arc_credential(arc_emulator).get_token(SCOPE)
    assert claims_of(token.token)["aud"] == "https://vault.azure.net"
    assert [request.status for request in arc_emulator.token_requests] == [401, 200]


@pytest.mark.parametrize("selector", ["client_id", "object_id", "resource_id"])
@pytest.mark.parametrize("profile", ["vm", "arc"])
def test_each_selector_selects_the_user_assigned_identity(
    start_configured_emulator: Callable[..., Emulator], profile: str, selector: str
) -> None:
    emulator = start_configured_emulator(profile)
    user = DEFAULT_USER_ASSIGNED
    settings = {selector: getattr(user, selector)}
    credential = arc_credential(emulator, **settings)
    assert claims_of(credential.get_token(SCOPE).token)["oid"] == user.object_id


def test_token_of_an_older_arc_agent_is_rejected_without_confirmation(
    start_configured_emulator: Callable[..., Emulator],
) -> None:
    credential = arc_credential(
        start_configured_emulator("arc", arc_agent="older"), client_id="somebody"
    )
    with pytest.raises(MalformedAnswerError, match="did not confirm the client_id 'somebody'"):
        credential.get_token(SCOPE)


def test_identity_that_arc_does_not_know_is_unavailable_at_once(
    start_configured_emulator: Callable[..., Emulator],
) -> None:
    emulator = start_configured_emulator("arc")
    with pytest.raises(CredentialUnavailableError, match="identity_not_found") as caught:
        arc_credential(emulator, client_id="somebody").get_token(SCOPE)
    assert caught.value.reason_code == "identity-not-found"
    assert [request.status for request in emulator.token_requests] == [401, 404]


def test_credential_implements_the_protocols_of_azure_core(imds_emulator: Emulator) -> None:
    credential = ManagedIdentityCredential()
    typed: TokenCredential = credential
    informed: SupportsTokenInfo = credential
    assert isinstance(typed, TokenCredential)
    assert isinstance(informed, SupportsTokenInfo)
    info = informed.get_token_info(SCOPE, options={"enable_cae": True, "tenant_id": "t"})
    assert isinstance(info, AccessTokenInfo)
    assert info.token_type == "Bearer"
    assert info.refresh_on is not None
    assert info.refresh_on < info.expires_on
    token = typed.get_token(SCOPE, tenant_id="t", enable_cae=True, anything="else")
    assert (token.token, token.expires_on) == (info.token, info.expires_on)


def test_cached_token_is_the_same_object(imds_emulator: Emulator) -> None:
    credential = ManagedIdentityCredential()
    assert credential.get_token(SCOPE) is credential.get_token(SCOPE)
    assert credential.get_token_info(SCOPE) is credential.get_token_info(SCOPE)
    assert len(imds_emulator.token_requests) == 1


def test_credentials_share_a_cache_by_identity_and_resource(
    imds_emulator: Emulator,
) -> None:
    user = DEFAULT_USER_ASSIGNED
    for _ in range(3):
        ManagedIdentityCredential().get_token(SCOPE)
        ManagedIdentityCredential().get_token("https://vault.azure.net")
        ManagedIdentityCredential(client_id=user.client_id).get_token(SCOPE)
        ManagedIdentityCredential(client_id=user.client_id.upper()).get_token(SCOPE)
        ManagedIdentityCredential().get_token("https://storage.azure.com/.default")
    assert len(imds_emulator.token_requests) == 3


def test_64_threads_with_their_own_credentials_make_one_request(imds_emulator: Emulator) -> None:
    imds_emulator.fault(delay=0.1)
    barrier = threading.Barrier(64)
    tokens: list[str] = []

    def work() -> None:
        credential = ManagedIdentityCredential()
        barrier.wait()
        tokens.append(credential.get_token(SCOPE).token)

    threads = [threading.Thread(target=work) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tokens) == 64
    assert len(set(tokens)) == 1
    assert len(imds_emulator.token_requests) == 1


def test_clear_cache_causes_a_new_request(imds_emulator: Emulator) -> None:
    credential = ManagedIdentityCredential()
    credential.get_token(SCOPE)
    imds_identity.clear_cache()
    credential.get_token(SCOPE)
    assert len(imds_emulator.token_requests) == 2


def test_claims_fetch_a_token_that_replaces_the_cached_one(imds_emulator: Emulator) -> None:
    credential = ManagedIdentityCredential()
    first = credential.get_token(SCOPE)
    second = credential.get_token(SCOPE, claims='{"access_token":{}}')
    third = credential.get_token_info(SCOPE, options={"claims": '{"access_token":{}}'})
    assert len({first.token, second.token, third.token}) == 3
    assert ManagedIdentityCredential().get_token(SCOPE).token == third.token
    assert [r.query.get("bypass_cache") for r in imds_emulator.token_requests] == [
        None, "true", "true",
    ]  # fmt: skip


@pytest.mark.parametrize("scopes", [(), ("a", "b"), ("",)])
def test_invalid_scopes_are_rejected(scopes: tuple[str, ...]) -> None:
    credential = ManagedIdentityCredential()
    with pytest.raises(ValueError, match="scope"):
        credential.get_token(*scopes)
    with pytest.raises(ValueError, match="scope"):
        credential.get_token_info(*scopes)


@pytest.mark.parametrize("claims", ["\ud800", "x" * 70_000, 5])
def test_invalid_claims_are_rejected(imds_emulator: Emulator, claims: Any) -> None:
    credential = ManagedIdentityCredential()
    assert credential.get_token(SCOPE).token
    with pytest.raises(ValueError, match="claims must be"):
        credential.get_token(SCOPE, claims=claims)
    assert len(imds_emulator.token_requests) == 1


def test_two_selectors_are_rejected() -> None:
    with pytest.raises(ValueError, match="client_id and object_id"):
        ManagedIdentityCredential(client_id="a", object_id="b")


def test_unknown_argument_is_rejected() -> None:
    with pytest.raises(TypeError, match=r"ManagedIdentityCredential.*'retry_totla'"):
        ManagedIdentityCredential(retry_totla=3)  # type: ignore[call-arg]


def test_missing_identity_is_reported_with_details(imds_emulator: Emulator) -> None:
    credential = ManagedIdentityCredential(client_id="nobody")
    with pytest.raises(CredentialUnavailableError) as caught:
        credential.get_token(SCOPE)
    message = caught.value.message
    for part in (
        "400",
        "IMDS",
        imds_emulator.endpoint,
        "https://vault.azure.net",
        "nobody",
        "once",
    ):
        assert part in message
    assert caught.value.status_code == 400
    assert caught.value.attempts == 1
    assert isinstance(caught.value, ClientAuthenticationError)


def json_response(body: str, content_type: str = "application/json") -> dict[str, Any]:
    return {"status": 200, "body": body, "content_type": content_type}


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (json_response("<html>", "text/html"), CredentialUnavailableError, "6 bytes of text/html"),
        (
            json_response('{"access_token": "s3cret'),
            CredentialUnavailableError,
            "did not come from IMDS",
        ),
        (json_response("[]"), CredentialUnavailableError, "did not come from IMDS"),
        (json_response('{"access_token": ""}'), MalformedAnswerError, "no access_token"),
        (
            json_response('{"access_token": "s3cret"}'),
            MalformedAnswerError,
            "neither a valid expires_on",
        ),
        ({"token_lifetime": -60}, MalformedAnswerError, "expired"),
        ({"status": 200, "body": "x" * 300_000}, CredentialUnavailableError, "larger than"),
        ({"status": 302}, CredentialUnavailableError, "redirect"),
        ({"status": 418}, TokenRefusedError, "418"),
        ({"status": 429, "retry_after": 3600}, TokenRefusedError, "retry in 3600 s"),
    ],
)
def test_response_without_a_token_is_rejected(
    imds_emulator: Emulator, fault: dict[str, Any], error: type[Exception], message: str
) -> None:
    imds_emulator.fault(category="identity", **fault)
    credential = ManagedIdentityCredential()
    with pytest.raises(error, match=message) as caught:
        credential.get_token(SCOPE)
    assert "s3cret" not in str(caught.value)
    imds_emulator.clear_faults()
    imds_identity.clear_cache()
    assert credential.get_token(SCOPE).token


def test_traceback_and_its_variables_contain_no_secret(arc_emulator: Emulator) -> None:
    arc_emulator.fault(leg="answer", **json_response('{"access_token": "s3cret-token"}'))
    with pytest.raises(ManagedIdentityError) as caught:
        arc_credential(arc_emulator).get_token(SCOPE)
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    own_frames = [frame for frame in frames.stack if frame.name != inspect.stack()[0].function]
    text = "".join(f"{frame.locals}" for frame in own_frames) + str(caught.value)
    assert own_frames
    assert frames.__cause__ is frames.__context__ is None
    assert "s3cret-token" not in text
    assert "Basic " not in text


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to become another user"
)
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_error_for_a_user_without_the_group_names_the_fix(arc_emulator: Emulator) -> None:
    def as_nobody() -> str:
        os.setgid(65534)
        os.setuid(65534)
        with pytest.raises(ArcSecretError) as caught:
            arc_credential(arc_emulator).get_token(SCOPE)
        return str(caught.value)

    message = run_in_child(as_nobody)
    assert "may not read" in message
    assert "sudo usermod -aG himds" in message


@pytest.mark.parametrize("realm", ["{tokens}/../x.key", "/etc/passwd", "{tokens}/missing.key"])
def test_hostile_arc_challenge_gets_no_secret(arc_emulator: Emulator, realm: str) -> None:
    path = realm.format(tokens=arc_emulator.tokens_directory)
    arc_emulator.fault(
        leg="challenge", status=401, headers={"WWW-Authenticate": f"Basic realm={path}"}
    )
    with pytest.raises(ArcSecretError):
        arc_credential(arc_emulator).get_token(SCOPE)
    assert all(
        "authorization" not in {n.lower() for n in dict(r.headers)}
        for r in arc_emulator.token_requests
    )


@pytest.mark.parametrize("status", [200, 403])
def test_first_arc_response_must_be_a_challenge(arc_emulator: Emulator, status: int) -> None:
    arc_emulator.fault(leg="challenge", status=status, body="an error")
    with pytest.raises(TokenRefusedError):
        arc_credential(arc_emulator).get_token(SCOPE)


def test_proxies_of_the_environment_are_not_used(
    imds_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert ManagedIdentityCredential().get_token(SCOPE).token
    assert (
        ManagedIdentityCredential(transport=RequestsTransport()).get_token(SCOPE, claims="c").token
    )


def test_connection_reset_is_retried_on_a_new_connection(
    imds_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imds_identity._platform.clock.SystemClock.sleep", [].append)
    imds_emulator.fault(reset=True, times=2)
    assert ManagedIdentityCredential().get_token(SCOPE).token


def test_throttled_request_is_retried_after_the_requested_delay(
    imds_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("imds_identity._platform.clock.SystemClock.sleep", slept.append)
    imds_emulator.fault(status=429, retry_after=3, times=2)
    assert ManagedIdentityCredential().get_token(SCOPE).token
    assert len(slept) == 2
    assert min(slept) >= 3


def test_credential_is_unavailable_without_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("imds_identity._platform.clock.SystemClock.sleep", slept.append)
    with pytest.raises(CredentialUnavailableError, match=r"no connection.*Tried [5-9] times"):
        ManagedIdentityCredential().get_token(SCOPE)
    assert sum(slept) <= 12  # no time passes, so the rate limiter waits in addition


def test_invalid_url_in_a_variable_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "169.254.169.254")
    with pytest.raises(
        CredentialUnavailableError, match="AZURE_POD_IDENTITY_AUTHORITY_HOST results"
    ):
        ManagedIdentityCredential().get_token(SCOPE)


def test_remote_arc_endpoint_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://example.invalid/token")
    monkeypatch.setenv("IMDS_ENDPOINT", "http://example.invalid")
    with pytest.raises(ArcSecretError, match="not on this machine"):
        ManagedIdentityCredential().get_token(SCOPE)


def test_pickle_and_copy_preserve_settings_without_tokens(imds_emulator: Emulator) -> None:
    user = DEFAULT_USER_ASSIGNED
    credential = ManagedIdentityCredential(identity_config={"client_id": user.client_id})
    token = credential.get_token(SCOPE).token
    data = pickle.dumps(credential)
    assert token.encode() not in data
    restored = pickle.loads(data)
    assert repr(restored) == repr(credential)
    assert (
        restored.get_token(SCOPE).token == copy.deepcopy(credential).get_token(SCOPE).token == token
    )
    with pytest.raises(TypeError, match="its own transport"):
        pickle.dumps(ManagedIdentityCredential(transport=RequestsTransport()))


@pytest.mark.parametrize(
    "error",
    [
        CredentialUnavailableError("m", status_code=400, attempts=2, seconds=1.5),
        TokenRefusedError("m", retry_after=7.0),
        MalformedAnswerError("m"),
        ArcSecretError("m"),
    ],
)
def test_errors_can_be_pickled(error: ManagedIdentityError) -> None:
    restored = pickle.loads(pickle.dumps(error))
    assert isinstance(restored, type(error))
    assert str(restored) == str(error)
    assert (restored.status_code, restored.attempts, restored.seconds, restored.retry_after) == (
        error.status_code, error.attempts, error.seconds, error.retry_after,
    )  # fmt: skip


def test_reprs_and_logs_contain_no_token(
    imds_emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    credential = ManagedIdentityCredential(source="imds")
    token = credential.get_token(SCOPE)
    info = credential.get_token_info(SCOPE)
    assert repr(credential) == "ManagedIdentityCredential(source='imds')"
    for text in (
        repr(token),
        str(token),
        repr(info),
        str(info),
        repr(vars(credential)),
        caplog.text,
    ):
        assert token.token not in text
    assert token == AccessToken(token.token, token.expires_on)


def test_transport_is_used_and_closed_with_the_credential(imds_emulator: Emulator) -> None:
    seen: list[str] = []
    transport = RequestsTransport()
    with ManagedIdentityCredential(
        transport=transport,
        raw_request_hook=lambda request: seen.append(request.http_request.url),
        raw_response_hook=lambda response: seen.append(str(response.http_response.status_code)),
    ) as credential:
        assert credential.get_token(SCOPE).token
        assert transport.session is not None
    assert transport.session is None
    assert seen == [f"{imds_emulator.endpoint}{imds_emulator.token_requests[0].target}", "200"]
    assert dict(imds_emulator.token_requests[0].headers)["metadata"] == "true"


def test_hooks_work_without_a_transport(arc_emulator: Emulator) -> None:
    statuses: list[int] = []
    credential = arc_credential(
        arc_emulator, raw_response_hook=lambda r: statuses.append(r.http_response.status_code)
    )
    assert credential.get_token(SCOPE).token
    assert statuses == [401, 200]


def test_async_transport_is_rejected() -> None:
    with pytest.raises(TypeError, match=r"use imds_identity\.aio"):
        ManagedIdentityCredential(transport=AioHttpTransport())


def test_credential_without_a_transport_can_be_used_after_close(
    imds_emulator: Emulator,
) -> None:
    credential = ManagedIdentityCredential()
    with credential:
        credential.get_token(SCOPE)
    credential.close()
    assert credential.get_token(SCOPE, claims="c").token


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_credential_works_in_parent_and_child_after_a_fork(imds_emulator: Emulator) -> None:
    credential = ManagedIdentityCredential()
    parent_token = credential.get_token(SCOPE).token

    def in_child() -> str:
        is_same = credential.get_token(SCOPE).token == parent_token
        has_other = bool(credential.get_token("https://storage.azure.com").token)
        return f"{is_same} {has_other}"

    assert run_in_child(in_child) == "True True"
    assert credential.get_token("https://graph.microsoft.com").token


def test_credential_works_in_a_chain_of_azure_identity(imds_emulator: Emulator) -> None:
    from azure.core.credentials import AccessToken as Plain
    from azure.identity import ChainedTokenCredential
    from azure.identity import CredentialUnavailableError as AzureIdentityError

    class NextCredential:
        def get_token(self, *scopes: str, **kwargs: Any) -> AccessToken:
            return Plain("the next link's", 0)

    unavailable = ManagedIdentityCredential(client_id="nobody")
    assert (
        ChainedTokenCredential(unavailable, NextCredential()).get_token(SCOPE).token
        == "the next link's"
    )
    with pytest.raises(AzureIdentityError) as caught:
        unavailable.get_token(SCOPE)
    assert isinstance(caught.value, CredentialUnavailableError)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), AzureIdentityError)


def test_bearer_token_provider_returns_the_token_of_the_credential(imds_emulator: Emulator) -> None:
    credential = ManagedIdentityCredential()
    token_provider = imds_identity.get_bearer_token_provider(credential, SCOPE)
    assert token_provider() == credential.get_token(SCOPE).token
