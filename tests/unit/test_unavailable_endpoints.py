"""Where this may be no Azure VM, a chain of credentials is not kept waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imds_identity._core.failure import Failure, Malformed, Refused, Unavailable
from imds_identity._core.identity import SYSTEM_ASSIGNED
from imds_identity._core.token_request import TokenRequest
from imds_identity._http.exchange import ConnectFailed, ReadFailed
from imds_identity._http.retry_options import DEFAULT_RETRY, RetryOptions
from imds_identity._http.runner import ExchangeRunner
from imds_identity._platform.environment import Environment
from imds_identity._sources import imds
from imds_identity._sources.registry import detect
from imds_identity._token_cache.cache import TokenCache
from imds_identity._token_cache.client import TokenClient
from imds_identity._token_cache.negative_cache import UNAVAILABLE_SECONDS
from imds_identity._token_cache.options import CallOptions
from support import BackgroundQueue, FakeClock, ResponseFactory, no_jitter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from imds_identity._core.token import Token
    from imds_identity._http.messages import Request, Response
    from imds_identity._http.runner import Sender
    from imds_identity._platform.clock import Clock

WANTED = TokenRequest("https://vault.azure.net", SYSTEM_ASSIGNED)
NAMED = {"AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://169.254.169.254"}


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Says whether the firmware is Azure's."""

    def is_azure(says: bool) -> None:
        monkeypatch.setattr(imds, "_is_azure_firmware", lambda: says)

    is_azure(False)
    return is_azure


def asked(
    outcome: Callable[[], Response | Exception],
    clock: FakeClock,
    variables: dict[str, str] | None = None,
    forced: str | None = None,
    retry_options: RetryOptions = DEFAULT_RETRY,
) -> tuple[list[Request], Failure]:
    """The requests for one token, all of which end alike, and how that ends."""
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
            WANTED, ExchangeRunner(send, clock, random=no_jitter, retry_options=retry_options)
        )
    return requests, caught.value


@pytest.mark.usefixtures("azure")
@pytest.mark.parametrize(
    "outcome",
    [
        lambda responses: ConnectFailed("refused"),
        lambda responses: ReadFailed("no answer"),
        lambda responses: Malformed("the answer is compressed"),
        lambda responses: responses.raw(200, "<html>", content_type="text/html"),
        lambda responses: responses.raw(401, "<?xml", content_type="text/html"),
        lambda responses: responses.raw(404, "not found"),
        lambda responses: responses.raw(502, "bad gateway"),
        lambda responses: responses.json(503, {"message": "no upstream"}),
        lambda responses: responses.json(404, {"error": {"code": 404, "message": "Not found"}}),
        lambda responses: responses.json(200, ["latest"]),
    ],
)
def test_off_azure_it_is_one_request_of_a_second_whatever_goes_wrong(
    clock: FakeClock,
    responses: ResponseFactory,
    outcome: Callable[[ResponseFactory], Response | Exception],
) -> None:
    requests, failure = asked(lambda: outcome(responses), clock)
    assert [(r.connect_seconds, r.seconds) for r in requests] == [(1.0, 1.0)]
    assert isinstance(failure, Unavailable)
    assert clock.slept == []


@pytest.mark.usefixtures("azure")
@pytest.mark.parametrize("status", [429, 500, 410])
def test_the_service_s_own_trouble_stays_a_refusal(
    clock: FakeClock, responses: ResponseFactory, status: int
) -> None:
    """Else a chain would go on as somebody else because of throttling."""
    for variables in ({}, NAMED):
        _, failure = asked(lambda: responses.error(status), clock, variables)
        assert isinstance(failure, Refused)


@pytest.mark.parametrize(
    ("variables", "forced", "firmware"),
    [(NAMED, None, False), ({}, "imds", False), ({}, None, True)],
)
def test_what_is_said_to_be_there_is_asked_patiently(
    clock: FakeClock,
    responses: ResponseFactory,
    azure: Callable[[bool], None],
    variables: dict[str, str],
    forced: str | None,
    firmware: bool,
) -> None:
    azure(firmware)
    requests, failure = asked(lambda: responses.raw(502, "proxy"), clock, variables, forced)
    assert len(requests) == 5
    assert clock.slept == [2, 4, 8, 16]
    assert isinstance(failure, Unavailable)
    assert ("AZURE_POD_IDENTITY_AUTHORITY_HOST points" in str(failure)) == bool(variables)
    assert len(asked(lambda: ConnectFailed("refused"), clock, variables, forced)[0]) == 3


def test_somebody_else_s_wish_to_be_left_alone_is_not_heeded(
    clock: FakeClock, responses: ResponseFactory
) -> None:
    busy = responses.raw(503, "<html>", retry_after="50")
    requests, failure = asked(lambda: busy, clock, NAMED)
    assert (len(requests), clock.slept) == (5, [2, 4, 8, 16])
    assert isinstance(failure, Unavailable)


@pytest.mark.usefixtures("azure")
def test_what_the_caller_says_goes_before_that(clock: FakeClock) -> None:
    wish = RetryOptions(attempts=2, request_seconds=0.5)
    requests, _ = asked(lambda: ReadFailed("x"), clock, retry_options=wish)
    assert [(r.connect_seconds, r.seconds) for r in requests] == [(1.0, 0.5)] * 2


class World:
    """Providers for one identity, and a network of which the test says what is on it."""

    def __init__(self, clock: FakeClock, background: BackgroundQueue) -> None:
        self.token_cache = TokenCache(clock, no_jitter, background)
        self.requests: list[Request] = []
        self.outcome: Response | Exception = ConnectFailed("refused")

    def ask(
        self,
        resource: str,
        variables: dict[str, str] | None = None,
        given: Callable[[Clock], AbstractContextManager[Sender]] | None = None,
        *,
        has_transport: bool = False,
    ) -> Token:
        source = detect(environment=Environment(variables or {}))
        call_options = CallOptions(has_transport=has_transport)
        client = TokenClient(source, SYSTEM_ASSIGNED, self.token_cache, None, call_options)
        return client.token(client.entry(resource), None, given)

    def sender(self, clock: Clock) -> AbstractContextManager[Sender]:
        from contextlib import contextmanager

        @contextmanager
        def opened() -> Iterator[Sender]:
            yield self.send

        return opened()

    def send(self, request: Request) -> Response:
        self.requests.append(request)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.fixture
def world(
    clock: FakeClock,
    background: BackgroundQueue,
    azure: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    world = World(clock, background)
    monkeypatch.setattr("imds_identity._http.transport.direct_sender", world.sender)
    return world


def test_the_next_scope_costs_nothing(
    world: World, clock: FakeClock, responses: ResponseFactory
) -> None:
    for resource in ("a", "b", "c"):
        with pytest.raises(Unavailable, match=f"no connection.*for '{resource}'"):
            world.ask(resource)
    assert len(world.requests) == 1
    clock.seconds += UNAVAILABLE_SECONDS - 1
    with pytest.raises(Unavailable):
        world.ask("b")
    assert len(world.requests) == 1, "it is not remembered anew with each question"
    clock.seconds += 1
    world.outcome = responses.token()
    assert world.ask("d").value == "a-token"


def test_forgetting_everything_forgets_that(world: World, responses: ResponseFactory) -> None:
    with pytest.raises(Unavailable):
        world.ask("a")
    world.token_cache.clear()
    world.outcome = responses.token()
    assert world.ask("a").value == "a-token"


def test_only_that_nobody_answers_is_remembered(world: World, responses: ResponseFactory) -> None:
    world.outcome = responses.error(400)  # no such identity: the next one may be there
    for resource in ("a", "b"):
        with pytest.raises(Unavailable):
            world.ask(resource)
    assert len(world.requests) == 2


def test_what_is_said_to_be_there_is_looked_for_each_time(world: World) -> None:
    for resource in ("a", "b"):
        with pytest.raises(Unavailable):
            world.ask(resource, NAMED)
    assert len(world.requests) == 6


def test_a_transport_of_the_caller_s_may_get_where_others_do_not(
    world: World, responses: ResponseFactory
) -> None:
    with pytest.raises(Unavailable):
        world.ask("a")
    world.outcome = responses.token()
    assert world.ask("b", given=world.sender, has_transport=True).value == "a-token"


def test_headers_policies_and_tracing_get_nowhere_else(world: World) -> None:
    for resource in ("a", "b"):
        with pytest.raises(Unavailable):
            world.ask(resource, given=world.sender)
    assert len(world.requests) == 1
