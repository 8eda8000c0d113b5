"""One flight per key, with a clock that is moved by hand and background work run by hand."""

from __future__ import annotations

import base64
import json
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._core.challenge import ANSWER_SECONDS, Challenge
from imds_identity._core.failure import Failure, Refused
from imds_identity._core.token import Token
from imds_identity._engine import broker as broker_module
from imds_identity._engine.broker import HIT_SECONDS, LOOK_SECONDS, TRIES, Broker
from imds_identity._engine.flight import LONGEST_FETCH, Flight, Interrupted
from imds_identity._engine.slot import NEVER, Slot
from support import KEY, LIFE, FakeClock, Service, token_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from support import Background


def jwt_of(**claims: int) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"header.{payload}.signature"


@pytest.fixture
def service(clock: FakeClock) -> Service:
    return Service(clock)


@pytest.fixture
def slot(broker: Broker) -> Slot:
    return broker.slot(KEY)


def test_a_second_request_is_answered_from_memory(
    broker: Broker, slot: Slot, service: Service
) -> None:
    assert broker.get(slot, service) is broker.get(slot, service)
    assert service.fetches == 1
    assert broker.slot(KEY) is slot


def test_an_expired_token_is_waited_for(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock
) -> None:
    broker.get(slot, service)
    clock.seconds += LIFE
    assert broker.get(slot, service).value == "token-2"


def test_a_due_token_is_served_and_refreshed_once_in_the_background(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock, background: Background
) -> None:
    broker.get(slot, service)
    clock.seconds += LIFE / 2
    assert [broker.get(slot, service).value for _ in range(9)] == ["token-1"] * 9
    assert len(background.waiting) == 1
    background.run()
    assert broker.get(slot, service).value == "token-2"
    assert service.fetches == 2


def test_a_failed_refresh_goes_unnoticed_until_the_token_really_expires(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock, background: Background
) -> None:
    broker.get(slot, service)
    end = clock.now() + LIFE
    service.error = Refused("down")
    clock.seconds += LIFE / 2
    while clock.now() + 10 < end:
        assert broker.get(slot, service).value == "token-1"
        background.run()
        clock.seconds += 10
    assert LIFE / 2 / 300 <= service.fetches <= LIFE / 2 / 300 + 10  # backed off to 5 minutes
    clock.seconds = end
    with pytest.raises(Refused, match="down"):
        broker.get(slot, service)


def test_a_failed_refresh_is_logged_without_a_token(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock, background: Background,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    broker.get(slot, service)
    clock.seconds += LIFE / 2
    service.error = Refused("down")
    broker.get(slot, service)
    background.run()
    [record] = caplog.records
    assert "good for 720 more minutes" in record.message
    assert "next attempt is in 30 s: down" in record.message
    assert "token-1" not in record.message


def test_a_service_that_asks_for_rest_gets_it(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock, background: Background
) -> None:
    broker.get(slot, service)
    clock.seconds += LIFE / 2
    service.error = Refused("throttled", retry_after=3000)
    broker.get(slot, service)
    background.run()
    clock.seconds += 2999
    broker.get(slot, service)
    assert not background.waiting
    clock.seconds += 1
    broker.get(slot, service)
    assert background.waiting


def test_a_failure_is_remembered_for_two_seconds(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock
) -> None:
    service.error = Refused("down")
    for _ in range(5):
        with pytest.raises(Refused):
            broker.get(slot, service)
    assert service.fetches == 1
    clock.seconds += 2
    service.error = None
    assert broker.get(slot, service).value == "token-2"


def test_claims_skip_memory_and_replace_what_it_holds(
    broker: Broker, slot: Slot, service: Service
) -> None:
    broker.get(slot, service)
    assert broker.get(slot, service, claims="c").value == "token-2"
    # The same thread has the answer to these claims, and refuses that as well.
    assert broker.get(slot, service, claims="c").value == "token-3"
    assert broker.get(slot, service).value == "token-3"


def test_a_crowd_refused_with_the_same_claims_makes_one_request(
    broker: Broker, slot: Slot, service: Service
) -> None:
    broker.get(slot, service)
    assert broker.get(slot, service, claims="c").value == "token-2"
    for token in together(100, lambda: broker.get(slot, service, claims="c")):
        assert token.value == "token-2"
    assert service.fetches == 2


def test_threads_that_come_one_after_another_share_the_answer_to_claims(
    broker: Broker, slot: Slot, service: Service
) -> None:
    """The number of a thread that has ended is given to the next."""
    broker.get(slot, service)
    results = [
        together(1, lambda: broker.get(slot, service, claims="c"))[0].value for _ in range(20)
    ]
    assert results == ["token-2"] * 20


def test_claims_that_come_later_than_the_refused_token_can_explain_are_taken_to_the_service(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock
) -> None:
    broker.get(slot, service)
    broker.get(slot, service, claims="c")
    clock.seconds += ANSWER_SECONDS
    assert together(1, lambda: broker.get(slot, service, claims="c"))[0].value == "token-3"


def test_a_token_that_another_process_fetched_for_the_same_claims_answers_them(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock
) -> None:
    broker.get(slot, service)
    clock.seconds += 1
    newer = service.token().replaced(value="of-another-process")
    broker.adopt(slot, newer, Challenge("c", clock.now() + ANSWER_SECONDS))
    assert broker.get(slot, service, "c") is newer


def test_a_token_that_was_merely_refreshed_may_have_been_revoked_with_the_refused_one(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock
) -> None:
    broker.get(slot, service)
    clock.seconds += 1
    broker.adopt(slot, service.token().replaced(value="of-another-process"))
    assert broker.get(slot, service, "what only the resource understands").value == "token-2"


def test_a_token_issued_after_the_moment_that_claims_ask_for_answers_them(
    broker: Broker, slot: Slot, service: Service
) -> None:
    broker.get(slot, service)
    assert slot.token is not None
    slot.token = slot.token.replaced(value=jwt_of(nbf=1001))
    claims = '{"access_token": {"nbf": {"essential": true, "value": "%d"}}}'
    assert broker.get(slot, service, claims % 1000) is slot.token
    assert broker.get(slot, service, claims % 1001).value == "token-2"


def test_a_token_that_is_older_than_the_claims_answers_them_for_nobody(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock
) -> None:
    broker.get(slot, service)
    clock.seconds += 1
    broker.adopt(slot, service.token().replaced(value=jwt_of(nbf=1000)))
    claims = '{"access_token": {"nbf": {"value": "1001"}}}'
    assert broker.get(slot, service, claims).value == "token-2"


def test_what_was_asked_for_before_the_answer_to_claims_is_none(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock
) -> None:
    """It may come late, and live longer than the answer did."""
    revoked = token_now(clock, "revoked")
    clock.seconds += 1
    answer = token_now(clock, "answer").replaced(expires_at=clock.now() + 6)
    assert broker.get(slot, lambda: answer, claims="c") is answer
    clock.seconds += 6
    assert broker.get(slot, lambda: revoked) is revoked
    assert [t.value for t in together(1, lambda: broker.get(slot, service, "c"))] == ["token-1"]


def test_a_challenge_that_another_process_has_met_is_not_met_by_a_token_of_one_s_own(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock
) -> None:
    answer = token_now(clock, "answer")
    clock.seconds += 1
    broker.get(slot, service)
    broker.adopt(slot, answer, Challenge("c", clock.now() + ANSWER_SECONDS))
    assert slot.token is not answer
    assert broker.get(slot, lambda: answer, claims="c") is answer


@pytest.mark.parametrize(
    ("issued", "before", "later"),
    [
        ({"iat": 9}, {"iat": 8}, True),
        ({"iat": 8}, {"nbf": 9}, False),
        ({"iat": 8}, {"iat": 8}, True),
        ({}, {"iat": 9}, True),
    ],
)
def test_of_two_tokens_that_counts_which_was_issued_later_else_which_was_asked_for_later(
    broker: Broker, slot: Slot, clock: FakeClock,
    issued: dict[str, int], before: dict[str, int], later: bool,
) -> None:  # fmt: skip
    first = token_now(clock, jwt_of(**before))
    broker.get(slot, lambda: first)
    clock.seconds += 1
    broker.adopt(slot, second := token_now(clock, jwt_of(**issued)))
    assert slot.token is (second if later else first)
    broker.adopt(slot, first)
    assert slot.token is (second if later else first)


def test_a_failure_to_answer_claims_is_everybody_s_for_two_seconds_and_hurts_no_plain_caller(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock
) -> None:
    broker.get(slot, service)
    service.error = Refused("down")
    for error in together(60, lambda: broker.get(slot, service, claims="c")):
        assert isinstance(error, Refused)
    assert service.fetches <= 3  # threads that come before the first failure share its flight
    assert broker.get(slot, service).value == "token-1"
    clock.seconds += 2
    service.error = None
    assert broker.get(slot, service, claims="c").value.startswith("token-")


def test_a_plain_caller_does_not_wait_for_claims(
    broker: Broker, slot: Slot, service: Service, background: Background
) -> None:
    first = broker.get(slot, service)
    assert isinstance(broker.launch(slot, service, "c"), Flight)
    assert broker.get(slot, service) is first
    background.run()
    assert broker.get(slot, service).value == "token-2"


def test_a_plain_fetch_under_way_does_not_bring_a_refused_token_back(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock, background: Background
) -> None:
    broker.get(slot, service)
    clock.seconds += LIFE / 2
    broker.get(slot, service)
    assert broker.get(slot, service, claims="c").value == "token-2"
    background.run()
    assert service.fetches == 3
    assert broker.get(slot, service).value == "token-2"


def test_clear_forgets_also_what_is_on_its_way(
    broker: Broker, slot: Slot, service: Service
) -> None:
    def fetch() -> Token:
        broker.clear()
        return service()

    assert broker.get(slot, fetch).value == "token-1"
    assert slot.token is None
    assert slot.hit_until == NEVER
    assert broker.get(slot, service).value == "token-2"


def together(count: int, work: Callable[[], Any]) -> list[Any]:
    """What ``count`` threads get that start ``work`` at once."""
    barrier = threading.Barrier(count)
    results: list[Any] = []

    def run() -> None:
        barrier.wait()
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def held_back(service: Service, waiters: int, slot: Slot) -> Callable[[], Token]:
    """A fetch that takes until everybody else is waiting for it."""

    def fetch() -> Token:
        flight = slot.flights[None]
        while len(flight._callbacks) < waiters:
            pass
        return service()

    return fetch


def test_64_threads_make_one_request(broker: Broker, slot: Slot, service: Service) -> None:
    fetch = held_back(service, 63, slot)
    results = together(64, lambda: broker.get(slot, fetch))
    assert service.fetches == 1
    assert {token.value for token in results} == {"token-1"}


def test_all_who_wait_get_the_error_each_as_its_own(
    broker: Broker, slot: Slot, service: Service
) -> None:
    service.error = Refused("down", "wait", status=503)
    fetch = held_back(service, 15, slot)
    results = together(16, lambda: broker.get(slot, fetch))
    assert service.fetches == 1
    assert len({id(error) for error in results}) == 16
    assert all(isinstance(e, Refused) and str(e) == "down. wait" for e in results)
    assert all(e.status == 503 and e.__context__ is None for e in results)


def test_when_a_fetch_is_interrupted_those_who_waited_ask_anew(
    broker: Broker, slot: Slot, service: Service
) -> None:
    attempts = iter([KeyboardInterrupt(), None, None])
    waiting = held_back(service, 3, slot)

    def fetch() -> Token:
        error = next(attempts)
        if error:
            waiting()
            raise error
        return service()

    results = together(4, lambda: broker.get(slot, fetch))
    assert sum(isinstance(r, KeyboardInterrupt) for r in results) == 1
    assert sum(isinstance(r, Token) for r in results) == 3


def test_a_fetch_that_is_interrupted_each_time_ends_with_an_error(
    broker: Broker, slot: Slot
) -> None:
    def fetch() -> Token:
        raise Interrupted

    with pytest.raises(Refused, match=f"interrupted {TRIES} times"):
        broker.get(slot, fetch)


def test_a_fetch_that_asks_for_its_own_token_is_told_so(broker: Broker, slot: Slot) -> None:
    def fetch() -> Token:
        return broker.get(slot, fetch)

    with pytest.raises(Refused, match="by the very fetch that is to bring it"):
        broker.get(slot, fetch)


def test_two_fetches_that_ask_for_each_other_s_token_are_told_so(broker: Broker) -> None:
    one, other = broker.slot(KEY), broker.slot(KEY._replace(resource="other"))

    def first() -> Token:
        return broker.get(other, second)

    def second() -> Token:
        return broker.get(one, first)

    with pytest.raises(Refused, match="by the very fetch that is to bring it"):
        broker.get(one, first)


def test_an_error_that_is_no_failure_is_wrapped_in_one(broker: Broker, slot: Slot) -> None:
    def fetch() -> Token:
        raise ZeroDivisionError("secret")

    for _ in range(2):
        with pytest.raises(Refused, match="an unexpected ZeroDivisionError") as caught:
            broker.get(slot, fetch)
        assert "secret" not in str(caught.value)


def test_launch_gives_a_flight_that_all_share(
    broker: Broker, slot: Slot, service: Service, background: Background
) -> None:
    first, second = broker.launch(slot, service), broker.launch(slot, service)
    assert isinstance(first, Flight)
    assert first is second
    background.run()
    assert first.outcome is broker.launch(slot, service)


def test_where_no_thread_can_be_started_the_present_token_is_served(
    clock: FakeClock, service: Service
) -> None:
    def no_thread(run: Callable[[], object], *, blocks: bool) -> None:
        raise RuntimeError("can't start new thread")

    broker = Broker(clock, lambda: 0.5, no_thread)
    slot = broker.slot(KEY)
    broker.get(slot, service)
    clock.seconds += LIFE / 2
    assert broker.get(slot, service).value == "token-1"
    flight = broker.launch(broker.slot(KEY._replace(resource="other")), service)
    assert isinstance(flight, Flight)
    with pytest.raises(Refused, match="no thread can be started"):
        broker.result(flight)


def test_a_flight_that_nobody_began_is_begun_by_one_who_waits(
    clock: FakeClock, service: Service
) -> None:
    """A signal handler that raises may stop a caller between registering and beginning it."""
    started: list[Callable[[], object]] = []

    def start(run: Callable[[], object], *, blocks: bool) -> None:
        if not started:
            started.append(run)
            raise KeyboardInterrupt
        run()

    broker = Broker(clock, lambda: 0.5, start)
    slot = broker.slot(KEY)
    with pytest.raises(KeyboardInterrupt):
        broker.get(slot, service)
    clock.seconds += LOOK_SECONDS
    assert broker.get(slot, service).value == "token-1"
    started[0]()
    assert service.fetches == 1


def test_a_flight_that_hangs_is_given_up_by_all_and_replaced_by_the_next(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock, background: Background
) -> None:
    asked = broker.ask(slot, service, None)
    flight = next(asked)
    with pytest.raises(Refused, match="has not ended within 180 s"):
        for _ in range(round(2 * LONGEST_FETCH / LOOK_SECONDS)):
            assert next(asked) is flight
            clock.seconds += LOOK_SECONDS
    assert clock.now() <= flight.since + LONGEST_FETCH + LOOK_SECONDS
    background.waiting.clear()
    assert broker.get(slot, service).value == "token-1"


@pytest.mark.parametrize("frozen", [LONGEST_FETCH, 10 * LONGEST_FETCH])
def test_who_was_frozen_while_he_waited_asks_anew(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock, frozen: float
) -> None:
    asked = broker.ask(slot, service, None)
    flight = next(asked)
    clock.seconds += frozen
    other = next(asked)
    assert other is not flight
    other.land(service())
    with pytest.raises(StopIteration) as ended:
        next(asked)
    assert ended.value.value.value == "token-1"


def test_a_token_that_expired_between_its_coming_and_its_taking_is_asked_for_again(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock, background: Background
) -> None:
    asked = broker.ask(slot, service, None)
    next(asked)
    background.run()
    clock.seconds += LIFE  # the process was frozen here
    next(asked)
    background.run()
    with pytest.raises(StopIteration) as ended:
        next(asked)
    assert ended.value.value.value == "token-2"


def test_who_gives_up_waiting_leaves_nothing_with_the_flight(
    broker: Broker, slot: Slot, service: Service
) -> None:
    flight = broker.launch(slot, service)
    assert isinstance(flight, Flight)
    for _ in range(3):
        flight.wait(0.001)
    assert flight._callbacks == []


def test_a_plain_fetch_does_not_replace_what_another_process_has_brought_since(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock, background: Background
) -> None:
    """The other one's may be the answer to a claims challenge, and this one's the revoked token."""
    broker.launch(slot, service)
    revoked = service.token()
    clock.seconds += 1
    newer = service.token().replaced(value="of-another-process")
    broker.adopt(slot, newer)
    slot.flights[None].fetch = lambda: revoked
    background.run()
    assert broker.get(slot, service) is newer


def test_a_thread_whose_loop_a_flight_needs_does_not_wait_for_it(
    broker: Broker, slot: Slot, service: Service
) -> None:
    needing = broker.launch(slot, service, needs=threading.get_ident())
    assert isinstance(needing, Flight)
    assert broker.get(slot, service).value == "token-1"
    assert needing.outcome is None


def test_a_log_handler_that_asks_for_the_token_gets_it(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock, background: Background
) -> None:
    asked: list[Token] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            results = together(1, lambda: broker.get(slot, service))  # another thread: no lock held
            asked.extend([broker.get(slot, service), *results])

    broker.get(slot, service)
    clock.seconds += LIFE / 2
    service.error = Refused("down")
    broker.get(slot, service)
    logger, handler = logging.getLogger("imds_identity"), Handler()
    logger.addHandler(handler)
    try:
        background.run()
    finally:
        logger.removeHandler(handler)
    assert [token.value for token in asked] == ["token-1", "token-1"]


def test_an_expired_token_is_never_a_hit(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock, background: Background
) -> None:
    broker.get(slot, service)
    clock.seconds += LIFE - 30
    service.error = Refused("throttled", retry_after=300)
    broker.get(slot, service)
    background.run()
    token = broker.get(slot, service)
    assert token.refresh_at <= token.expires_at - 15  # tried again before the end
    broker.show(slot, token, lambda token: (token.value, "info"))
    assert slot.hit_until <= clock.tick() + token.expires_at - clock.now()
    clock.seconds = token.expires_at - 0.25
    broker.show(slot, token, lambda token: (token.value, "info"))
    assert slot.hit_until <= clock.tick() + 0.25
    late = slot.token = token.replaced(refresh_at=token.expires_at + 60)  # whoever says so
    broker.show(slot, late, lambda token: (token.value, "info"))
    assert slot.hit_until <= clock.tick() + 0.25


def test_a_token_that_expired_while_this_process_was_frozen_is_asked_for_again(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock
) -> None:
    def frozen() -> Token:
        token = service()
        clock.seconds += LIFE if service.fetches == 1 else 0
        return token

    assert broker.get(slot, frozen).value == "token-2"


def test_a_token_that_has_expired_by_the_wall_clock_is_not_served(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock
) -> None:
    """A virtual machine was suspended, and all its clocks but this one stood still."""
    broker.get(slot, service)
    clock.skew = LIFE - 1
    assert broker.get(slot, service).value == "token-1"
    clock.skew = LIFE
    assert broker.get(slot, service).value == "token-2"
    clock.skew = 0.0  # and if it was this one that was wrong, nothing is lost but a request
    assert broker.get(slot, service).value == "token-2"


def test_what_another_process_has_is_taken_over_only_if_it_is_good(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock
) -> None:
    mine = broker.get(slot, service)
    clock.seconds += 1
    broker.adopt(slot, service.token().replaced(expires_at=clock.now()))
    assert broker.get(slot, service) is mine


def test_a_refresh_that_nobody_began_is_begun_by_the_next_caller(
    clock: FakeClock, service: Service
) -> None:
    """He is served the present token, and waits for nothing."""
    begun: list[Callable[[], object]] = []

    def start(run: Callable[[], object], *, blocks: bool) -> None:
        if blocks:
            run()
        elif not begun:
            begun.append(run)
            raise KeyboardInterrupt
        else:
            begun.append(run)

    broker = Broker(clock, lambda: 0.5, start)
    slot = broker.slot(KEY)
    broker.get(slot, service)
    clock.seconds += LIFE / 2
    with pytest.raises(KeyboardInterrupt):
        broker.get(slot, service)
    for seconds, count in ((0.0, 1), (LOOK_SECONDS, 2)):
        clock.seconds += seconds
        assert broker.get(slot, service).value == "token-1"
        assert len(begun) == count


def test_after_a_fork_nobody_waits_for_a_thread_of_the_parent(
    broker: Broker, slot: Slot, service: Service, background: Background
) -> None:
    broker.launch(slot, service)
    background.waiting.clear()  # as the thread that was to run it is gone
    together(1, broker._lock.acquire)  # as another thread of the parent may have held it
    slot.leased.add(KEY)  # by that thread
    broker_module._after_fork_in_child()
    assert broker.get(slot, service).value == "token-1"
    assert not slot.leased


def test_interrupted_is_for_the_engine_alone() -> None:
    assert not issubclass(Interrupted, Failure)


def test_a_shown_token_is_looked_at_again_within_a_second(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock
) -> None:
    made: list[Token] = []

    def forms(token: Token) -> tuple[str, str]:
        made.append(token)
        return f"form-{len(made)}", "info"

    token = broker.get(slot, service)
    broker.show(slot, token, forms)
    assert slot.hit_until == clock.tick() + HIT_SECONDS
    clock.seconds += LIFE / 2 - 0.5
    broker.show(slot, token, forms)
    assert slot.hit_until == clock.tick() + 0.5
    assert (slot.access_token, len(made)) == ("form-1", 1)


def test_a_token_that_was_replaced_meanwhile_is_shown_but_not_handed_out(
    broker: Broker, slot: Slot, service: Service
) -> None:
    token = broker.get(slot, service)
    broker.clear()
    assert broker.show(slot, token, lambda token: (token.value, "info")) == ("token-1", "info")
    assert slot.hit_until == NEVER
