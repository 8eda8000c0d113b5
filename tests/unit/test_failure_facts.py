"""The facts of failures that other code can rely on: kind, reason, status, code and Retry-After."""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._core.failure import (
    Failure,
    Malformed,
    Reason,
    Refused,
    SecretUnreadable,
    Unavailable,
)
from imds_identity._core.identity import SYSTEM_ASSIGNED, Identity
from imds_identity._core.secret import Secret
from imds_identity._core.source import Source
from imds_identity._core.token_request import TokenRequest
from imds_identity._http.exchange import ConnectFailed, Pause, ReadFailed, Send, send
from imds_identity._http.messages import Request, Response
from imds_identity._http.retry_options import RetryOptions
from imds_identity._http.runner import ExchangeRunner
from imds_identity._platform.environment import Environment
from imds_identity._sources import imds, registry, token_proxy, workload
from imds_identity._sources.app_hosts import exchange as app_hosts
from imds_identity._sources.app_hosts.spec import AppHostSpec
from imds_identity._sources.arc import exchange as arc
from imds_identity._sources.arc import key_file, peer
from imds_identity._sources.arc.auth import KeyFileAuth
from imds_identity._sources.arc.source import ARC
from imds_identity._sources.azure_vm import IMDS
from imds_identity._sources.refusals import access_denied, check_identity, refusal
from imds_identity._sources.token_proxy import TokenProxy
from imds_identity._sources.workload_identity import WORKLOAD_IDENTITY
from support import FakeClock, ResponseFactory, no_jitter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TOKEN_REQUEST = TokenRequest("https://vault.azure.net", SYSTEM_ASSIGNED)
CLIENT = TokenRequest("https://vault.azure.net", Identity("client_id", "a-client"))
ENDPOINT = "http://127.0.0.1:40342/token"
APP_HOSTS = {spec.name: spec for spec in registry.HOSTS if isinstance(spec, AppHostSpec)}
Facts = tuple[type[Failure], Reason, int | None]


def facts_of(call: Callable[[], object]) -> Facts:
    """Return kind, reason and status of the failure that ``call`` raises."""
    with pytest.raises(Failure) as caught:
        call()
    check_texts(caught.value)
    return type(caught.value), caught.value.reason, caught.value.status


def check_texts(failure: Failure) -> None:
    """Check that the problem is a clause and the hint consists of sentences."""
    assert failure.problem
    assert not failure.problem.endswith((".", "?", "!"))
    assert not failure.hint or failure.hint.endswith((".", "?", "!"))


def run(steps: Any, *outcomes: Any) -> None:
    """Run an exchange whose requests have these outcomes, the last one repeatedly."""
    remaining = list(outcomes)
    step = next(steps)
    while True:
        if isinstance(step, Pause):
            step = steps.send(None)
            continue
        outcome = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        step = steps.throw(outcome) if isinstance(outcome, Exception) else steps.send(outcome)


def response(status: int, body: Any = None, **headers: str) -> Response:
    content = body if isinstance(body, bytes) else json.dumps(body or {"error": "e"}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, named, content, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("status", "kind", "reason", "retry_after"),
    [
        (302, Unavailable, Reason.REDIRECT, None),
        (400, Unavailable, Reason.ENTRA_REFUSED, None),
        (403, Refused, Reason.ENTRA_REFUSED, None),
        (404, Refused, Reason.SERVICE_FAILING, 7),
        (410, Refused, Reason.SERVICE_FAILING, 7),
        (411, Refused, Reason.ENTRA_REFUSED, None),
        (429, Refused, Reason.THROTTLED, 7),
        (499, Refused, Reason.ENTRA_REFUSED, None),
        (500, Refused, Reason.SERVICE_FAILING, 7),
    ],
)
def test_refusal_has_the_facts_of_its_response(
    status: int, kind: type[Failure], reason: Reason, retry_after: float | None
) -> None:
    failure = refusal(response(status, {"error": "AADSTS90002"}, retry_after="7"), TOKEN_REQUEST)
    check_texts(failure)
    assert (type(failure), failure.reason, failure.status) == (kind, reason, status)
    assert failure.retry_after == retry_after
    assert failure.service_code == ("" if status in (302, 429) else "AADSTS90002")


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (403, "access rules deny this process access"),
        (421, "could not determine which process sent the request"),
        (500, "or the service behind it, failed"),
    ],
)
def test_denial_has_the_facts_of_its_response(status: int, text: str) -> None:
    failure = access_denied(response(status, b"", retry_after="7"), "/token")
    check_texts(failure)
    assert text in failure.problem
    assert failure.reason is Reason.METADATA_SECURITY
    assert (failure.status, failure.retry_after) == (status, 7)


def test_another_identity_is_a_mismatch() -> None:
    named = response(200, {"access_token": "t", "client_id": "other"})
    check = functools.partial(check_identity, named, CLIENT.identity, required=False)
    assert facts_of(check) == (Malformed, Reason.IDENTITY_MISMATCH, 200)


@pytest.mark.parametrize(
    ("outcome", "facts"),
    [
        (response(200, b"<html>"), (Unavailable, Reason.WRONG_SERVICE, 200)),
        (response(200, {"token": "t"}), (Unavailable, Reason.WRONG_SERVICE, 200)),
        (response(401, b"<html>"), (Unavailable, Reason.WRONG_SERVICE, 401)),
        (response(307, b""), (Unavailable, Reason.REDIRECT, 307)),
        (response(404), (Refused, Reason.SERVICE_FAILING, 404)),
        (response(200, {"access_token": "t"}), (Malformed, Reason.MALFORMED, 200)),
        (
            response(200, {"access_token": "t", "expires_on": "0"}),
            (Malformed, Reason.TOKEN_EXPIRED, 200),
        ),
        (Malformed("compressed"), (Unavailable, Reason.WRONG_SERVICE, None)),
        (ConnectFailed("refused"), (Unavailable, Reason.UNREACHABLE, None)),
        (ReadFailed("reset"), (Unavailable, Reason.NO_RESPONSE, None)),
    ],
)
def test_failures_of_imds(outcome: Any, facts: Facts) -> None:
    steps = imds.exchange(IMDS, ENDPOINT, TOKEN_REQUEST, no_jitter)
    assert facts_of(lambda: run(steps, outcome)) == facts


AUTHORITY = "https://login.example/a-tenant"
AUTH_FOR = functools.partial(KeyFileAuth, directory="/tokens")
EXCHANGES: dict[str, Callable[..., Any]] = {
    "imds": functools.partial(imds.exchange, IMDS, ENDPOINT, TOKEN_REQUEST, no_jitter),
    "app-service": functools.partial(
        app_hosts.exchange,
        APP_HOSTS["app-service"],
        ENDPOINT,
        TOKEN_REQUEST,
        no_jitter,
        secret=Secret("s"),
    ),
    "arc": functools.partial(arc.exchange, ARC, ENDPOINT, TOKEN_REQUEST, no_jitter, AUTH_FOR),
    "workload-identity": functools.partial(
        workload.exchange,
        WORKLOAD_IDENTITY,
        AUTHORITY,
        "A_VARIABLE",
        CLIENT,
        no_jitter,
        Secret("a"),
    ),
}


@pytest.mark.parametrize("status", [400, 403, 404, 410, 429, 500, 503])
@pytest.mark.parametrize("host", EXCHANGES)
def test_failure_keeps_what_the_service_reported(host: str, status: int) -> None:
    outcome = response(status, {"error": "AADSTS700016"}, retry_after="7")
    with pytest.raises(Failure) as caught:
        run(EXCHANGES[host](), outcome)
    check_texts(caught.value)
    assert caught.value.status == status
    assert caught.value.service_code == ("" if status == 429 else "AADSTS700016")
    rules = next(spec.retry_rules for spec in registry.HOSTS if spec.name == host)
    assert caught.value.retry_after == (7 if status in rules else None)


@pytest.mark.parametrize("attempts", [1, 3])
@pytest.mark.parametrize("host", EXCHANGES)
def test_every_host_keeps_the_retry_options_of_the_caller(host: str, attempts: int) -> None:
    steps = EXCHANGES[host](retry_options=RetryOptions(attempts=attempts))
    requests = 0
    step = next(steps)
    with pytest.raises(Refused, match="HTTP 503"):
        while True:
            requests += isinstance(step, Send)
            step = steps.send(response(503) if isinstance(step, Send) else None)
    assert requests == attempts


def test_selector_that_a_host_does_not_know_is_unsupported() -> None:
    select = functools.partial(WORKLOAD_IDENTITY.identity_query, Identity("object_id", "o"))
    assert facts_of(select) == (Refused, Reason.UNSUPPORTED, None)


@pytest.mark.parametrize(
    ("settings", "facts"),
    [
        ({"secret": Secret("é")}, (Unavailable, Reason.INVALID_SETTING, None)),
        ({"thumbprint": "x"}, (Unavailable, Reason.INVALID_SETTING, None)),
        ({"thumbprint": "ab" * 20}, (Unavailable, Reason.INVALID_SETTING, None)),  # without TLS
    ],
)
def test_settings_that_an_app_platform_cannot_use(settings: Any, facts: Facts) -> None:
    spec = APP_HOSTS["service-fabric"]
    settings = {"secret": Secret("s"), **settings}
    steps = app_hosts.exchange(spec, "http://127.0.0.1:9", TOKEN_REQUEST, no_jitter, **settings)
    assert facts_of(lambda: next(steps)) == facts


@pytest.mark.parametrize(
    ("outcome", "facts"),
    [
        (response(401), (Refused, Reason.REFUSED, 401)),
        (response(403, {"error": "AADSTS700016"}), (Refused, Reason.IDENTITY_DELETED, 403)),
        (response(404), (Unavailable, Reason.UNAVAILABLE, 404)),
        (ConnectFailed("refused"), (Refused, Reason.UNREACHABLE, None)),
        (ReadFailed("reset"), (Refused, Reason.NO_RESPONSE, None)),
    ],
)
def test_failures_of_an_app_platform(outcome: Any, facts: Facts) -> None:
    steps = app_hosts.exchange(
        APP_HOSTS["app-service"], ENDPOINT, TOKEN_REQUEST, no_jitter, secret=Secret("s")
    )
    assert facts_of(lambda: run(steps, outcome)) == facts


CHALLENGE = response(401, www_authenticate="Basic realm=/tokens/1.key")


@pytest.mark.parametrize(
    ("endpoint", "outcome", "facts"),
    [
        ("http://x", None, (SecretUnreadable, Reason.ARC_ENDPOINT_NOT_LOCAL, None)),
        (ENDPOINT, response(200), (Refused, Reason.ARC_NOT_CHALLENGED, 200)),
        (
            ENDPOINT,
            response(401, www_authenticate="Bearer"),
            (SecretUnreadable, Reason.ARC_CHALLENGE_MALFORMED, 401),
        ),
        (
            ENDPOINT,
            response(404, {"error": "identity_not_found"}),
            (Unavailable, Reason.IDENTITY_NOT_FOUND, 404),
        ),
        (ENDPOINT, CHALLENGE, (Refused, Reason.ARC_KEY_REJECTED, 401)),
    ],
)
def test_failures_of_the_arc_agent(endpoint: str, outcome: Any, facts: Facts) -> None:
    auth_for = functools.partial(KeyFileAuth, directory="/tokens")
    steps = arc.exchange(ARC, endpoint, TOKEN_REQUEST, no_jitter, auth_for)
    assert facts_of(lambda: run(steps, outcome)) == facts


def test_failures_of_arc_s_key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def facts(error: OSError | None = None, name: str = "1.key") -> Facts:
        def opened(*_: object) -> int:
            assert error
            raise error

        with monkeypatch.context() as patch:
            if error:
                patch.setattr(key_file, "_open", opened)
            read = functools.partial(key_file.read_secret, str(tmp_path / name), str(tmp_path))
            return facts_of(read)

    assert facts() == (SecretUnreadable, Reason.ARC_KEY_FILE_MISSING, None)
    assert facts(PermissionError()) == (SecretUnreadable, Reason.ARC_KEY_FILE_DENIED, None)
    assert facts(OSError(5, "I/O")) == (SecretUnreadable, Reason.ARC_KEY_FILE_UNREADABLE, None)
    assert facts(name="1.txt") == (SecretUnreadable, Reason.ARC_KEY_FILE_INVALID, None)


@pytest.mark.parametrize("owners", [set(), {12345}])
def test_listener_of_another_user_is_not_trusted(
    owners: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(peer, "owners", lambda *_: owners)
    monkeypatch.setattr(peer, "_is_trusted_user", lambda _: False)
    expected = (SecretUnreadable, Reason.ARC_LISTENER_UNTRUSTED, None)
    assert facts_of(lambda: peer.confirm(40342)) == expected


@pytest.mark.parametrize(
    ("authority", "claims", "outcome", "facts"),
    [
        ("http://x/t", None, None, (Unavailable, Reason.INVALID_SETTING, None)),
        (AUTHORITY, "{", None, (Refused, Reason.BAD_REQUEST, None)),
        (
            AUTHORITY,
            None,
            response(400, {"error": "AADSTS700016"}),
            (Refused, Reason.IDENTITY_DELETED, 400),
        ),
        (AUTHORITY, None, response(400), (Refused, Reason.BAD_REQUEST, 400)),
        (AUTHORITY, None, response(401), (Refused, Reason.REFUSED, 401)),
        (AUTHORITY, None, response(503), (Refused, Reason.SERVICE_FAILING, 503)),
        (AUTHORITY, None, response(200, {"access_token": "t"}), (Malformed, Reason.MALFORMED, 200)),
    ],
)
def test_failures_of_workload_identity(
    authority: str, claims: str | None, outcome: Any, facts: Facts
) -> None:
    steps = workload.exchange(
        WORKLOAD_IDENTITY,
        authority,
        "AZURE_AUTHORITY_HOST",
        CLIENT._replace(claims=claims, cae=claims is not None),
        no_jitter,
        Secret("an-assertion"),
    )
    assert facts_of(lambda: run(steps, outcome)) == facts


@pytest.mark.parametrize(
    "settings",
    [
        {"AZURE_KUBERNETES_SNI_NAME": "x"},
        {"AZURE_KUBERNETES_TOKEN_PROXY": "http://x"},
        {"AZURE_KUBERNETES_TOKEN_PROXY": "https://x?y"},
        {"AZURE_KUBERNETES_TOKEN_PROXY": "https://x", "AZURE_KUBERNETES_SNI_NAME": "a b"},
        {
            "AZURE_KUBERNETES_TOKEN_PROXY": "https://x",
            "AZURE_KUBERNETES_CA_FILE": "/f",
            "AZURE_KUBERNETES_CA_DATA": "d",
        },
    ],
)
def test_contradictory_token_proxy_is_an_invalid_setting(settings: dict[str, str]) -> None:
    variables = {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", **settings}
    source = WORKLOAD_IDENTITY.create_source(Environment(variables))
    assert facts_of(source.check) == (Unavailable, Reason.INVALID_SETTING, None)
    assert set(source.settings_to_unset.split()) <= set(settings)
    with pytest.raises(ValueError, match="AZURE_KUBERNETES"):
        source.check_selector(SYSTEM_ASSIGNED)


def test_a_megabyte_of_certificates_is_read(tmp_path: Path) -> None:
    file = tmp_path / "ca"
    file.write_text("x" * (2**20 + 1))
    assert len(token_proxy._content(str(file))) == 2**20


@pytest.mark.parametrize(
    "authority",
    [
        {"AZURE_KUBERNETES_CA_FILE": "/nowhere"},
        {"AZURE_KUBERNETES_CA_DATA": " "},
        {"AZURE_KUBERNETES_CA_DATA": "no certificate"},
    ],
)
def test_unusable_certificate_authority_is_an_invalid_setting(authority: dict[str, str]) -> None:
    proxy = TokenProxy(Environment({"AZURE_KUBERNETES_TOKEN_PROXY": "https://x/y", **authority}))
    assert proxy.problem == ""
    assert facts_of(proxy.server_tls) == (Unavailable, Reason.INVALID_SETTING, None)
    [(variable, value)] = authority.items()
    where = f"{variable} ({value!r})" if variable.endswith("FILE") else variable
    with pytest.raises(Unavailable, match=re.escape(f"in {where} cannot be used: ")):
        proxy.server_tls()


def test_comments_of_certificates_may_contain_any_characters() -> None:
    assert token_proxy._certificates("# \N{SNOWMAN}\n-----BEGIN") == "# \n-----BEGIN"


def test_unreadable_assertion_is_a_failure_of_the_token_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    read = functools.partial(workload.read_assertion, str(file))
    assert facts_of(read) == (Unavailable, Reason.FEDERATED_TOKEN, None)
    for content in ("", " \n", "\N{LATIN SMALL LETTER E WITH ACUTE}", "x" * 65537):
        file.write_text(content, encoding="utf-8")
        assert facts_of(read) == (Unavailable, Reason.FEDERATED_TOKEN, None)
    file.write_text("x" * 65536)
    assert read().reveal() == "x" * 65536


def test_invalid_endpoint_is_an_invalid_setting() -> None:
    expected = (Unavailable, Reason.INVALID_SETTING, None)
    assert facts_of(Source("imds", "nonsense", "X").check) == expected


@pytest.mark.parametrize(
    ("status", "facts", "retry_after"),
    [
        (429, (Refused, Reason.THROTTLED, 429), 40),
        (503, (Refused, Reason.SERVICE_FAILING, 503), 40),
        (0, (Unavailable, Reason.NO_RESPONSE, None), 40),
    ],
)
def test_timeout_of_an_exchange_names_the_last_response(
    clock: FakeClock, responses: ResponseFactory, status: int, facts: Facts, retry_after: float
) -> None:
    def steps() -> Any:
        while True:
            if status:
                yield from send(Request("http://x", {}))
            yield Pause(40)

    runner = ExchangeRunner(lambda _: responses.error(status), clock, seconds=100)
    with pytest.raises(Failure, match="no final response within 100 s") as caught:
        runner.run(steps())
    failure = caught.value
    assert (type(failure), failure.reason, failure.status) == facts
    assert failure.retry_after == retry_after


def test_timeout_before_a_request_requires_no_pause(
    clock: FakeClock, responses: ResponseFactory
) -> None:
    def slow(request: Request) -> Response:
        clock.seconds += 60
        return responses.error(503)

    def steps() -> Any:
        while True:
            yield from send(Request("http://x", {}))

    with pytest.raises(Failure, match="no final response within 100 s") as caught:
        ExchangeRunner(slow, clock, seconds=100).run(steps())
    assert caught.value.retry_after is None
