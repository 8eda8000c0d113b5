"""Workload identity: one POST to Microsoft Entra ID, and what comes of it."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity import ManagedIdentityCredential, TokenRefusedError
from imds_identity._core.failure import Failure, Malformed, Reason, Refused, Unavailable
from imds_identity._core.identity import SYSTEM_ASSIGNED, Identity
from imds_identity._core.secret import Secret
from imds_identity._core.source import hidden_parts, shown_url
from imds_identity._core.token_request import TokenRequest
from imds_identity._http.exchange import ConnectFailed, Pause, ReadFailed
from imds_identity._http.retry_options import DEFAULT_RETRY, RetryOptions
from imds_identity._http.runner import ExchangeRunner
from imds_identity._sources.azure_vm import ImdsSource
from imds_identity._sources.workload import exchange, read_assertion
from imds_identity._sources.workload_identity import WORKLOAD_IDENTITY, WorkloadSource
from imds_identity._token_cache.cache import TokenCache
from imds_identity._token_cache.client import TokenClient
from support import ExchangeDriver, FakeClock, RawServer, ResponseFactory, TlsServer, no_jitter

if TYPE_CHECKING:
    from pathlib import Path

    from imds_identity._http.messages import Request, Response

ASSERTION = "the-w0rkloads-own-token"
AUTHORITY = "https://login.microsoftonline.com/a-tenant"
WANTED = TokenRequest("https://vault.azure.net", Identity("client_id", "client"))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


def steps(
    wanted: TokenRequest = WANTED,
    authority: str = AUTHORITY,
    retry_options: RetryOptions = DEFAULT_RETRY,
) -> ExchangeDriver:
    return ExchangeDriver(
        exchange(
            WORKLOAD_IDENTITY,
            authority,
            "AZURE_AUTHORITY_HOST",
            wanted,
            no_jitter,
            Secret(ASSERTION),
            retry_options,
        )
    )


def form_of(request: Request) -> dict[str, list[str]]:
    assert request.body is not None
    return parse_qs(request.body.decode(), strict_parsing=True)


def failure_of(stepped: ExchangeDriver, respond: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        stepped.respond(respond)
    assert str(caught.value).isprintable()
    assert ASSERTION not in str(caught.value)
    return caught.value


def entra(responses: ResponseFactory, **fields: Any) -> Response:
    said = {"access_token": "a-token", "expires_in": 3600, "token_type": "Bearer", **fields}
    return responses.json(200, {name: value for name, value in said.items() if value is not None})


def test_one_post_and_a_token(responses: ResponseFactory) -> None:
    stepped = steps()
    request = stepped.step.request
    assert (request.method, request.url) == ("POST", f"{AUTHORITY}/oauth2/v2.0/token")
    assert request.headers == {"Content-Type": "application/x-www-form-urlencoded"}
    assert request.over_internet
    assert ASSERTION not in repr(request)
    assert form_of(request) == {
        "client_id": ["client"],
        "client_assertion": [ASSERTION],
        "client_assertion_type": ["urn:ietf:params:oauth:client-assertion-type:jwt-bearer"],
        "grant_type": ["client_credentials"],
        "scope": ["https://vault.azure.net/.default"],
    }
    got = stepped.finish(entra(responses))
    assert (got.value, got.token_type) == ("a-token", "Bearer")
    assert (got.received_at, got.expires_at) == (1000, 4600)


def test_claims_are_sent(responses: ResponseFactory) -> None:
    claims = '{"access_token": {"nbf": {"value": "1"}}}'
    stepped = steps(WANTED._replace(claims=claims))
    assert form_of(stepped.step.request)["claims"] == [claims]


def test_cae_capability_is_sent(responses: ResponseFactory) -> None:
    capable = {"xms_cc": {"values": ["CP1"]}}
    [alone] = form_of(steps(WANTED._replace(cae=True)).step.request)["claims"]
    assert json.loads(alone) == {"access_token": capable}
    challenge = '{"access_token": {"nbf": {"value": "1"}}, "id_token": {}}'
    wanted = WANTED._replace(cae=True, claims=challenge)
    [both] = form_of(steps(wanted).step.request)["claims"]
    nbf = {"nbf": {"value": "1"}}
    assert json.loads(both) == {"access_token": {**nbf, **capable}, "id_token": {}}


@pytest.mark.parametrize("claims", ["{", "[]", "7", '{"access_token": 7}', "[" * 100_000])
def test_invalid_claims_are_refused(claims: str) -> None:
    with pytest.raises(Refused, match="claims are not a JSON object"):
        steps(WANTED._replace(cae=True, claims=claims))


@pytest.mark.parametrize(
    "respond",
    [
        "", "null", "[]", '["access_token"]', '"s3cret-token"', "7", "[" * 100_000, "{",
        '{"access_token": {}}', '{"error": ["a"]}', '{"error": null}',
    ],
)  # fmt: skip
def test_other_response_is_a_failure(responses: ResponseFactory, respond: str) -> None:
    assert "s3cret" not in str(failure_of(steps(), responses.raw(200, respond)))


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-21T12:00:00Z", "soon", [1], {"a": 1}, 1e400, -1e400, float("nan"), True,
        10**400, "9" * 5000, -5, "-5", 0, None,
    ],
)  # fmt: skip
def test_invalid_lifetime_is_a_failure(responses: ResponseFactory, value: Any) -> None:
    assert isinstance(failure_of(steps(), entra(responses, expires_in=value)), Malformed)


def test_only_sendable_text_is_a_token(responses: ResponseFactory) -> None:
    for value in ("a b", "a\r\nX-Evil: 1", "tökén", ["a"], {"a": 1}, 7, "x" * 70_000):
        failure = failure_of(steps(), entra(responses, access_token=value))
        assert isinstance(failure, Malformed)
        assert "Evil" not in str(failure)
    failure_of(steps(), entra(responses, token_type="Bearer\r\nX-Evil: 1"))


@given(
    said=JSON
    | st.dictionaries(st.sampled_from(["access_token", "expires_in", "token_type", "error"]), JSON),
    status=st.sampled_from([200, 302, 400, 404, 410]),
)
def test_any_json_is_a_token_or_a_failure(said: Any, status: int) -> None:
    try:
        got: Any = steps().finish(ResponseFactory(FakeClock()).json(status, said))
    except Failure as failure:
        got = failure
    assert str(got).isprintable()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_transient_errors_are_retried(responses: ResponseFactory, status: int) -> None:
    stepped = steps()
    assert isinstance(stepped.respond(responses.error(status, retry_after="3")), Pause)
    assert stepped.step.seconds >= 3
    stepped.respond(None)
    assert stepped.finish(entra(responses)).value == "a-token"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_refusal_of_entra_id_is_shown_and_not_retried(
    responses: ResponseFactory, status: int
) -> None:
    said = {
        "error": "invalid_client",
        "error_description": f"AADSTS7000215: {ASSERTION}\x1b[31m no credential",
    }
    failure = failure_of(steps(), responses.json(status, said))
    assert isinstance(failure, Refused)
    assert "invalid_client: AADSTS7000215" in str(failure)
    assert "AZURE_TENANT_ID" in str(failure)


@pytest.mark.parametrize("claim", ["appid", "azp"])
def test_token_of_another_client_is_discarded(responses: ResponseFactory, claim: str) -> None:
    def token(client: str) -> str:
        payload = base64.urlsafe_b64encode(json.dumps({claim: client}).encode())
        return f"eyJhbGciOiJub25lIn0.{payload.decode().rstrip('=')}.c2ln"

    own, other = token("CLIENT"), token("another")
    assert steps().finish(entra(responses, access_token=own)).value == own
    failure = failure_of(steps(), entra(responses, access_token=other))
    assert (type(failure), failure.reason) == (Malformed, Reason.IDENTITY_MISMATCH)


@pytest.mark.parametrize(
    ("status", "reason"), [(307, Reason.REDIRECT), (200, Reason.WRONG_SERVICE)]
)
def test_response_of_another_program_ends_a_chain(
    responses: ResponseFactory, status: int, reason: Reason
) -> None:
    failure = failure_of(steps(), responses.raw(status, "<html>", location="https://other"))
    assert (type(failure), failure.status, failure.reason) == (Refused, status, reason)


def test_refused_connections_are_retried_for_ten_seconds_and_then_end_a_chain() -> None:
    """The network of a pod may start after its program; azure-identity ends a chain, too."""
    stepped, pauses = steps(), list[float]()
    with pytest.raises(Refused, match="AZURE_AUTHORITY_HOST points to this endpoint") as caught:
        while True:
            pauses.append(stepped.respond(ConnectFailed("refused")).seconds)
            stepped.respond(None)
    assert 7 < sum(pauses) < 11
    assert caught.value.reason is Reason.UNREACHABLE


def test_service_that_does_not_respond_ends_a_chain() -> None:
    stepped = steps(retry_options=RetryOptions(attempts=1))
    assert isinstance(failure_of(stepped, ReadFailed("reset")), Refused)


def test_untrusted_certificate_ends_a_chain() -> None:
    failure = failure_of(steps(), Unavailable("not trusted", reason=Reason.TLS))
    assert isinstance(failure, Refused)
    assert failure.reason is Reason.TLS


def test_workload_token_is_not_sent_without_tls() -> None:
    with pytest.raises(Unavailable, match=r"^AZURE_AUTHORITY_HOST must begin with https"):
        steps(authority="http://127.0.0.1:9/t")


def test_unsupported_selector_is_refused() -> None:
    with pytest.raises(Refused, match="cannot select an identity by object_id"):
        steps(TokenRequest(WANTED.resource, Identity("object_id", "c")))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"\xff\xfe\x00", "UnicodeDecodeError"),
        (b"", "does not contain a token"),
        (b"x" * 65537, "does not contain a token"),
    ],
)
def test_unreadable_federated_token_names_its_variable(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with pytest.raises(Unavailable, match=reason) as caught:
        read_assertion(str(tmp_path / "token"))
    assert "AZURE_FEDERATED_TOKEN_FILE" in str(caught.value)


def test_client_id_of_the_caller_precedes_the_environment(
    responses: ResponseFactory, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    sent: list[dict[str, list[str]]] = []

    def send(request: Request) -> Response:
        sent.append(form_of(request))
        return entra(responses)

    source = WorkloadSource(AUTHORITY, "AZURE_AUTHORITY_HOST", "client", str(file))
    for assertion, wanted in (
        ("one", WANTED._replace(identity=SYSTEM_ASSIGNED)),
        ("two\n", WANTED._replace(identity=Identity("client_id", "mine"))),
    ):
        file.write_text(assertion)  # Kubernetes replaces it every hour
        source.fetch(wanted, ExchangeRunner(send, responses.clock, random=no_jitter))
    assert [form["client_id"] for form in sent] == [["client"], ["mine"]]
    assert [form["client_assertion"] for form in sent] == [["one"], ["two"]]


def test_only_workload_tokens_depend_on_cae(
    clock: FakeClock,
) -> None:
    token_cache = TokenCache(clock, no_jitter)
    source = WorkloadSource(AUTHORITY, "AZURE_AUTHORITY_HOST", "client", "/none")
    client = TokenClient(source, SYSTEM_ASSIGNED, token_cache, None)
    assert client.entry("r", cae=True) is not client.entry("r")
    assert client.entry("r", cae=True) is client.entry("r", cae=True)
    vm = TokenClient(ImdsSource("http://x", "X"), SYSTEM_ASSIGNED, token_cache, None)
    assert vm.entry("r", cae=True) is vm.entry("r")


def workload(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **more: str) -> None:
    (tmp_path / "own-token").write_text(ASSERTION)
    variables = {"AZURE_TENANT_ID": "a-tenant", "AZURE_FEDERATED_TOKEN_FILE": "own-token", **more}
    for name, value in variables.items():
        monkeypatch.setenv(name, str(tmp_path / value) if name.endswith("FILE") else value)


def test_workload_without_a_client_id_is_refused_by_the_constructor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    workload(monkeypatch, tmp_path, AZURE_AUTHORITY_HOST="https://localhost:9")
    with pytest.raises(ValueError, match=r"client ID: pass client_id, or set AZURE_CLIENT_ID"):
        ManagedIdentityCredential()
    ManagedIdentityCredential(client_id="c")
    monkeypatch.setenv("AZURE_CLIENT_ID", "c")
    ManagedIdentityCredential()


def test_workload_trusts_the_certificates_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    body = json.dumps({"access_token": "a-token", "expires_in": 3600}).encode()
    with TlsServer(tmp_path, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body) as entra_id:
        workload(monkeypatch, tmp_path, AZURE_AUTHORITY_HOST=entra_id.url, AZURE_CLIENT_ID="c")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", entra_id.certificates)
        assert ManagedIdentityCredential().get_token("https://vault.azure.net").token == "a-token"
    [request] = entra_id.requests
    assert request.startswith(b"POST /a-tenant/oauth2/v2.0/token HTTP/1.1\r\n")


def test_workload_identity_uses_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with RawServer(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n") as proxy:
        workload(monkeypatch, tmp_path, AZURE_AUTHORITY_HOST="entra.invalid", AZURE_CLIENT_ID="c")
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setattr("imds_identity._http.retry._MAX_ATTEMPTS", 1)
        with contextlib.suppress(TokenRefusedError, Exception):
            ManagedIdentityCredential().get_token("https://vault.azure.net")
    assert proxy.requests[0].startswith(b"CONNECT entra.invalid:443 HTTP/1.")
    assert ASSERTION.encode() not in b"".join(proxy.requests)


@pytest.mark.parametrize(
    "said", [b'{"access_token": "a-token", "expires_in": 5}', b"{", b"<a-token"]
)
def test_neither_token_nor_assertion_is_logged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture, said: bytes
) -> None:
    caplog.set_level(logging.DEBUG)
    with TlsServer(tmp_path, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + said) as entra_id:
        workload(monkeypatch, tmp_path, AZURE_AUTHORITY_HOST=entra_id.url, AZURE_CLIENT_ID="c")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", entra_id.certificates)
        with contextlib.suppress(Exception):
            ManagedIdentityCredential().get_token("https://vault.azure.net")
    assert entra_id.requests
    assert "a-token" not in caplog.text
    assert ASSERTION not in caplog.text


def test_a_domain_as_tenant_hides_nothing_else_in_messages() -> None:
    url = "https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token"
    assert shown_url(url) == url
    assert hidden_parts(url) == []
