"""One flight per key, with a clock that is moved by hand and background work run by hand."""

from __future__ import annotations

import base64
import json
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._core.claims import ANSWER_SECONDS, Challenge
from imds_identity._core.failure import Failure, Refused
from imds_identity._core.token import Token
from imds_identity._token_cache import cache as cache_module
from imds_identity._token_cache.cache import HIT_SECONDS, POLL_SECONDS, TRIES, TokenCache
from imds_identity._token_cache.entry import NEVER, CacheEntry
from imds_identity._token_cache.flight import LONGEST_FETCH, Flight, Interrupted
from support import KEY, LIFE, FakeClock, Service, token_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from support import BackgroundQueue


def jwt_of(**claims: int) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"header.{payload}.signature"


@pytest.fixture
def service(clock: FakeClock) -> Service:
    return Service(clock)


@pytest.fixture
def entry(token_cache: TokenCache) -> CacheEntry:
    return token_cache.entry(KEY)


def test_a_second_request_is_answered_from_memory(
    token_cache: TokenCache, entry: CacheEntry, service: Service
) -> None:
    assert token_cache.get(entry, service) is token_cache.get(entry, service)
    assert service.fetches == 1
    assert token_cache.entry(KEY) is entry


def test_an_expired_token_is_waited_for(
    token_cache: TokenCache, entry: CacheEntry, service: Service, clock: FakeClock
) -> None:
    token_cache.get(entry, service)
    clock.seconds += LIFE
    assert token_cache.get(entry, service).value == "token-2"


def test_a_due_token_is_served_and_refreshed_once_in_the_background(
    token_cache: TokenCache,
    entry: CacheEntry,
    service: Service,
    clock: FakeClock,
    background: BackgroundQueue,
) -> None:
    token_cache.get(entry, service)
    clock.seconds += LIFE / 2
    assert [token_cache.get(entry, service).value for _ in range(9)] == ["token-1"] * 9
    assert len(background.waiting) == 1
    background.run()
    assert token_cache.get(entry, service).value == "token-2"
    assert service.fetches == 2


def test_a_failed_refresh_goes_unnoticed_until_the_token_really_expires(
    token_cache: TokenCache,
    entry: CacheEntry,
    service: Service,
    clock: FakeClock,
    background: BackgroundQueue,
) -> None:
    token_cache.get(entry, service)
    end = clock.now() + LIFE
    service.error = Refused("down")
    clock.seconds += LIFE / 2
    while clock.now() + 10 < end:
        assert token_cache.get(entry, service).value == "token-1"
        background.run()
        clock.seconds += 10
    assert LIFE / 2 / 300 <= service.fetches <= LIFE / 2 / 300 + 10  # backed off to 5 minutes
    clock.seconds = end
    with pytest.raises(Refused, match="down"):
        token_cache.get(entry, service)


def test_a_failed_refresh_is_logged_without_a_token(
    token_cache: TokenCache,
    entry: CacheEntry,
    service: Service,
    clock: FakeClock,
    background: BackgroundQueue,
    caplog: pytest.LogCaptureFixture,
) -> None:
    token_cache.get(entry, service)
    clock.seconds += LIFE / 2
    service.error = Refused("down")
    token_cache.get(entry, service)
    background.run()
    [record] = caplog.records
    assert "valid for 720 more minutes" in record.message
    assert "next attempt is in 30 s: down" in record.message
    assert "token-1" not in record.message


def test_a_service_that_asks_for_rest_gets_it(
    token_cache: TokenCache,
    entry: CacheEntry,
    service: Service,
    clock: FakeClock,
    background: BackgroundQueue,
) -> None:
    token_cache.get(entry, service)
    clock.seconds += LIFE / 2
    service.error = Refused("throttled", retry_after=3000)
    token_cache.get(entry, service)
    background.run()
    clock.seconds += 2999
    token_cache.get(entry, service)
    assert not background.waiting
    clock.seconds += 1
    token_cache.get(entry, service)
    assert background.waiting


def test_a_failure_is_remembered_for_two_seconds(
    token_cache: TokenCache, entry: CacheEntry, service: Service, clock: FakeClock
) -> None:
    service.error = Refused("down")
    for _ in range(5):
        with pytest.raises(Refused):
            token_cache.get(entry, service)
    assert service.fetches == 1
    clock.seconds += 2
    service.error = None
    assert token_cache.get(entry, service).value == "token-2"


def test_claims_skip_memory_and_replace_what_it_holds(
    token_cache: TokenCache, entry: CacheEntry, service: Service
) -> None:
    token_cache.get(entry, service)
    assert token_cache.get(entry, service, claims="c").value == "token-2"
    # The same thread has the answer to these claims, and refuses that as well.
    assert token_cache.get(entry, service, claims="c").value == "token-3"
    assert token_cache.get(entry, service).value == "token-3"


def test_a_crowd_refused_with_the_same_claims_makes_one_request(
    token_cache: TokenCache, entry: CacheEntry, service: Service
) -> None:
    token_cache.get(entry, service)
    assert token_cache.get(entry, service, claims="c").value == "token-2"
    for token in together(100, lambda: token_cache.get(entry, service, claims="c")):
        assert token.value == "token-2"
    assert service.fetches == 2


def test_threads_that_come_one_after_another_share_the_answer_to_claims(
    token_cache: TokenCache, entry: CacheEntry, service: Service
) -> None:
    """The number of a thread that has ended is given to the next."""
    token_cache.get(entry, service)
    results = [
        together(1, lambda: token_cache.get(entry, service, claims="c"))[0].value for _ in range(20)
    ]
    assert results == ["token-2"] * 20


def test_claims_that_come_later_than_the_refused_token_can_explain_are_taken_to_the_service(
    token_cache: TokenCache, entry: CacheEntry, service: Service, clock: FakeClock
) -> None:
    token_cache.get(entry, service)
    token_cache.get(entry, service, claims="c")
    clock.seconds += ANSWER_SECONDS
    assert together(1, lambda: token_cache.get(entry, service, claims="c"))[0].value == "token-3"


def test_a_token_that_another_process_fetched_for_the_same_claims_answers_them(
    token_cache: TokenCache, entry: CacheEntry, service: Service, clock: FakeClock
) -> None:
    token_cache.get(entry, service)
    clock.seconds += 1
    newer = service.token().replaced(value="of-another-process")
    token_cache.adopt(entry, newer, Challenge("c", clock.now() + ANSWER_SECONDS))
    assert token_cache.get(entry, service, "c") is newer


def test_a_token_that_was_merely_refreshed_may_have_been_revoked_with_the_refused_one(
    token_cache: TokenCache, entry: CacheEntry, service: Service, clock: FakeClock
) -> None:
    token_cache.get(entry, service)
    clock.seconds += 1
    token_cache.adopt(entry, service.token().replaced(value="of-another-process"))
    assert token_cache.get(entry, service, "what only the resource understands").value == "token-2"


def test_a_token_issued_after_the_moment_that_claims_ask_for_answers_them(
    token_cache: TokenCache, entry: CacheEntry, service: Service
) -> None:
    token_cache.get(entry, service)
    assert entry.token is not None
    entry.token = entry.token.replaced(value=jwt_of(nbf=1001))
    claims = '{"access_token": {"nbf": {"essential": true, "value": "%d"}}}'
    assert token_cache.get(entry, service, claims % 1000) is entry.token
    assert token_cache.get(entry, service, claims % 1001).value == "token-2"


def test_a_token_that_is_older_than_the_claims_answers_them_for_nobody(
    token_cache: TokenCache, entry: CacheEntry, service: Service, clock: FakeClock
) -> None:
    token_cache.get(entry, service)
    clock.seconds += 1
    token_cache.adopt(entry, service.token().replaced(value=jwt_of(nbf=1000)))
    claims = '{"access_token": {"nbf": {"value": "1001"}}}'
    assert token_cache.get(entry, service, claims).value == "token-2"


def test_what_was_asked_for_before_the_answer_to_claims_is_none(
    token_cache: TokenCache, entry: CacheEntry, service: Service, clock: FakeClock
) -> None:
    """It may come late, and live longer than the answer did."""
    revoked = token_now(clock, "revoked")
    clock.seconds += 1
    answer = token_now(clock, "answer").replaced(expires_at=clock.now() + 6)
    assert token_cache.get(entry, lambda: answer, claims="c") is answer
    clock.seconds += 6
    assert token_cache.get(entry, lambda: revoked) is revoked
    assert [t.value for t in together(1, lambda: token_cache.get(entry, service, "c"))] == [
        "token-1"
    ]


def test_a_challenge_that_another_process_has_met_is_not_met_by_a_token_of_one_s_own(
    token_cache: TokenCache, entry: CacheEntry, service: Service, clock: FakeClock
) -> None:
    answer = token_now(clock, "answer")
    clock.seconds += 1
    token_cache.get(entry, service)
    token_cache.adopt(entry, answer, Challenge("c", clock.now() + ANSWER_SECONDS))
    assert entry.token is not answer
    assert token_cache.get(entry, lambda: answer, claims="c") is answer


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
    token_cache: TokenCache, entry: CacheEntry, clock: FakeClock,
    issued: dict[str, int], before: dict[str, int], later: bool,
) -> None:  # fmt: skip
    first = token_now(clock, jwt_of(**before))
    token_cache.get(entry, lambda: first)
    clock.seconds += 1
    token_cache.adopt(entry, second := token_now(clock, jwt_of(**issued)))
    assert entry.token is (second if later else first)
    token_cache.adopt(entry, first)
    assert entry.token is (second if later else first)


def test_a_failure_to_answer_claims_is_everybody_s_for_two_seconds_and_hurts_no_plain_caller(
    token_cache: TokenCache, entry: CacheEntry, service: Service, clock: FakeClock
) -> None:
    token_cache.get(entry, service)
    service.error = Refused("down")
    for error in together(60, lambda: token_cache.get(entry, service, claims="c")):
        assert isinstance(error, Refused)
    assert service.fetches <= 3  # threads that come before the first failure share its flight
    assert token_cache.get(entry, service).value == "token-1"
    clock.seconds += 2
    service.error = None
    assert token_cache.get(entry, service, claims="c").value.startswith("token-")


def test_a_plain_caller_does_not_wait_for_claims(
    token_cache: TokenCache, entry: CacheEntry, service: Service, background: BackgroundQueue
) -> None:
    first = token_cache.get(entry, service)
    assert isinstance(token_cache.join_or_start(entry, service, "c"), Flight)
    assert token_cache.get(entry, service) is first
    background.run()
    assert token_cache.get(entry, service).value == "token-2"


def test_a_plain_fetch_under_way_does_not_bring_a_refused_token_back(
    token_cache: TokenCache,
    entry: CacheEntry,
    service: Service,
    clock: FakeClock,
    background: BackgroundQueue,
) -> None:
    token_cache.get(entry, service)
    clock.seconds += LIFE / 2
    token_cache.get(entry, service)
    assert token_cache.get(entry, service, claims="c").value == "token-2"
    background.run()
    assert service.fetches == 3
    assert token_cache.get(entry, service).value == "token-2"


def test_clear_forgets_also_what_is_on_its_way(
    token_cache: TokenCache, entry: CacheEntry, service: Service
) -> None:
    def fetch() -> Token:
        token_cache.clear()
        return service()

    assert token_cache.get(entry, fetch).value == "token-1"
    assert entry.token is None
    assert entry.hit_until == NEVER
    assert token_cache.get(entry, service).value == "token-2"


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


def held_back(service: Service, waiters: int, entry: CacheEntry) -> Callable[[], Token]:
    """A fetch that takes until everybody else is waiting for it."""

    def fetch() -> Token:
        flight = entry.flights[None]
        while len(flight._callbacks) < waiters:
            pass
        return service()

    return fetch


def test_64_threads_make_one_request(
    token_cache: TokenCache, entry: CacheEntry, service: Service
) -> None:
    fetch = held_back(service, 63, entry)
    results = together(64, lambda: token_cache.get(entry, fetch))
    assert service.fetches == 1
    assert {token.value for token in results} == {"token-1"}


def test_all_who_wait_get_the_error_each_as_its_own(
    token_cache: TokenCache, entry: CacheEntry, service: Service
) -> None:
    service.error = Refused("down", "wait", status=503)
    fetch = held_back(service, 15, entry)
    results = together(16, lambda: token_cache.get(entry, fetch))
    assert service.fetches == 1
    assert len({id(error) for error in results}) == 16
    assert all(isinstance(e, Refused) and str(e) == "down. wait" for e in results)
    assert all(e.status == 503 and e.__context__ is None for e in results)


def test_when_a_fetch_is_interrupted_those_who_waited_ask_anew(
    token_cache: TokenCache, entry: CacheEntry, service: Service
) -> None:
    attempts = iter([KeyboardInterrupt(), None, None])
    waiting = held_back(service, 3, entry)

    def fetch() -> Token:
        error = next(attempts)
        if error:
            waiting()
            raise error
        return service()

    results = together(4, lambda: token_cache.get(entry, fetch))
    assert sum(isinstance(r, KeyboardInterrupt) for r in results) == 1
    assert sum(isinstance(r, Token) for r in results) == 3


def test_a_fetch_that_is_interrupted_each_time_ends_with_an_error(
    token_cache: TokenCache, entry: CacheEntry
) -> None:
    def fetch() -> Token:
        raise Interrupted

    with pytest.raises(Refused, match=f"interrupted {TRIES} times"):
        token_cache.get(entry, fetch)


def test_a_fetch_that_asks_for_its_own_token_is_told_so(
    token_cache: TokenCache, entry: CacheEntry
) -> None:
    def fetch() -> Token:
        return token_cache.get(entry, fetch)

    with pytest.raises(Refused, match="requested the very token that it is fetching"):
        token_cache.get(entry, fetch)


def test_two_fetches_that_ask_for_each_other_s_token_are_told_so(token_cache: TokenCache) -> None:
    one, other = token_cache.entry(KEY), token_cache.entry(KEY._replace(resource="other"))

    def first() -> Token:
        return token_cache.get(other, second)

    def second() -> Token:
        return token_cache.get(one, first)

    with pytest.raises(Refused, match="requested the very token that it is fetching"):
        token_cache.get(one, first)


def test_an_error_that_is_no_failure_is_wrapped_in_one(
    token_cache: TokenCache, entry: CacheEntry
) -> None:
    def fetch() -> Token:
        raise ZeroDivisionError("secret")

    for _ in range(2):
        with pytest.raises(Refused, match="an unexpected ZeroDivisionError") as caught:
            token_cache.get(entry, fetch)
        assert "secret" not in str(caught.value)


def test_launch_gives_a_flight_that_all_share(
    token_cache: TokenCache, entry: CacheEntry, service: Service, background: BackgroundQueue
) -> None:
    first, second = (
        token_cache.join_or_start(entry, service),
        token_cache.join_or_start(entry, service),
    )
    assert isinstance(first, Flight)
    assert first is second
    background.run()
    assert first.outcome is token_cache.join_or_start(entry, service)


def test_where_no_thread_can_be_started_the_present_token_is_served(
    clock: FakeClock, service: Service
) -> None:
    def no_thread(run: Callable[[], object], *, blocks: bool) -> None:
        raise RuntimeError("can't start new thread")

    token_cache = TokenCache(clock, lambda: 0.5, no_thread)
    entry = token_cache.entry(KEY)
    token_cache.get(entry, service)
    clock.seconds += LIFE / 2
    assert token_cache.get(entry, service).value == "token-1"
    flight = token_cache.join_or_start(token_cache.entry(KEY._replace(resource="other")), service)
    assert isinstance(flight, Flight)
    with pytest.raises(Refused, match="no thread can be started"):
        token_cache.result(flight)


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

    token_cache = TokenCache(clock, lambda: 0.5, start)
    entry = token_cache.entry(KEY)
    with pytest.raises(KeyboardInterrupt):
        token_cache.get(entry, service)
    clock.seconds += POLL_SECONDS
    assert token_cache.get(entry, service).value == "token-1"
    started[0]()
    assert service.fetches == 1


def test_a_flight_that_hangs_is_given_up_by_all_and_replaced_by_the_next(
    token_cache: TokenCache,
    entry: CacheEntry,
    service: Service,
    clock: FakeClock,
    background: BackgroundQueue,
) -> None:
    asked = token_cache.flights(entry, service, None)
    flight = next(asked)
    with pytest.raises(Refused, match="has not ended within 180 s"):
        for _ in range(round(2 * LONGEST_FETCH / POLL_SECONDS)):
            assert next(asked) is flight
            clock.seconds += POLL_SECONDS
    assert clock.now() <= flight.since + LONGEST_FETCH + POLL_SECONDS
    background.waiting.clear()
    assert token_cache.get(entry, service).value == "token-1"


@pytest.mark.parametrize("frozen", [LONGEST_FETCH, 10 * LONGEST_FETCH])
def test_who_was_frozen_while_he_waited_asks_anew(
    token_cache: TokenCache, entry: CacheEntry, service: Service, clock: FakeClock, frozen: float
) -> None:
    asked = token_cache.flights(entry, service, None)
    flight = next(asked)
    clock.seconds += frozen
    other = next(asked)
    assert other is not flight
    other.complete(service())
    with pytest.raises(StopIteration) as ended:
        next(asked)
    assert ended.value.value.value == "token-1"


def test_a_token_that_expired_between_its_coming_and_its_taking_is_asked_for_again(
    token_cache: TokenCache,
    entry: CacheEntry,
    service: Service,
    clock: FakeClock,
    background: BackgroundQueue,
) -> None:
    asked = token_cache.flights(entry, service, None)
    next(asked)
    background.run()
    clock.seconds += LIFE  # the process was frozen here
    next(asked)
    background.run()
    with pytest.raises(StopIteration) as ended:
        next(asked)
    assert ended.value.value.value == "token-2"


def test_who_gives_up_waiting_leaves_nothing_with_the_flight(
    token_cache: TokenCache, entry: CacheEntry, service: Service
) -> None:
    flight = token_cache.join_or_start(entry, service)
    assert isinstance(flight, Flight)
    for _ in range(3):
        flight.wait(0.001)
    assert flight._callbacks == []


def test_a_plain_fetch_does_not_replace_what_another_process_has_brought_since(
    token_cache: TokenCache,
    entry: CacheEntry,
    service: Service,
    clock: FakeClock,
    background: BackgroundQueue,
) -> None:
    """The other one's may be the answer to a claims challenge, and this one's the revoked token."""
    token_cache.join_or_start(entry, service)
    revoked = service.token()
    clock.seconds += 1
    newer = service.token().replaced(value="of-another-process")
    token_cache.adopt(entry, newer)
    entry.flights[None].fetch = lambda: revoked
    background.run()
    assert token_cache.get(entry, service) is newer


def test_a_thread_whose_loop_a_flight_needs_does_not_wait_for_it(
    token_cache: TokenCache, entry: CacheEntry, service: Service
) -> None:
    needing = token_cache.join_or_start(entry, service, needs=threading.get_ident())
    assert isinstance(needing, Flight)
    assert token_cache.get(entry, service).value == "token-1"
    assert needing.outcome is None


def test_a_log_handler_that_asks_for_the_token_gets_it(
    token_cache: TokenCache,
    entry: CacheEntry,
    service: Service,
    clock: FakeClock,
    background: BackgroundQueue,
) -> None:
    asked: list[Token] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            results = together(
                1, lambda: token_cache.get(entry, service)
            )  # another thread: no lock held
            asked.extend([token_cache.get(entry, service), *results])

    token_cache.get(entry, service)
    clock.seconds += LIFE / 2
    service.error = Refused("down")
    token_cache.get(entry, service)
    logger, handler = logging.getLogger("imds_identity"), Handler()
    logger.addHandler(handler)
    try:
        background.run()
    finally:
        logger.removeHandler(handler)
    assert [token.value for token in asked] == ["token-1", "token-1"]


def test_an_expired_token_is_never_a_hit(
    token_cache: TokenCache,
    entry: CacheEntry,
    service: Service,
    clock: FakeClock,
    background: BackgroundQueue,
) -> None:
    token_cache.get(entry, service)
    clock.seconds += LIFE - 30
    service.error = Refused("throttled", retry_after=300)
    token_cache.get(entry, service)
    background.run()
    token = token_cache.get(entry, service)
    assert token.refresh_at <= token.expires_at - 15  # tried again before the end
    token_cache.publish(entry, token, lambda token: (token.value, "info"))
    assert entry.hit_until <= clock.tick() + token.expires_at - clock.now()
    clock.seconds = token.expires_at - 0.25
    token_cache.publish(entry, token, lambda token: (token.value, "info"))
    assert entry.hit_until <= clock.tick() + 0.25
    late = entry.token = token.replaced(refresh_at=token.expires_at + 60)  # whoever says so
    token_cache.publish(entry, late, lambda token: (token.value, "info"))
    assert entry.hit_until <= clock.tick() + 0.25


def test_a_token_that_expired_while_this_process_was_frozen_is_asked_for_again(
    token_cache: TokenCache, entry: CacheEntry, service: Service, clock: FakeClock
) -> None:
    def frozen() -> Token:
        token = service()
        clock.seconds += LIFE if service.fetches == 1 else 0
        return token

    assert token_cache.get(entry, frozen).value == "token-2"


def test_a_token_that_has_expired_by_the_wall_clock_is_not_served(
    token_cache: TokenCache, entry: CacheEntry, service: Service, clock: FakeClock
) -> None:
    """A virtual machine was suspended, and all its clocks but this one stood still."""
    token_cache.get(entry, service)
    clock.skew = LIFE - 1
    assert token_cache.get(entry, service).value == "token-1"
    clock.skew = LIFE
    assert token_cache.get(entry, service).value == "token-2"
    clock.skew = 0.0  # and if it was this one that was wrong, nothing is lost but a request
    assert token_cache.get(entry, service).value == "token-2"


def test_what_another_process_has_is_taken_over_only_if_it_is_good(
    token_cache: TokenCache, entry: CacheEntry, service: Service, clock: FakeClock
) -> None:
    mine = token_cache.get(entry, service)
    clock.seconds += 1
    token_cache.adopt(entry, service.token().replaced(expires_at=clock.now()))
    assert token_cache.get(entry, service) is mine


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

    token_cache = TokenCache(clock, lambda: 0.5, start)
    entry = token_cache.entry(KEY)
    token_cache.get(entry, service)
    clock.seconds += LIFE / 2
    with pytest.raises(KeyboardInterrupt):
        token_cache.get(entry, service)
    for seconds, count in ((0.0, 1), (POLL_SECONDS, 2)):
        clock.seconds += seconds
        assert token_cache.get(entry, service).value == "token-1"
        assert len(begun) == count


def test_after_a_fork_nobody_waits_for_a_thread_of_the_parent(
    token_cache: TokenCache, entry: CacheEntry, service: Service, background: BackgroundQueue
) -> None:
    token_cache.join_or_start(entry, service)
    background.waiting.clear()  # as the thread that was to run it is gone
    together(1, token_cache._lock.acquire)  # as another thread of the parent may have held it
    entry.leased.add(KEY)  # by that thread
    cache_module._reset()
    assert token_cache.get(entry, service).value == "token-1"
    assert not entry.leased


def test_interrupted_is_for_the_engine_alone() -> None:
    assert not issubclass(Interrupted, Failure)


def test_a_shown_token_is_looked_at_again_within_a_second(
    token_cache: TokenCache, entry: CacheEntry, service: Service, clock: FakeClock
) -> None:
    made: list[Token] = []

    def forms(token: Token) -> tuple[str, str]:
        made.append(token)
        return f"form-{len(made)}", "info"

    token = token_cache.get(entry, service)
    token_cache.publish(entry, token, forms)
    assert entry.hit_until == clock.tick() + HIT_SECONDS
    clock.seconds += LIFE / 2 - 0.5
    token_cache.publish(entry, token, forms)
    assert entry.hit_until == clock.tick() + 0.5
    assert (entry.access_token, len(made)) == ("form-1", 1)


def test_a_token_that_was_replaced_meanwhile_is_shown_but_not_handed_out(
    token_cache: TokenCache, entry: CacheEntry, service: Service
) -> None:
    token = token_cache.get(entry, service)
    token_cache.clear()
    assert token_cache.publish(entry, token, lambda token: (token.value, "info")) == (
        "token-1",
        "info",
    )
    assert entry.hit_until == NEVER
