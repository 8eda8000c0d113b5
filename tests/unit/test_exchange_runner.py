from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._core.failure import Failure, Refused, SecretUnreadable, Unavailable
from imds_identity._core.identity import parse_identity
from imds_identity._core.token_request import TokenRequest
from imds_identity._http import peer as listener
from imds_identity._http.exchange import (
    ReadFailed,
    Request,
    Response,
    Steps,
    pause,
    read_secret,
    send,
)
from imds_identity._http.retry import with_retries
from imds_identity._http.retry_options import RetryOptions
from imds_identity._http.runner import MARGIN, ExchangeRunner
from imds_identity._sources import arc, imds
from imds_identity._token_cache.flight import LONGEST_EXCHANGE, LONGEST_FETCH
from support import no_jitter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imds_identity._http.runner import Heartbeat
    from support import FakeClock, ResponseFactory

REQUEST = Request("http://service/", {})


def never(request: Request) -> Response:
    raise AssertionError("nothing is to be sent")


def test_every_step_is_done(clock: FakeClock, responses: ResponseFactory, tmp_path: Path) -> None:
    (tmp_path / "a.key").write_text("s3cret")

    def steps() -> Steps[tuple[Response, str]]:
        yield from pause(7)
        respond = yield from send(REQUEST)
        return respond, (yield from read_secret(f"{tmp_path}/a.key")).reveal()

    respond = responses.token()
    assert ExchangeRunner(lambda _: respond, clock).run(steps(), str(tmp_path)) == (
        respond,
        "s3cret",
    )
    assert clock.slept == [7]


def test_who_listens_is_looked_up_each_time_that_a_secret_is_about_to_be_sent(
    clock: FakeClock, responses: ResponseFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[Any] = []

    class RateLimiter:
        @contextmanager
        def acquire(self, *_: object) -> Iterator[None]:
            done.append("admitted")
            yield

        def observe(self, _: object) -> None:
            pass

    def confirm(port: int) -> None:
        done.append(port)
        if done.count(port) > 2:
            raise SecretUnreadable("another listens there")

    def send(request: Request) -> Response:
        done.append("sent")
        return responses.error(500)

    monkeypatch.setattr(listener, "confirm", confirm)
    steps = with_retries(Request("http://x", {}, listener=7), no_jitter, "nobody")
    with pytest.raises(SecretUnreadable) as caught:
        ExchangeRunner(send, clock, RateLimiter()).run(steps)
    assert done == ["admitted", 7, "sent"] * 2 + ["admitted", 7]
    assert caught.value.attempts == 2


def test_transport_errors_are_thrown_in_with_how_long_it_took(clock: FakeClock) -> None:
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


def test_a_secret_that_cannot_be_read_ends_the_exchange(clock: FakeClock, tmp_path: Path) -> None:
    with pytest.raises(SecretUnreadable, match="does not exist"):
        ExchangeRunner(never, clock).run(read_secret(f"{tmp_path}/a.key"), str(tmp_path))


def test_a_failure_says_how_often_and_how_long_it_was_tried(
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
        heartbeat(self.seconds)
        self.clock.sleep(self.seconds)
        yield

    def observe(self, response: Response) -> None:
        self.heeded.append(response.status)


def test_waiting_in_the_gate_is_no_time_in_which_nothing_answered(clock: FakeClock) -> None:
    def fail(request: Request) -> Response:
        clock.seconds += 3
        raise ReadFailed("reset")

    with pytest.raises(ReadFailed) as caught:
        ExchangeRunner(fail, clock, rate_limiter=SlowGate(clock, 50.0)).run(send(REQUEST))
    assert caught.value.seconds == 3


def test_every_answer_is_heeded(clock: FakeClock, responses: ResponseFactory) -> None:
    rate_limiter = SlowGate(clock, 0)
    ExchangeRunner(lambda _: responses.error(429), clock, rate_limiter=rate_limiter).run(
        send(REQUEST)
    )
    assert rate_limiter.heeded == [429]


def test_what_the_gate_lets_nobody_send_was_not_tried(clock: FakeClock) -> None:
    rate_limiter = SlowGate(clock, 0, Refused("the service asked this machine to rest"))
    with pytest.raises(Refused) as caught:
        ExchangeRunner(never, clock, rate_limiter=rate_limiter).run(send(REQUEST))
    assert str(caught.value) == "the service asked this machine to rest."


def test_every_silent_stretch_is_told_before_it_begins(
    clock: FakeClock, responses: ResponseFactory
) -> None:
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
    assert told == [(0, 20), (20, 12 + MARGIN), (32, 30 + MARGIN)]


ENDPOINT = "http://127.0.0.1:40342/metadata/identity/oauth2/token"
EXCHANGES = {"imds": imds.exchange, "arc": arc.exchange}


@pytest.mark.parametrize("kind", EXCHANGES)
@pytest.mark.parametrize("random", [0.0, 0.5, 0.999])
@pytest.mark.parametrize(
    ("status", "headers"),
    [(429, {"retry_after": "60"}), (503, {"retry_after": "60"}), (410, {}), (0, {})],
)
def test_no_service_makes_a_fetch_longer_than_others_wait_for_it(
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


def test_whoever_has_no_time_for_a_pause_says_what_the_last_answer_was(
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

    with pytest.raises(Refused, match="within 100 s: its last answer was 429") as caught:
        ExchangeRunner(lambda _: responses.error(429), clock, seconds=100).run(steps())
    assert seen == [caught.value]
    assert (caught.value.retry_after, caught.value.attempts) == (40, 3)


def test_time_in_which_this_process_stood_still_is_not_the_service_s(
    clock: FakeClock, responses: ResponseFactory
) -> None:
    def frozen(request: Request) -> Response:
        clock.seconds += 36_000
        return responses.token()

    def steps() -> Steps[Response]:
        yield from send(REQUEST)
        yield from pause(2)
        return (yield from send(REQUEST))

    assert ExchangeRunner(frozen, clock, seconds=LONGEST_EXCHANGE).run(steps()).status == 200


def test_a_caller_s_own_end_is_the_last_request_s_too(clock: FakeClock) -> None:
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
