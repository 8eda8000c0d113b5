"""App Service, Service Fabric, Azure ML and Cloud Shell: what is sent, and what comes of it."""

from __future__ import annotations

import base64
import contextlib
import functools
import gzip
import hashlib
import json
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity import ManagedIdentityCredential, clear_cache
from imds_identity._core.failure import Failure, Malformed, Reason, Refused, Unavailable
from imds_identity._core.identity import SYSTEM_ASSIGNED, Identity
from imds_identity._core.secret import Secret
from imds_identity._core.token_request import TokenRequest
from imds_identity._http.exchange import ConnectFailed, Pause, ReadFailed
from imds_identity._http.messages import Request
from imds_identity._http.runner import ExchangeRunner
from imds_identity._http.transport import direct_sender
from imds_identity._sources import registry
from imds_identity._sources.app_hosts import exchange as app_host_exchange
from imds_identity._sources.app_hosts.exchange import exchange
from imds_identity._sources.app_hosts.spec import AppHostSpec
from imds_identity._sources.registry import detect
from imds_identity.errors import ManagedIdentityError, TokenRefusedError
from support import (
    ExchangeDriver,
    FakeClock,
    RawServer,
    RealTimeClock,
    ResponseFactory,
    TlsServer,
    new_token,
    no_jitter,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imds_identity._core.token import Token
    from imds_identity._http.exchange import Steps

SECRET = "aVeryS3cretHeader-of-this-app"
THUMBPRINT = "AB:" * 19 + "AB"
ENDPOINT = "https://127.0.0.1:9/msi"
WANTED = TokenRequest("https://vault.azure.net", SYSTEM_ASSIGNED)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
HOSTS = {spec.name: spec for spec in registry.HOSTS if isinstance(spec, AppHostSpec)}
NAMES = pytest.mark.parametrize("name", sorted(HOSTS))


def started(name: str, wanted: TokenRequest = WANTED, **settings: Any) -> Steps[Token]:
    if HOSTS[name].secret_header:
        settings.setdefault("secret", Secret(SECRET))
    if name == "service-fabric":
        settings.setdefault("thumbprint", THUMBPRINT)
    return exchange(HOSTS[name], ENDPOINT, wanted, no_jitter, **settings)


def steps(name: str, wanted: TokenRequest = WANTED, **settings: Any) -> ExchangeDriver:
    return ExchangeDriver(started(name, wanted, **settings))


def failure_of(stepped: ExchangeDriver, respond: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        stepped.respond(respond)
    assert str(caught.value).isprintable()
    return caught.value


def query_of(request: Request) -> dict[str, list[str]]:
    return parse_qs(urlsplit(request.url).query)


@pytest.mark.parametrize(
    ("name", "header", "version"),
    [
        ("app-service", "X-IDENTITY-HEADER", "2019-08-01"),
        ("azure-ml", "secret", "2017-09-01"),
        ("service-fabric", "Secret", "2020-05-01"),
    ],
)
def test_request_contains_the_secret_of_the_app(
    responses: ResponseFactory, name: str, header: str, version: str
) -> None:
    stepped = steps(name)
    request = stepped.step.request
    assert request.method == "GET"
    assert request.headers[header].reveal() == SECRET
    assert SECRET not in f"{request!r} {dict(request.headers)}"
    assert query_of(request) == {"resource": [WANTED.resource], "api-version": [version]}
    got = stepped.finish(responses.token("t"))
    assert (got.value, got.token_type, got.expires_at) == ("t", "Bearer", 1000 + 86400)


def test_cloud_shell_is_sent_a_form(responses: ResponseFactory) -> None:
    stepped = steps("cloud-shell")
    request = stepped.step.request
    assert (request.method, request.url) == ("POST", ENDPOINT)
    assert request.body == b"resource=https%3A%2F%2Fvault.azure.net"
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert stepped.finish(responses.token("t")).value == "t"


@pytest.mark.parametrize(
    ("name", "selector", "parameter"),
    [
        ("app-service", "client_id", "client_id"),
        ("app-service", "object_id", "object_id"),
        ("app-service", "resource_id", "mi_res_id"),
        ("azure-ml", "client_id", "clientid"),
        ("service-fabric", "object_id", "principalId"),
        ("container-instances", "object_id", "principalId"),
    ],
)
def test_selector_uses_the_parameter_name_of_the_host(
    name: str, selector: str, parameter: str
) -> None:
    wanted = TokenRequest(WANTED.resource, Identity(selector, "the one"))
    assert query_of(steps(name, wanted).step.request)[parameter] == ["the one"]


def test_container_instances_request_follows_the_documentation(
    responses: ResponseFactory,
) -> None:
    """The variable may contain an api-version; the request adds none."""
    spec, endpoint = HOSTS["container-instances"], f"{ENDPOINT}?api-version=1.0"
    stepped = ExchangeDriver(exchange(spec, endpoint, WANTED, no_jitter, secret=Secret(SECRET)))
    request = stepped.step.request
    assert request.method == "GET"
    assert request.headers["secret"].reveal() == SECRET
    assert query_of(request) == {"resource": [WANTED.resource], "api-version": ["1.0"]}
    assert stepped.finish(responses.token("t")).value == "t"


def test_unsupported_selector_is_refused() -> None:
    wanted = TokenRequest(WANTED.resource, Identity("client_id", "c"))
    with pytest.raises(Refused, match="cannot select an identity by client_id"):
        steps("service-fabric", wanted)


def test_service_fabric_receives_the_cae_capability() -> None:
    wanted = TokenRequest(WANTED.resource, SYSTEM_ASSIGNED, cae=True)
    assert query_of(steps("service-fabric", wanted).step.request)["xms_cc"] == ["cp1"]
    assert "xms_cc" not in query_of(steps("service-fabric").step.request)


@NAMES
@pytest.mark.parametrize("status", [404, 410])
def test_404_and_410_are_final(responses: ResponseFactory, name: str, status: int) -> None:
    """Only IMDS and the Arc agent return them while they are updated."""
    said = {"error": {"code": "DefaultIdentityNotDefined", "message": "no identity"}}
    failure = failure_of(steps(name), responses.json(status, said))
    assert isinstance(failure, Unavailable)
    assert (failure.status, failure.reason) == (status, Reason.IDENTITY_NOT_FOUND)
    assert f"Does {HOSTS[name].endpoint_variable} name its token endpoint?" in str(failure)
    assert failure_of(steps(name), responses.raw(status)).reason is Reason.UNAVAILABLE


def test_replaced_secret_is_sent_only_after_the_old_one_was_refused(
    responses: ResponseFactory,
) -> None:
    def replaced() -> Secret:
        return Secret("a-new-secret")

    stepped = steps("app-service", replaced_secret=replaced)
    assert stepped.finish(responses.token("t")).value == "t"
    assert failure_of(steps("app-service", replaced_secret=replaced), responses.error(400))
    again = steps("app-service", replaced_secret=replaced).respond(responses.error(401))
    assert again.request.headers["X-IDENTITY-HEADER"].reveal() == "a-new-secret"


def test_sso_failure_of_azure_ml_is_final(responses: ResponseFactory) -> None:
    text = "SSO failure: unable to retrieve a token. Error Token service my-vm. Token not found"
    failure = failure_of(steps("azure-ml"), responses.raw(500, text))
    assert isinstance(failure, Unavailable)
    assert (failure.status, failure.reason) == (500, Reason.IDENTITY_NOT_FOUND)
    assert text in str(failure)
    others = (("azure-ml", 500, "any other failure"), ("azure-ml", 503, text))
    for name, status, said in (*others, ("app-service", 500, text)):
        assert isinstance(steps(name).respond(responses.raw(status, said)), Pause)


def test_unknown_identity_of_app_service_is_recognized(responses: ResponseFactory) -> None:
    said = "No User Assigned or Delegated Managed Identity found for specified ClientId."
    failure = failure_of(
        steps("app-service"), responses.json(400, {"statusCode": 400, "message": said})
    )
    assert failure.reason is Reason.IDENTITY_NOT_FOUND


def connect_until_the_end(stepped: ExchangeDriver, error: Exception) -> tuple[float, Failure]:
    """Respond with ``error`` to each request; return the seconds of all pauses, and the failure."""
    seconds = 0.0
    for _ in range(100):
        try:
            seconds += stepped.respond(error).seconds
        except Failure as failure:
            return seconds, failure
        stepped.respond(None)
    raise AssertionError("the exchange does not end")


@NAMES
def test_refused_connection_is_retried_and_ends_a_chain(name: str) -> None:
    """The environment names the service: another identity must not be used in its place."""
    seconds, failure = connect_until_the_end(steps(name), ConnectFailed("refused"))
    assert 8 <= seconds <= 10
    assert isinstance(failure, Refused)
    assert failure.reason is Reason.UNREACHABLE
    assert HOSTS[name].endpoint_variable in str(failure)


@NAMES
def test_service_that_starts_late_is_used(responses: ResponseFactory, name: str) -> None:
    stepped, seconds = steps(name), 0.0
    while seconds < 7:
        seconds += stepped.respond(ConnectFailed("refused")).seconds
        stepped.respond(None)
    assert stepped.finish(responses.token("t")).value == "t"


@NAMES
def test_missing_response_ends_a_chain(name: str) -> None:
    _, failure = connect_until_the_end(steps(name), ReadFailed("reset"))
    assert isinstance(failure, Refused)
    assert failure.reason is Reason.NO_RESPONSE


@NAMES
@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, "<html>log in</html>", Reason.WRONG_SERVICE),
        (200, "", Reason.WRONG_SERVICE),
        (302, "", Reason.REDIRECT),
    ],
)
def test_response_of_another_program_ends_a_chain(
    responses: ResponseFactory, name: str, status: int, body: str, reason: Reason
) -> None:
    failure = failure_of(steps(name), responses.raw(status, body, content_type="text/html"))
    assert isinstance(failure, Refused)
    assert (failure.status, failure.reason) == (status, reason)


def test_untrusted_certificate_ends_a_chain() -> None:
    error = Unavailable("TLS certificate verification failed", "", reason=Reason.TLS)
    failure = failure_of(steps("app-service"), error)
    assert isinstance(failure, Refused)
    assert failure.reason is Reason.TLS


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("text", ["", "busy"])
def test_plain_text_error_of_the_service_ends_a_chain(
    responses: ResponseFactory, status: int, text: str
) -> None:
    respond = responses.raw(status, text, retry_after="600")
    assert isinstance(failure_of(steps("app-service"), respond), Refused)


@NAMES
@pytest.mark.parametrize("status", [401, 403])
def test_replaced_secret_is_used(responses: ResponseFactory, name: str, status: int) -> None:
    if not HOSTS[name].secret_header:
        return
    header = HOSTS[name].secret_header
    stepped = steps(name, replaced_secret=lambda: Secret("the-new-secret"))
    again = stepped.respond(responses.error(status)).request
    assert again.headers[header].reveal() == "the-new-secret"
    assert stepped.finish(responses.token("t")).value == "t"


def test_error_shows_that_the_secret_was_replaced(responses: ResponseFactory) -> None:
    stepped = steps("app-service", replaced_secret=lambda: Secret("the-new-secret"))
    stepped.respond(responses.error(401))
    failure = failure_of(stepped, responses.error(401))
    assert "IDENTITY_HEADER was replaced in this process" in str(failure)
    unchanged = steps("app-service", replaced_secret=lambda: None)
    assert "replaced" not in str(failure_of(unchanged, responses.error(401)))


def jwt(**claims: Any) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJ0.{payload}.signature"


@pytest.mark.parametrize(
    ("identity", "claims"),
    [
        (Identity("client_id", "Mine"), {"appid": "mine"}),
        (Identity("client_id", "mine"), {"azp": "MINE"}),
        (Identity("client_id", "mine"), {"oid": "another"}),
        (Identity("object_id", "mine"), {"oid": "mine", "appid": "another"}),
        (Identity("resource_id", "/Mine/"), {"xms_mirid": "/mine"}),
        (SYSTEM_ASSIGNED, {"appid": "another"}),
    ],
)
def test_token_of_the_selected_identity_is_returned(
    responses: ResponseFactory, identity: Identity, claims: dict[str, str]
) -> None:
    stepped = steps("app-service", TokenRequest(WANTED.resource, identity))
    assert stepped.finish(responses.token(jwt(**claims))).value == jwt(**claims)


@pytest.mark.parametrize(
    ("name", "selector", "claims"),
    [
        ("app-service", "client_id", {"appid": "another"}),
        ("app-service", "client_id", {"appid": "mine", "azp": "another"}),
        ("app-service", "object_id", {"oid": "another"}),
        ("app-service", "resource_id", {"xms_mirid": "/another"}),
        ("azure-ml", "client_id", {"appid": "another", "upn": "a user"}),
        ("service-fabric", "object_id", {"oid": "another"}),
    ],
)
def test_token_with_claims_of_another_identity_is_discarded(
    responses: ResponseFactory, name: str, selector: str, claims: dict[str, str]
) -> None:
    stepped = steps(name, TokenRequest(WANTED.resource, Identity(selector, "mine")))
    failure = failure_of(stepped, responses.token(jwt(**claims)))
    assert failure.reason is Reason.IDENTITY_MISMATCH
    assert f"its token named {selector}" in str(failure)
    assert "another" in str(failure)


def test_a_token_of_another_identity_is_discarded(responses: ResponseFactory) -> None:
    wanted = TokenRequest(WANTED.resource, Identity("client_id", "mine"))
    failure = failure_of(steps("app-service", wanted), responses.token(client_id="another"))
    assert "its response named client_id 'another'" in str(failure)


@NAMES
@pytest.mark.parametrize("late", ["expires_on", "expires_in"])
def test_token_from_the_host_cache_keeps_its_expiry(
    responses: ResponseFactory, clock: FakeClock, name: str, late: str
) -> None:
    life = {"expires_on": str(int(clock.service()) + 86400), "expires_in": "86400"}
    life[late] = str(int(clock.service()) + 600) if late == "expires_on" else "600"
    assert steps(name).finish(responses.token(**life)).expires_at == clock.now() + 600


@NAMES
@pytest.mark.parametrize(
    "respond",
    [
        "", "null", "[]", '["access_token"]', '"s3cret-token"', "7", "[" * 100_000, "{",
        '{"access_token": {}}', '{"error": ["a"]}', '{"error": null}',
        '{"access_token": "s3cret-token"',
    ],
)  # fmt: skip
def test_other_response_is_a_failure_that_does_not_quote_it(
    responses: ResponseFactory, name: str, respond: str
) -> None:
    assert "s3cret" not in str(failure_of(steps(name), responses.raw(200, respond)))


@NAMES
@pytest.mark.parametrize(
    "value",
    [
        "2026-11-21T12:00:00", "soon", [1], {"a": 1}, 1e400, -1e400, float("nan"), True,
        10**400, "9" * 5000, -5, "-5",
    ],
)  # fmt: skip
def test_invalid_lifetime_is_a_failure(responses: ResponseFactory, name: str, value: Any) -> None:
    failure = failure_of(steps(name), responses.token(expires_on=value, expires_in=value))
    assert isinstance(failure, Malformed | Unavailable)


@NAMES
def test_only_sendable_text_is_a_token(responses: ResponseFactory, name: str) -> None:
    for value in ("a b", "a\r\nX-Evil: 1", "tökén", ["a"], {"a": 1}, 7, "x" * 70_000):
        failure = failure_of(steps(name), responses.token(access_token=value))
        assert isinstance(failure, Malformed)
        assert "Evil" not in str(failure)
    failure_of(steps(name), responses.token(token_type="Bearer\r\nX-Evil: 1"))


@given(
    name=st.sampled_from(sorted(HOSTS)),
    said=JSON
    | st.dictionaries(
        st.sampled_from(["access_token", "expires_on", "expires_in", "token_type", "error"]), JSON
    ),
    status=st.sampled_from([200, 302, 400, 401, 403]),
)
def test_any_json_is_a_token_or_a_failure(name: str, said: Any, status: int) -> None:
    stepped = steps(name)
    try:
        got: Any = stepped.finish(ResponseFactory(FakeClock()).json(status, said))
    except Failure as failure:
        got = failure
    assert str(got).isprintable()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"statusCode": 400, "message": "no such identity"}, "no such identity"),
        ({"error": {"code": "Audience", "message": "not known"}}, "Audience: not known"),
        ({"error": "invalid", "error_description": "not so"}, "invalid: not so"),
    ],
)
def test_refusal_contains_the_error_text_of_the_host(
    responses: ResponseFactory, said: Any, words: str
) -> None:
    failure = failure_of(steps("app-service"), responses.json(403, said))
    assert isinstance(failure, Refused)
    assert f"HTTP 403: {words}." in str(failure)


@pytest.mark.parametrize("name", ["app-service", "azure-ml", "service-fabric"])
def test_rejected_secret_names_its_variable(responses: ResponseFactory, name: str) -> None:
    failure = failure_of(steps(name), responses.error(401))
    assert f"It identifies an app by {HOSTS[name].secret_variable}" in str(failure)


@NAMES
def test_unassigned_identity_is_unavailable(responses: ResponseFactory, name: str) -> None:
    failure = failure_of(steps(name), responses.error(400))
    assert isinstance(failure, Unavailable)
    assert "assigned here" in str(failure)


def test_no_message_contains_the_secret(clock: FakeClock, responses: ResponseFactory) -> None:
    body = {"statusCode": 400, "message": f"wrong header {SECRET}\x1b[31m"}
    runner = ExchangeRunner(lambda _: responses.json(400, body), clock)
    with pytest.raises(Failure, match="wrong header") as caught:
        runner.run(started("app-service"))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("secret", ["a\r\nX-Evil: 1", "ü", "a\x00"])
def test_unsendable_secret_names_its_variable(secret: str) -> None:
    with pytest.raises(Unavailable, match=r"^MSI_SECRET cannot be sent in a header"):
        steps("azure-ml", secret=Secret(secret))


@pytest.mark.parametrize("thumbprint", ["", "ab", "zz" * 20, "ab" * 21])
def test_invalid_thumbprint_is_refused(thumbprint: str) -> None:
    with pytest.raises(Unavailable, match="IDENTITY_SERVER_THUMBPRINT"):
        steps("service-fabric", thumbprint=thumbprint)


def test_service_fabric_without_tls_gets_no_secret() -> None:
    asked = exchange(
        HOSTS["service-fabric"], "http://127.0.0.1:9", WANTED, no_jitter, thumbprint=THUMBPRINT
    )
    with pytest.raises(Unavailable, match="https"):
        next(asked)


def test_claims_challenge_names_the_refused_token_to_service_fabric() -> None:
    wanted = WANTED._replace(claims="{}", refused=new_token(FakeClock(), "the old one"))
    [told] = query_of(steps("service-fabric", wanted).step.request)["token_sha256_to_refresh"]
    assert told == hashlib.sha256(b"the old one").hexdigest()


@given(
    selector=st.sampled_from(["client_id", "object_id", "resource_id"]),
    names=st.dictionaries(
        st.sampled_from(["appid", "azp", "oid", "xms_mirid", "client_id", "object_id"]), JSON
    ),
    is_claim=st.booleans(),
)
def test_any_identity_in_a_response_is_confirmed_or_a_failure(
    selector: str, names: dict[str, Any], is_claim: bool
) -> None:
    responses = ResponseFactory(FakeClock())
    response = responses.token(jwt(**names)) if is_claim else responses.token(**names)
    stepped = steps("app-service", TokenRequest(WANTED.resource, Identity(selector, "mine")))
    failures: list[Failure] = []
    try:
        stepped.finish(response)
    except Failure as failure:
        failures.append(failure)
    assert {failure.reason for failure in failures} <= {Reason.IDENTITY_MISMATCH}
    assert "".join(map(str, failures)).isprintable()


def test_deeply_nested_identity_is_a_mismatch(responses: ResponseFactory) -> None:
    nested: Any = "mine"
    for _ in range(400):
        nested = [nested]
    stepped = steps("app-service", TokenRequest(WANTED.resource, Identity("object_id", "mine")))
    assert "named object_id 'list'" in str(failure_of(stepped, responses.token(jwt(oid=nested))))


@pytest.fixture
def fabric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:

        def start(*said: bytes, **settings: Any) -> TlsServer:
            host = stack.enter_context(TlsServer(tmp_path, *said, **settings))
            monkeypatch.setenv("IDENTITY_ENDPOINT", host.url)
            monkeypatch.setenv("IDENTITY_HEADER", SECRET)
            monkeypatch.setenv("IDENTITY_SERVER_THUMBPRINT", host.thumbprint)
            return host

        yield start


def fetched() -> Any:
    clock = RealTimeClock()
    with direct_sender(clock) as send:
        return detect().fetch(WANTED, ExchangeRunner(send, clock, random=no_jitter))


def test_service_fabric_is_authenticated_by_its_thumbprint(fabric: Any) -> None:
    host = fabric(raw_token("t"))
    assert fetched().value == "t"
    assert [f"\r\nSecret: {SECRET}\r\n".encode() in said for said in host.requests] == [True]


def test_other_certificate_gets_no_secret(fabric: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    host = fabric(raw_token("t"))
    monkeypatch.setenv("IDENTITY_SERVER_THUMBPRINT", "ab" * 20)
    with pytest.raises(Failure, match="ingerprint"):
        fetched()
    assert host.requests == []


def test_secret_of_service_fabric_is_not_sent_to_a_redirect(fabric: Any) -> None:
    other = fabric(raw_token("t"))
    fabric(f"HTTP/1.1 307 x\r\nLocation: {other.url}\r\n\r\n".encode())
    with pytest.raises(Refused, match="redirect"):
        fetched()
    assert other.requests == []


def test_compressed_response_of_service_fabric_is_refused(fabric: Any) -> None:
    fabric(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(bytes(9**8)))
    with pytest.raises(Malformed, match="compressed"):
        fetched()


@pytest.mark.parametrize(
    ("first", "then"),
    [(b"", b""), (b"HTTP/1.1 200 OK\r\nX: ", b"y"), (b"HTTP/1.1 200 OK\r\n\r\n", b" ")],
)
def test_service_fabric_request_has_one_timeout(
    fabric: Any, monkeypatch: pytest.MonkeyPatch, first: bytes, then: bytes
) -> None:
    monkeypatch.setattr(app_host_exchange, "Request", functools.partial(Request, seconds=0.3))
    fabric(first, then, hold=True)
    with pytest.raises(Refused, match=r"no complete response within|no response within"):
        fetched()


@pytest.fixture
def app_service(monkeypatch: pytest.MonkeyPatch) -> Any:
    def at(url: str) -> None:
        monkeypatch.setenv("IDENTITY_ENDPOINT", url)
        monkeypatch.setenv("IDENTITY_HEADER", SECRET)
        clear_cache()

    return at


def raw_token(value: str) -> bytes:
    body = json.dumps({"access_token": value, "expires_on": 4102444800}).encode()
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body


@pytest.mark.parametrize(
    ("variable", "label"),
    [
        ("WEBSITE_SITE_NAME", "App Service"),
        ("CONTAINER_APP_NAME", "Container Apps"),
        ("CONTAINER_APP_JOB_NAME", "Container Apps"),
        ("AUTOMATION_ASSET_ACCOUNTID", "Azure Automation"),
        ("FUNCTIONS_WORKER_RUNTIME", "Azure Functions"),
    ],
)
def test_messages_name_the_host_that_uses_the_protocol_of_app_service(
    app_service: Any, monkeypatch: pytest.MonkeyPatch, variable: str, label: str
) -> None:
    app_service("http://127.0.0.1:9/msi")
    monkeypatch.setenv(variable, "x")
    with pytest.raises(TokenRefusedError, match=f"Requested {label} at http"):
        ManagedIdentityCredential(retry_total=0).get_token("https://vault.azure.net")
    assert detect().name == "app-service"


def test_credential_keeps_its_detected_host(app_service: Any) -> None:
    with RawServer(raw_token("one's")) as one, RawServer(raw_token("other's")) as other:
        app_service(one.url)
        credential = ManagedIdentityCredential()
        app_service(other.url)  # whoever is configured later does not get what is the first one's
        assert credential.get_token("https://vault.azure.net").token == "one's"
        assert other.requests == []


def test_credential_uses_the_replaced_secret(
    app_service: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Azure Functions changes the variables of a process when it assigns an app to it."""
    caplog.set_level(logging.INFO)

    class Service(RawServer):
        def _go_on(self, connection: Any) -> None:
            is_new = b"X-IDENTITY-HEADER: a-new-secret\r\n" in self.requests[-1]
            refusal = b"HTTP/1.1 401 no\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            connection.sendall(raw_token("new") if is_new else refusal)

    with Service() as server:
        app_service(server.url)
        credential = ManagedIdentityCredential()
        monkeypatch.setenv("IDENTITY_HEADER", "a-new-secret")
        assert credential.get_token("https://vault.azure.net").token == "new"
        assert credential.get_token("https://storage.azure.com").token == "new"
    assert len(server.requests) == 3
    assert "IDENTITY_HEADER was replaced in this process" in caplog.text
    assert "a-new-secret" not in caplog.text


def test_unchanged_secret_is_not_sent_again(app_service: Any) -> None:
    refusal = b"HTTP/1.1 401 no\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with RawServer(refusal) as server:
        app_service(server.url)
        with pytest.raises(ManagedIdentityError, match="HTTP 401") as caught:
            ManagedIdentityCredential().get_token("https://vault.azure.net")
    assert len(server.requests) == 1
    assert "replaced" not in str(caught.value)


@pytest.mark.parametrize("status", [401, 403])
def test_cloud_shell_which_has_no_secret_reports_the_refusal(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    refusal = f"HTTP/1.1 {status} no\r\nContent-Length: 7\r\nConnection: close\r\n\r\nexpired"
    with RawServer(refusal.encode()) as server:
        monkeypatch.setenv("MSI_ENDPOINT", server.url)
        clear_cache()
        with pytest.raises(TokenRefusedError, match=f"HTTP {status}: expired") as caught:
            ManagedIdentityCredential().get_token("https://vault.azure.net")
    assert caught.value.reason_code == "refused"


def test_replaced_secret_is_not_sent_to_the_old_endpoint(
    app_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = b"HTTP/1.1 401 no\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with RawServer(refusal) as server:
        app_service(server.url)
        credential = ManagedIdentityCredential()
        monkeypatch.setenv("IDENTITY_HEADER", "a-new-secret")
        monkeypatch.setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:9/other")
        with pytest.raises(ManagedIdentityError, match="HTTP 401") as caught:
            credential.get_token("https://vault.azure.net")
        assert "IDENTITY_ENDPOINT was replaced in this process: create a new" in str(caught.value)
    assert len(server.requests) == 1


def test_invalid_response_is_not_logged(app_service: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with RawServer(raw_token("s3cret-token")[:-1]) as server:
        app_service(server.url)
        with pytest.raises(ManagedIdentityError):
            ManagedIdentityCredential().get_token("https://vault.azure.net")
    assert server.requests
    assert "s3cret-token" not in caplog.text
    assert SECRET not in caplog.text
