"""A credential chain is not delayed on hosts that may not be Azure VMs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._core.failure import Failure, Malformed, Reason, Refused, Unavailable
from imds_identity._core.identity import SYSTEM_ASSIGNED
from imds_identity._core.token_request import TokenRequest
from imds_identity._http.exchange import ConnectFailed, ReadFailed
from imds_identity._http.retry_options import DEFAULT_RETRY, RetryOptions
from imds_identity._http.runner import ExchangeRunner
from imds_identity._platform import proxy_agent
from imds_identity._platform.environment import Environment
from imds_identity._sources import azure_vm
from imds_identity._sources.firmware import ASSET_TAG, Firmware
from imds_identity._sources.registry import detect
from imds_identity._token_cache.cache import TokenCache
from imds_identity._token_cache.client import TokenClient
from imds_identity._token_cache.negative_cache import (
    FIRST_UNCERTAIN_SECONDS,
    UNAVAILABLE_SECONDS,
    UnavailableEndpoints,
)
from imds_identity._token_cache.options import CallOptions
from support import BackgroundQueue, FakeClock, ResponseFactory, no_jitter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from imds_identity._core.token import Token
    from imds_identity._http.messages import Request, Response
    from imds_identity._http.runner import Sender
    from imds_identity._platform.clock import Clock

TOKEN_REQUEST = TokenRequest("https://vault.azure.net", SYSTEM_ASSIGNED)
CONFIGURED = {"AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://169.254.169.254"}


@pytest.fixture
def azure_firmware(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool | None], None]:
    """Return a function that sets whether the firmware identifies an Azure VM; None: unknown."""

    def set_azure_firmware(is_azure: bool | None) -> None:
        monkeypatch.setattr(azure_vm, "_is_azure_firmware", lambda: is_azure)

    set_azure_firmware(False)
    return set_azure_firmware


def failed_fetch(
    outcome: Callable[[], Response | Exception],
    clock: FakeClock,
    variables: dict[str, str] | None = None,
    forced: str | None = None,
    retry_options: RetryOptions = DEFAULT_RETRY,
) -> tuple[list[Request], Failure]:
    """Request one token, with the same outcome each time; return the requests and the failure."""
    requests: list[Request] = []

    def send(request: Request) -> Response:
        requests.append(request)
        result = outcome()
        if isinstance(result, Exception):
            raise result
        return result

    source = detect(forced, environment=Environment(variables or {}))
    with pytest.raises(Failure) as caught:
        source.fetch(
            TOKEN_REQUEST,
            ExchangeRunner(send, clock, random=no_jitter, retry_options=retry_options),
        )
    return requests, caught.value


@pytest.mark.usefixtures("azure_firmware")
@pytest.mark.parametrize(
    "outcome",
    [
        lambda responses: ConnectFailed("refused"),
        lambda responses: ReadFailed("no response"),
        lambda responses: Malformed("the response is compressed"),
        lambda responses: responses.raw(200, "<html>", content_type="text/html"),
        lambda responses: responses.raw(401, "<?xml", content_type="text/html"),
        lambda responses: responses.raw(404, "not found"),
        lambda responses: responses.raw(502, "bad gateway"),
        lambda responses: responses.json(503, {"message": "no upstream"}),
        lambda responses: responses.json(404, {"error": {"code": 404, "message": "Not found"}}),
        lambda responses: responses.json(200, ["latest"]),
    ],
)
def test_only_one_request_of_one_second_is_sent_outside_azure(
    clock: FakeClock,
    responses: ResponseFactory,
    outcome: Callable[[ResponseFactory], Response | Exception],
) -> None:
    requests, failure = failed_fetch(lambda: outcome(responses), clock)
    assert [(r.connect_seconds, r.seconds) for r in requests] == [(1.0, 1.0)]
    assert isinstance(failure, Unavailable)
    assert clock.slept == []


@pytest.mark.parametrize(
    "outcome",
    [
        lambda responses: ConnectFailed("refused"),
        lambda responses: ReadFailed("no response"),
        lambda responses: responses.raw(502, "bad gateway"),
        lambda responses: responses.raw(404, "not found"),
    ],
)
def test_first_response_may_take_five_seconds_where_the_firmware_is_not_readable(
    clock: FakeClock,
    responses: ResponseFactory,
    azure_firmware: Callable[[bool | None], None],
    outcome: Callable[[ResponseFactory], Response | Exception],
) -> None:
    azure_firmware(None)
    requests, failure = failed_fetch(lambda: outcome(responses), clock)
    assert [(r.connect_seconds, r.seconds) for r in requests] == [(1.0, 5.0)]
    assert isinstance(failure, Unavailable)
    assert clock.slept == []


def test_error_of_imds_is_retried_where_the_firmware_is_not_readable(
    clock: FakeClock, responses: ResponseFactory, azure_firmware: Callable[[bool | None], None]
) -> None:
    azure_firmware(None)
    requests, failure = failed_fetch(lambda: responses.error(429), clock)
    assert (len(requests), clock.slept) == (5, [2, 4, 8, 16])
    assert isinstance(failure, Refused)


@pytest.mark.parametrize(
    ("is_azure", "is_visible", "kind"),
    [
        (True, False, Refused),
        (None, True, Refused),
        (False, True, Refused),
        (None, False, Unavailable),
        (False, False, Unavailable),
    ],
)
def test_firmware_and_the_guest_proxy_agent_show_where_an_empty_response_comes_from(
    clock: FakeClock,
    responses: ResponseFactory,
    azure_firmware: Callable[[bool | None], None],
    monkeypatch: pytest.MonkeyPatch,
    is_azure: bool | None,
    is_visible: bool,
    kind: type[Failure],
) -> None:
    azure_firmware(is_azure)
    monkeypatch.setattr(proxy_agent, "is_visible", lambda: is_visible)
    requests, failure = failed_fetch(lambda: responses.raw(403), clock)
    assert (type(failure), len(requests)) == (kind, 1)
    assert (failure.reason is Reason.METADATA_SECURITY) == (kind is Refused)


def test_firmware_that_could_not_be_read_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process may have been out of file descriptors."""
    found = [Firmware(), Firmware(ASSET_TAG)]
    monkeypatch.setattr(azure_vm, "firmware", lambda: found.pop(0))
    monkeypatch.setattr(azure_vm, "_known_firmware", [])
    assert [azure_vm._is_azure_firmware() for _ in range(3)] == [None, True, True]


@pytest.mark.usefixtures("azure_firmware")
@pytest.mark.parametrize("status", [429, 500, 410])
def test_error_of_the_service_itself_is_not_unavailability(
    clock: FakeClock, responses: ResponseFactory, status: int
) -> None:
    """Otherwise a chain would continue with another identity because of throttling."""
    for variables in ({}, CONFIGURED):
        _, failure = failed_fetch(lambda: responses.error(status), clock, variables)
        assert isinstance(failure, Refused)


@pytest.mark.parametrize(
    ("variables", "forced", "firmware"),
    [(CONFIGURED, None, False), ({}, "imds", False), ({}, None, True)],
)
def test_configured_endpoint_is_retried(
    clock: FakeClock,
    responses: ResponseFactory,
    azure_firmware: Callable[[bool | None], None],
    variables: dict[str, str],
    forced: str | None,
    firmware: bool,
) -> None:
    azure_firmware(firmware)
    requests, failure = failed_fetch(lambda: responses.raw(502, "<p>"), clock, variables, forced)
    assert len(requests) == 5
    assert clock.slept == [2, 4, 8, 16]
    assert isinstance(failure, Refused if variables else Unavailable)
    requests, failure = failed_fetch(lambda: ConnectFailed("refused"), clock, variables, forced)
    assert len(requests) == 7  # the service may start late
    assert ("AZURE_POD_IDENTITY_AUTHORITY_HOST points" in str(failure)) == bool(variables)


def test_retry_after_of_another_service_is_ignored(
    clock: FakeClock, responses: ResponseFactory
) -> None:
    response = responses.raw(503, "<html>", retry_after="50")
    requests, failure = failed_fetch(lambda: response, clock, forced="imds")
    assert (len(requests), clock.slept) == (5, [2, 4, 8, 16])
    assert isinstance(failure, Unavailable)


@pytest.mark.parametrize("is_azure", [False, None])
def test_retry_options_of_the_caller_take_precedence(
    clock: FakeClock, azure_firmware: Callable[[bool | None], None], is_azure: bool | None
) -> None:
    azure_firmware(is_azure)
    retry_options = RetryOptions(attempts=2, request_seconds=0.5)
    requests, _ = failed_fetch(lambda: ReadFailed("x"), clock, retry_options=retry_options)
    assert [(r.connect_seconds, r.seconds) for r in requests] == [(1.0, 0.5)] * 2


class FakeNetwork:
    """Token clients for one identity on a network whose outcome the test sets."""

    def __init__(self, clock: FakeClock, background: BackgroundQueue) -> None:
        self.token_cache = TokenCache(clock, no_jitter, background)
        self.requests: list[Request] = []
        self.outcome: Response | Exception = ConnectFailed("refused")

    def get_token(
        self,
        resource: str,
        variables: dict[str, str] | None = None,
        open_sender: Callable[[Clock], AbstractContextManager[Sender]] | None = None,
        *,
        has_transport: bool = False,
    ) -> Token:
        source = detect(environment=Environment(variables or {}))
        call_options = CallOptions(has_transport=True) if has_transport else CallOptions()
        client = TokenClient(source, SYSTEM_ASSIGNED, self.token_cache, None, call_options)
        return client.token(client.entry(resource), None, open_sender)

    def sender(self, clock: Clock) -> AbstractContextManager[Sender]:
        from contextlib import contextmanager

        @contextmanager
        def open_sender() -> Iterator[Sender]:
            yield self.send

        return open_sender()

    def send(self, request: Request) -> Response:
        self.requests.append(request)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.fixture
def network(
    clock: FakeClock,
    background: BackgroundQueue,
    azure_firmware: Callable[[bool | None], None],
    monkeypatch: pytest.MonkeyPatch,
) -> FakeNetwork:
    network = FakeNetwork(clock, background)
    monkeypatch.setattr("imds_identity._http.transport.direct_sender", network.sender)
    return network


def test_unavailable_endpoint_is_cached_for_all_scopes(
    network: FakeNetwork, clock: FakeClock, responses: ResponseFactory
) -> None:
    for resource in ("a", "b", "c"):
        with pytest.raises(Unavailable, match=f"no connection.*for '{resource}'"):
            network.get_token(resource)
    assert len(network.requests) == 1
    clock.seconds += UNAVAILABLE_SECONDS - 1
    with pytest.raises(Unavailable):
        network.get_token("b")
    assert len(network.requests) == 1, "a later call does not extend the cached result"
    clock.seconds += 1
    network.outcome = responses.token()
    assert network.get_token("d").value == "a-token"


def test_unavailability_is_remembered_briefly_at_first_where_the_firmware_is_not_readable(
    network: FakeNetwork,
    clock: FakeClock,
    azure_firmware: Callable[[bool | None], None],
    responses: ResponseFactory,
) -> None:
    azure_firmware(None)
    resources = iter("abcdefghijklmnop")
    for seconds in (2, 4, 8, 16, 30, 30):
        sent = len(network.requests)
        with pytest.raises(Unavailable):
            network.get_token(next(resources))
        assert len(network.requests) == sent + 1
        clock.seconds += seconds - 0.5
        with pytest.raises(Unavailable):
            network.get_token(next(resources))
        assert len(network.requests) == sent + 1
        clock.seconds += 0.5
    network.outcome = responses.token()
    assert network.get_token("x").value == "a-token"
    network.outcome = ConnectFailed("refused")
    with pytest.raises(Unavailable):
        network.get_token("y")
    clock.seconds += FIRST_UNCERTAIN_SECONDS
    network.outcome = responses.token()
    assert network.get_token("z").value == "a-token", "a response resets the time"


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=20))
def test_unavailability_never_lasts_longer_than_documented(
    failures: list[tuple[float, bool]],
) -> None:
    endpoints, now = UnavailableEndpoints(), 1000.0
    for seconds, may_respond_later in failures:
        now += seconds
        failure = Unavailable("refused")
        endpoints.remember("x", failure, now, may_respond_later=may_respond_later)
        with pytest.raises(Unavailable):
            endpoints.check("x", now)
        endpoints.check("x", now + UNAVAILABLE_SECONDS)
    endpoints.forget("x")
    endpoints.check("x", now)


def test_service_that_has_returned_a_token_certainly_exists(
    network: FakeNetwork, clock: FakeClock, responses: ResponseFactory
) -> None:
    source = detect(environment=Environment({}))
    client = TokenClient(source, SYSTEM_ASSIGNED, network.token_cache, None)
    network.outcome = responses.token()
    assert client.token(client.entry("a")).value == "a-token"
    assert not source.is_probe
    network.outcome = responses.raw(502, "a proxy")
    for sent in (6, 11):  # retried, and not remembered as unavailable
        with pytest.raises(Unavailable):
            client.token(client.entry(f"resource {sent}"))
        assert len(network.requests) == sent


def test_unexpected_error_shows_its_text_without_the_secret_of_the_source(
    network: FakeNetwork,
) -> None:
    variables = {"IDENTITY_ENDPOINT": "http://127.0.0.1:9/x", "IDENTITY_HEADER": "pa55-word"}
    network.outcome = ZeroDivisionError("'pa55-word' divided by zero")
    with pytest.raises(Refused, match="ZeroDivisionError: '<hidden>' divided by") as caught:
        network.get_token("a", variables)
    assert "for 'a' as system-assigned identity" in str(caught.value)
    assert caught.value.__context__ is None


def test_import_that_fails_during_a_fetch_names_the_module(network: FakeNetwork) -> None:
    network.outcome = ModuleNotFoundError("No module named 'msal'", name="msal")
    with pytest.raises(Refused, match="the module 'msal' cannot be imported") as caught:
        network.get_token("a")
    assert caught.value.reason is Reason.MISSING_MODULE


def test_clear_also_clears_unavailable_endpoints(
    network: FakeNetwork, responses: ResponseFactory
) -> None:
    with pytest.raises(Unavailable):
        network.get_token("a")
    network.token_cache.clear()
    network.outcome = responses.token()
    assert network.get_token("a").value == "a-token"


def test_only_unreachable_endpoints_are_cached_as_unavailable(
    network: FakeNetwork, responses: ResponseFactory
) -> None:
    network.outcome = responses.error(400)  # no such identity: another one may exist
    for resource in ("a", "b"):
        with pytest.raises(Unavailable):
            network.get_token(resource)
    assert len(network.requests) == 2


def test_configured_endpoint_is_tried_each_time(network: FakeNetwork) -> None:
    for resource in ("a", "b"):
        with pytest.raises(Unavailable):
            network.get_token(resource, CONFIGURED)
    assert len(network.requests) == 14


def test_custom_transport_ignores_the_cached_unavailability(
    network: FakeNetwork, responses: ResponseFactory
) -> None:
    with pytest.raises(Unavailable):
        network.get_token("a")
    network.outcome = responses.token()
    assert network.get_token("b", open_sender=network.sender, has_transport=True).value == "a-token"


def test_policies_without_a_transport_use_the_cached_unavailability(network: FakeNetwork) -> None:
    for resource in ("a", "b"):
        with pytest.raises(Unavailable):
            network.get_token(resource, open_sender=network.sender)
    assert len(network.requests) == 1
