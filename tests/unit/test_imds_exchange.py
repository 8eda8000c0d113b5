"""The VM's exchange, stepped by hand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._core.failure import Failure, Malformed, Reason, Refused, Unavailable
from imds_identity._core.identity import SYSTEM_ASSIGNED, Identity
from imds_identity._core.token_request import TokenRequest
from imds_identity._http.exchange import ConnectFailed, Pause, ReadFailed, Send
from imds_identity._http.retry_options import RetryOptions
from imds_identity._http.runner import ExchangeRunner
from imds_identity._sources import azure_vm
from imds_identity._sources.azure_vm import IMDS, ImdsSource
from imds_identity._sources.imds import exchange
from support import ExchangeDriver, FakeClock, ResponseFactory, no_jitter

if TYPE_CHECKING:
    from imds_identity._http.messages import Request, Response

ENDPOINT = "http://169.254.169.254/metadata/identity/oauth2/token"
VAULT = "https://vault.azure.net"


def start(
    identity: Identity = SYSTEM_ASSIGNED,
    resource: str = VAULT,
    claims: str | None = None,
    **options: Any,
) -> ExchangeDriver:
    request = TokenRequest(resource, identity, claims)
    return ExchangeDriver(exchange(IMDS, ENDPOINT, request, no_jitter, **options))


def last_failure(driver: ExchangeDriver, response: Response) -> tuple[Failure, int]:
    """Return the failure after ``response`` to each request, and the number of requests."""
    for attempt in range(1, 10):
        try:
            driver.respond(response)
        except Failure as failure:
            return failure, attempt
        driver.respond(None)
    raise AssertionError("the exchange does not end")


def test_one_request_and_a_token(responses: ResponseFactory) -> None:
    stepped = start()
    assert isinstance(stepped.step, Send)
    request = stepped.step.request
    assert request.url == (
        f"{ENDPOINT}?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net"
    )
    assert request.headers == {"Metadata": "true"}
    assert stepped.finish(responses.token("secret")).value == "secret"


@pytest.mark.parametrize(
    ("identity", "parameter"),
    [
        (Identity("client_id", "c"), "&client_id=c"),
        (Identity("object_id", "o"), "&object_id=o"),
        (Identity("resource_id", "/sub/1"), "&msi_res_id=%2Fsub%2F1"),
    ],
)
def test_a_selector_is_sent(identity: Identity, parameter: str) -> None:
    assert start(identity).step.request.url.endswith(parameter)


def test_resource_cannot_inject_parameters() -> None:
    url = start(resource="x&client_id=y#z").step.request.url
    assert url.endswith("&resource=x%26client_id%3Dy%23z")


def test_claims_challenge_bypasses_the_service_cache() -> None:
    assert "bypass_cache" not in start().step.request.url
    assert start(claims="{}").step.request.url.endswith("&bypass_cache=true")


def test_a_retry_sends_the_same_request_again(responses: ResponseFactory) -> None:
    stepped = start()
    first = stepped.step
    assert isinstance(stepped.respond(responses.error(429)), Pause)
    assert stepped.respond(None) == first
    assert stepped.finish(responses.token()).value == "a-token"


def test_no_such_identity_is_unavailable_and_not_retried(responses: ResponseFactory) -> None:
    with pytest.raises(Unavailable, match=r"what the service says.*client_id 'c' assigned here"):
        start(Identity("client_id", "c")).respond(responses.error(400))


def test_404_is_retried_and_its_error_names_both_causes(responses: ResponseFactory) -> None:
    response = responses.json(404, {"error": "identity_not_found"})
    failure, attempts = last_failure(start(Identity("client_id", "c")), response)
    assert (type(failure), failure.reason, attempts) == (Refused, Reason.SERVICE_FAILING, 5)
    assert "being updated, or the client_id 'c' is not assigned to this VM" in str(failure)


RELAYED = {"x_ms_azure_host_authorization": "value"}


@pytest.mark.parametrize(("status", "attempts"), [(403, 1), (421, 1), (500, 5), (502, 5), (503, 5)])
@pytest.mark.parametrize(("headers", "is_azure_vm"), [(RELAYED, False), ({}, True)])
def test_empty_response_of_the_guest_proxy_agent_is_a_denial(
    responses: ResponseFactory,
    status: int,
    attempts: int,
    headers: dict[str, str],
    is_azure_vm: bool,
) -> None:
    driver = start(is_azure_vm=lambda: is_azure_vm)
    failure, sent = last_failure(driver, responses.raw(status, " ", **headers))
    assert (type(failure), failure.reason) == (Refused, Reason.METADATA_SECURITY)
    assert (failure.status, sent) == (status, attempts)
    assert "must allow /metadata/identity/oauth2/token" in str(failure)
    assert "inVMAccessControlProfile" in str(failure)
    assert Path(sys.executable).resolve().name in str(failure)


@pytest.mark.parametrize("status", [403, 421, 500])
def test_empty_response_elsewhere_is_not_from_imds(responses: ResponseFactory, status: int) -> None:
    failure, _ = last_failure(start(), responses.raw(status))
    assert (type(failure), failure.reason) == (Unavailable, Reason.WRONG_SERVICE)


@pytest.mark.parametrize("status", [401, 404, 405])
def test_other_empty_response_is_not_a_denial(responses: ResponseFactory, status: int) -> None:
    failure, _ = last_failure(start(is_azure_vm=lambda: True), responses.raw(status))
    assert failure.reason is Reason.WRONG_SERVICE


def test_response_that_the_agent_relayed_comes_from_azure(responses: ResponseFactory) -> None:
    failure, _ = last_failure(start(), responses.raw(403, "<html>", **RELAYED))
    assert (type(failure), failure.reason) == (Refused, Reason.REFUSED)
    failure, attempts = last_failure(start(), responses.raw(503, "<html>", **RELAYED))
    assert (type(failure), failure.reason, attempts) == (Refused, Reason.SERVICE_FAILING, 5)


@pytest.mark.parametrize("error", [ReadFailed("no response"), ConnectFailed("refused")])
def test_service_that_stops_responding_after_an_error_never_switches_the_identity(
    responses: ResponseFactory, error: Exception
) -> None:
    driver = start()
    driver.respond(responses.error(429))
    with pytest.raises(Refused) as caught:
        for _ in range(5):
            driver.respond(None)
            driver.respond(error)
    assert caught.value.reason in (Reason.NO_RESPONSE, Reason.UNREACHABLE)
    driver = start()
    driver.respond(responses.raw(502, "a proxy"))
    with pytest.raises(Unavailable):
        for _ in range(5):
            driver.respond(None)
            driver.respond(error)


@pytest.mark.parametrize("body", ["", "busy", '{"message": "busy"}'])
@pytest.mark.parametrize(
    ("status", "attempts"), [(401, 1), (403, 1), (404, 5), (410, 8), (429, 5), (500, 5), (503, 5)]
)
def test_error_of_an_endpoint_that_a_variable_names_never_switches_the_identity(
    responses: ResponseFactory, status: int, attempts: int, body: str
) -> None:
    failure, sent = last_failure(start(variable="X"), responses.raw(status, body))
    assert (type(failure), sent) == (Refused, attempts)
    assert ("busy" if body else "nothing") in failure.problem
    assert ("Does X name the token service?" in str(failure)) == (status == 404)


@pytest.mark.parametrize("body", ["", "no such identity"])
def test_400_of_a_named_endpoint_means_that_there_is_no_identity(
    responses: ResponseFactory, body: str
) -> None:
    with pytest.raises(Unavailable, match="assigned here") as caught:
        start(variable="X").respond(responses.raw(400, body))
    assert caught.value.reason is Reason.BAD_REQUEST


@pytest.mark.parametrize("ending", ["network", "host", "foo"])
def test_docker_desktop_is_not_azure(responses: ResponseFactory, ending: str) -> None:
    text = f"connecting to 169.254.169.254:80: to an unreachable {ending}."
    for said in (responses.raw(403, text), responses.json(403, {"error": text})):
        with pytest.raises(Unavailable, match=f"unreachable {ending}") as caught:
            start().respond(said)
        assert (caught.value.reason, caught.value.status) == (Reason.PROXY, 403)


@pytest.mark.parametrize("status", [401, 403, 405, 418])
def test_other_4xx_are_final(responses: ResponseFactory, status: int) -> None:
    with pytest.raises(Refused, match=f"HTTP {status}: an_error: what the service says"):
        start().respond(responses.error(status))


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("body", ["", "too many requests", '{"message": "busy"}'])
def test_any_error_of_an_endpoint_that_a_variable_names_is_its_own(
    responses: ResponseFactory, status: int, body: str
) -> None:
    """Pod identity returns plain text. Throttling must not switch the identity in a chain."""
    with pytest.raises(Refused, match=f"HTTP {status}"):
        start(variable="A_VARIABLE").respond(responses.raw(status, body, retry_after="600"))
    stepped = start(variable="A_VARIABLE")
    assert stepped.respond(responses.raw(status, body, retry_after="20")).seconds >= 20


@pytest.mark.parametrize("body", ["<html>", "\n<?xml version='1.0'?>", "unreachable host"])
@pytest.mark.parametrize("variable", ["", "A_VARIABLE"])
def test_page_of_a_proxy_is_not_from_imds(
    responses: ResponseFactory, body: str, variable: str
) -> None:
    with pytest.raises(Unavailable, match="did not come from IMDS"):
        start(variable=variable).respond(responses.raw(403, body))
    if body.lstrip().startswith("<"):
        failure, _ = last_failure(start(variable=variable), responses.raw(404, body))
        assert failure.reason is Reason.WRONG_SERVICE


@pytest.mark.parametrize("variable", ["", "A_VARIABLE"])
def test_service_that_starts_late_is_used(responses: ResponseFactory, variable: str) -> None:
    driver, seconds = start(variable=variable), 0.0
    while seconds < 7:
        seconds += driver.respond(ConnectFailed("refused")).seconds
        driver.respond(None)
    assert driver.finish(responses.token()).value == "a-token"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(responses: ResponseFactory, status: int) -> None:
    with pytest.raises(Unavailable, match="redirect"):
        start().respond(responses.raw(status, location="http://elsewhere/"))


@pytest.mark.parametrize(
    ("identity", "echo"),
    [
        (Identity("client_id", "ABC"), {"client_id": "abc"}),
        (Identity("object_id", "ABC"), {"object_id": "abc", "client_id": "other"}),
        (Identity("resource_id", "/A"), {"msi_res_id": "/a"}),
        (Identity("resource_id", "/A"), {"mi_res_id": "/a"}),
        (Identity("client_id", "ABC"), {}),
        (SYSTEM_ASSIGNED, {"client_id": "any"}),
    ],
)
def test_token_of_the_requested_identity_is_accepted(
    responses: ResponseFactory, identity: Identity, echo: dict[str, str]
) -> None:
    assert start(identity).finish(responses.token(**echo)).value == "a-token"


def test_token_of_another_identity_is_discarded(responses: ResponseFactory) -> None:
    with pytest.raises(Malformed, match="did not confirm the client_id 'abc'"):
        start(Identity("client_id", "abc")).respond(responses.token(client_id="other"))


def test_error_text_is_shown_without_secrets_or_line_breaks(
    responses: ResponseFactory,
) -> None:
    jwt = "eyJhbGciOiJSUzI1NiJ9.eyJvaWQiOiIxIn0.c2lnbmF0dXJl"
    said = f"broken\r\nBearer {jwt} Basic c2VjcmV0c2VjcmV0 \x1b[31m {'x' * 5000}"
    with pytest.raises(Failure) as caught:
        start().respond(responses.raw(403, said))
    message = str(caught.value)
    assert "broken" in message
    assert jwt not in message
    assert "c2VjcmV0c2VjcmV0" not in message
    assert message.isprintable()
    assert len(message) < 1000


@pytest.mark.parametrize("has_azure_firmware", [True, False])
def test_error_does_not_doubt_what_the_firmware_shows(has_azure_firmware: bool) -> None:
    options = RetryOptions(attempts=1)
    driver = start(has_azure_firmware=has_azure_firmware, retry_options=options)
    with pytest.raises(Unavailable, match="network policy blocks the Instance Meta") as caught:
        driver.respond(ConnectFailed("refused"))
    assert ("does not look like an Azure VM" in str(caught.value)) == (not has_azure_firmware)


def test_firmware_of_azure_is_named_in_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure_vm, "_known_firmware", [True])

    def refuse(_: Request) -> Response:
        raise ConnectFailed("refused")

    runner = ExchangeRunner(refuse, FakeClock(), random=no_jitter)
    with pytest.raises(Unavailable, match="This is an Azure VM according to its firmware"):
        ImdsSource(ENDPOINT).fetch(TokenRequest(VAULT, SYSTEM_ASSIGNED), runner)
