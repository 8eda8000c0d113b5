from __future__ import annotations

from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._core.failure import Failure, Reason, Refused, SecretUnreadable, Unavailable
from imds_identity._core.identity import parse_identity
from imds_identity._core.secret import Secret
from imds_identity._core.token_request import TokenRequest
from imds_identity._http.exchange import ReadFailed, Steps, pause, send
from imds_identity._http.messages import Request, Response
from imds_identity._http.retry import with_retries
from imds_identity._http.retry_options import RetryOptions
from imds_identity._http.runner import MARGIN, ExchangeRunner
from imds_identity._http.transport_errors import plain_headers
from imds_identity._sources import imds
from imds_identity._sources.arc import exchange as arc
from imds_identity._sources.arc.auth import KeyFileAuth
from imds_identity._sources.arc.source import ARC
from imds_identity._sources.azure_vm import IMDS
from imds_identity._token_cache.flight import LONGEST_EXCHANGE, LONGEST_FETCH
from support import FakeClock, ResponseFactory, no_jitter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imds_identity._core.token import Token
    from imds_identity._http.runner import Heartbeat

REQUEST = Request("http://service/", {})


def never(request: Request) -> Response:
    raise AssertionError("nothing is to be sent")


def test_runner_executes_all_steps(clock: FakeClock, responses: ResponseFactory) -> None:
    def steps() -> Steps[Response]:
        yield from pause(7)
        return (yield from send(REQUEST))

    response = responses.token()
    assert ExchangeRunner(lambda _: response, clock).run(steps()) is response
    assert clock.slept == [7]


def test_request_is_authenticated_immediately_before_each_send(
    clock: FakeClock, responses: ResponseFactory
) -> None:
    done: list[str] = []

    class RateLimiter:
        @contextmanager
        def acquire(self, *_: object) -> Iterator[None]:
            done.append("admitted")
            yield

        def observe(self, _: object) -> None:
            pass

    def auth(request: Request) -> Request:
        done.append("authenticated")
        if done.count("authenticated") > 2:
            raise SecretUnreadable("another user listens there")
        return request.with_header("Authorization", Secret("s3cret"))

    def send(request: Request) -> Response:
        assert plain_headers(request)["Authorization"] == "s3cret"
        done.append("sent")
        return responses.error(500)

    steps = with_retries(Request("http://x", {}, auth=auth), no_jitter, "no service")
    with pytest.raises(SecretUnreadable) as caught:
        ExchangeRunner(send, clock, RateLimiter()).run(steps)
    assert done == ["admitted", "authenticated", "sent"] * 2 + ["admitted", "authenticated"]
    assert caught.value.attempts == 2


def test_failure_does_not_contain_secrets_that_were_sent(clock: FakeClock) -> None:
    def fail(request: Request) -> Response:
        raise Refused("the service returned s3cret-value", "Check other-s3cret!")

    request = Request("http://x", {"X-Secret": Secret("s3cret-value")})
    request.auth = lambda request: request.with_header("Authorization", Secret("other-s3cret"))
    with pytest.raises(Refused) as caught:
        ExchangeRunner(fail, clock).run(send(request))
    assert str(caught.value) == (
        "the service returned <hidden>. Tried once in 0.0 s. Check <hidden>!"
    )


def test_transport_errors_have_their_duration(clock: FakeClock) -> None:
    def fail(request: Request) -> Response:
        clock.seconds += 3
        raise ReadFailed("reset")

    def steps() -> Steps[float]:
        try:
            yield from send(REQUEST)
        except ReadFailed as error:
            return error.seconds
        raise AssertionError("no error came")

    assert ExchangeRunner(fail, clock).run(steps()) == 3


def test_failure_has_number_and_duration_of_attempts(
    clock: FakeClock, responses: ResponseFactory
) -> None:
    def steps() -> Steps[None]:
        for _ in range(3):
            yield from send(REQUEST)
            yield from pause(2)
        raise Refused("no", "Do this.")

    with pytest.raises(Refused) as caught:
        ExchangeRunner(lambda _: responses.error(500), clock).run(steps())
    assert str(caught.value) == "no. Tried 3 times in 6.0 s. Do this."


class SlowGate:
    """Lets everybody wait for a while, or nobody in."""

    def __init__(self, clock: FakeClock, seconds: float, refusal: Refused | None = None) -> None:
        self.clock = clock
        self.seconds = seconds
        self.refusal = refusal
        self.heeded: list[int] = []

    @contextmanager
    def acquire(self, seconds: float, heartbeat: Heartbeat) -> Iterator[None]:
        if self.refusal:
            raise self.refusal
        heartbeat(self.seconds + MARGIN)
        self.clock.sleep(self.seconds)
        yield

    def observe(self, response: Response) -> None:
        self.heeded.append(response.status)


def test_waiting_for_the_rate_limiter_is_not_request_time(clock: FakeClock) -> None:
    def fail(request: Request) -> Response:
        clock.seconds += 3
        raise ReadFailed("reset")

    with pytest.raises(ReadFailed) as caught:
        ExchangeRunner(fail, clock, rate_limiter=SlowGate(clock, 50.0)).run(send(REQUEST))
    assert caught.value.seconds == 3


def test_rate_limiter_observes_every_response(clock: FakeClock, responses: ResponseFactory) -> None:
    rate_limiter = SlowGate(clock, 0)
    ExchangeRunner(lambda _: responses.error(429), clock, rate_limiter=rate_limiter).run(
        send(REQUEST)
    )
    assert rate_limiter.heeded == [429]


def test_request_refused_by_the_rate_limiter_is_not_an_attempt(clock: FakeClock) -> None:
    rate_limiter = SlowGate(clock, 0, Refused("the service asked this machine to rest"))
    with pytest.raises(Refused) as caught:
        ExchangeRunner(never, clock, rate_limiter=rate_limiter).run(send(REQUEST))
    assert str(caught.value) == "the service asked this machine to rest."


def test_heartbeat_precedes_each_step(clock: FakeClock, responses: ResponseFactory) -> None:
    told: list[tuple[float, float]] = []

    def slow(request: Request) -> Response:
        clock.seconds += 12
        return responses.error(500)

    def steps() -> Steps[None]:
        yield from send(REQUEST)
        yield from pause(30)

    def heartbeat(seconds: float) -> None:
        told.append((clock.now() - 1000, seconds))

    ExchangeRunner(slow, clock, SlowGate(clock, 20.0), heartbeat).run(steps())
    assert told == [(0, 23), (20, 15), (32, 33)]


ENDPOINT = "http://127.0.0.1:40342/metadata/identity/oauth2/token"
EXCHANGES: dict[str, Callable[..., Steps[Token]]] = {
    "imds": partial(imds.exchange, IMDS),
    "arc": partial(arc.exchange, ARC, auth_for=lambda path: KeyFileAuth(path, "/")),
}


@pytest.mark.parametrize("kind", EXCHANGES)
@pytest.mark.parametrize("random", [0.0, 0.5, 0.999])
@pytest.mark.parametrize(
    ("status", "headers"),
    [(429, {"retry_after": "60"}), (503, {"retry_after": "60"}), (410, {}), (0, {})],
)
def test_no_service_makes_a_fetch_longer_than_its_waiters_wait(
    clock: FakeClock,
    responses: ResponseFactory,
    kind: str,
    random: float,
    status: int,
    headers: dict[str, str],
) -> None:
    def ill(request: Request) -> Response:
        clock.seconds += request.seconds
        if not status:
            raise ReadFailed("reset")
        return responses.raw(status, b"", **headers)

    steps = EXCHANGES[kind](ENDPOINT, TokenRequest("r", parse_identity()), lambda: random)
    with pytest.raises(Refused if status else Unavailable) as caught:
        ExchangeRunner(ill, clock, SlowGate(clock, 60.0), seconds=LONGEST_EXCHANGE).run(steps)
    assert caught.value.seconds < LONGEST_FETCH
    assert caught.value.status == (status or None)


def test_timeout_before_a_pause_names_the_last_status(
    clock: FakeClock, responses: ResponseFactory
) -> None:
    seen: list[Failure] = []

    def steps() -> Steps[None]:
        try:
            while True:
                yield from send(REQUEST)
                yield from pause(40)
        except Failure as failure:  # as an exchange does that hides its secrets in messages
            seen.append(failure)
            raise

    with pytest.raises(Refused, match="within 100 s: the last response was HTTP 429") as caught:
        ExchangeRunner(lambda _: responses.error(429), clock, seconds=100).run(steps())
    assert seen == [caught.value]
    assert (caught.value.retry_after, caught.value.attempts) == (40, 3)


def test_suspended_time_does_not_count(clock: FakeClock, responses: ResponseFactory) -> None:
    def frozen(request: Request) -> Response:
        clock.seconds += 36_000
        return responses.token()

    def steps() -> Steps[Response]:
        yield from send(REQUEST)
        yield from pause(2)
        return (yield from send(REQUEST))

    assert ExchangeRunner(frozen, clock, seconds=LONGEST_EXCHANGE).run(steps()).status == 200


@given(
    st.integers(1, 30),
    st.lists(
        st.tuples(st.sampled_from([0, 0.25, 1]), st.integers(0, 9), st.integers(0, 4)), min_size=1
    ),
)
def test_exchange_never_exceeds_the_total_timeout(
    seconds: int, behaviors: list[tuple[float, int, int]]
) -> None:
    """The last request of an exchange may take 0.05 s longer, so that it is possible at all."""
    clock = FakeClock()
    responses = ResponseFactory(clock)
    started, plan = clock.now(), iter(behaviors * 100)

    def slow(request: Request) -> Response:
        part, _, _ = next(plan)
        clock.seconds += part * request.seconds
        return responses.error(500)

    def steps() -> Steps[None]:
        for _, between, wait in behaviors * 100:
            rate_limiter.seconds = wait
            yield from send(REQUEST)
            yield from pause(between)

    rate_limiter = SlowGate(clock, 0.0)
    options = RetryOptions(seconds=seconds)
    with suppress(Failure):
        ExchangeRunner(slow, clock, rate_limiter, retry_options=options).run(steps())
    assert clock.now() - started <= seconds + 0.0501


def test_rate_limiter_waits_no_longer_than_the_total_timeout(
    clock: FakeClock, responses: ResponseFactory
) -> None:
    with pytest.raises(Refused, match="no request could be sent within 5 s") as caught:
        ExchangeRunner(
            never, clock, SlowGate(clock, 5.1), retry_options=RetryOptions(seconds=5)
        ).run(send(REQUEST))
    assert (caught.value.reason, caught.value.attempts, clock.slept) == (Reason.THROTTLED, 0, [])
    sent: list[Request] = []

    def record(request: Request) -> Response:
        sent.append(request)
        return responses.error(500)

    ExchangeRunner(record, clock, SlowGate(clock, 3.0), retry_options=RetryOptions(seconds=5)).run(
        send(REQUEST)
    )
    assert [request.seconds for request in sent] == [2]


@pytest.mark.parametrize(("last", "fits"), [(25, True), (25.5, False)])
def test_step_counts_for_75_seconds_at_most(
    clock: FakeClock, responses: ResponseFactory, last: float, fits: bool
) -> None:
    def stopped_for_an_hour(request: Request) -> Response:
        clock.seconds += 3600
        return responses.token()

    def steps() -> Steps[str]:
        yield from send(REQUEST)
        yield from pause(last)
        return "done"

    runner = ExchangeRunner(stopped_for_an_hour, clock, seconds=100)
    if fits:
        assert runner.run(steps()) == "done"
    else:
        with pytest.raises(Failure, match="within 100 s"):
            runner.run(steps())


@pytest.mark.parametrize(("wait", "is_sent"), [(7.0, True), (7.1, False)])
def test_wait_for_the_rate_limiter_may_use_up_the_total_timeout(
    clock: FakeClock, responses: ResponseFactory, wait: float, is_sent: bool
) -> None:
    runner = ExchangeRunner(
        lambda _: responses.token(),
        clock,
        SlowGate(clock, wait),
        retry_options=RetryOptions(seconds=7),
    )
    if is_sent:
        assert runner.run(send(REQUEST)).status == 200
        return
    with pytest.raises(Refused, match="no request could be sent within 7 s") as caught:
        runner.run(send(REQUEST))
    assert caught.value.reason is Reason.THROTTLED


def test_last_request_has_50_milliseconds_at_least(
    clock: FakeClock, responses: ResponseFactory
) -> None:
    given: list[float] = []

    def steps() -> Steps[None]:
        for seconds in (9.98, 0.01):
            yield from pause(seconds)
            yield from send(REQUEST)

    def record(request: Request) -> Response:
        given.append(request.seconds)
        return responses.token()

    ExchangeRunner(record, clock, retry_options=RetryOptions(seconds=10)).run(steps())
    assert given == [0.05, 0.05]


def test_total_timeout_limits_the_last_request(clock: FakeClock) -> None:
    given: list[float] = []

    def hang(request: Request) -> Response:
        given.append(request.seconds)
        clock.seconds += request.seconds
        raise ReadFailed("no answer")

    def steps() -> Steps[None]:
        while True:
            try:
                yield from send(REQUEST)
            except ReadFailed:
                yield from pause(2)

    with pytest.raises(Failure, match="within 20 s"):
        ExchangeRunner(hang, clock, retry_options=RetryOptions(seconds=20)).run(steps())
    assert given == [12, 6]
    assert sum(given) + sum(clock.slept) <= 20
