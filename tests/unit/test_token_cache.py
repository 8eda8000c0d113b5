"""The in-process token cache, with a fake clock and background work that the test runs."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from fake_exchange import jwt_of
from imds_identity._core.claims import ANSWER_SECONDS, Challenge
from imds_identity._core.failure import Failure, Reason, Refused
from imds_identity._core.token import Token
from imds_identity._token_cache import cache as cache_module
from imds_identity._token_cache.cache import HIT_SECONDS, TRIES, TokenCache
from imds_identity._token_cache.entry import NEVER, CacheEntry
from imds_identity._token_cache.flight import LONGEST_FETCH, POLL_SECONDS, Flight, Interrupted
from support import (
    KEY,
    LIFETIME,
    FakeClock,
    FakeService,
    in_another_thread,
    new_token,
    run_after_fork_in_c,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from support import BackgroundQueue


@pytest.fixture
def service(clock: FakeClock) -> FakeService:
    return FakeService(clock)


@pytest.fixture
def entry(token_cache: TokenCache) -> CacheEntry:
    return token_cache.entry(KEY)


def test_second_request_returns_the_cached_token(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService
) -> None:
    assert token_cache.get(entry, service) is token_cache.get(entry, service)
    assert service.fetches == 1
    assert token_cache.entry(KEY) is entry


def test_expired_token_is_replaced_before_the_call_returns(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService, clock: FakeClock
) -> None:
    token_cache.get(entry, service)
    clock.seconds += LIFETIME
    assert token_cache.get(entry, service).value == "token-2"


def test_token_due_for_refresh_is_returned_and_refreshed_once_in_the_background(
    token_cache: TokenCache,
    entry: CacheEntry,
    service: FakeService,
    clock: FakeClock,
    background: BackgroundQueue,
) -> None:
    token_cache.get(entry, service)
    clock.seconds += LIFETIME / 2
    assert [token_cache.get(entry, service).value for _ in range(9)] == ["token-1"] * 9
    assert len(background.waiting) == 1
    background.run()
    assert token_cache.get(entry, service).value == "token-2"
    assert service.fetches == 2


def test_failed_refresh_raises_no_error_until_the_token_expires(
    token_cache: TokenCache,
    entry: CacheEntry,
    service: FakeService,
    clock: FakeClock,
    background: BackgroundQueue,
) -> None:
    token_cache.get(entry, service)
    end = clock.now() + LIFETIME
    service.error = Refused("down")
    clock.seconds += LIFETIME / 2
    while clock.now() + 10 < end:
        assert token_cache.get(entry, service).value == "token-1"
        background.run()
        clock.seconds += 10
    assert (
        LIFETIME / 2 / 300 <= service.fetches <= LIFETIME / 2 / 300 + 10
    )  # backed off to 5 minutes
    clock.seconds = end
    with pytest.raises(Refused, match="down"):
        token_cache.get(entry, service)


def test_failed_refresh_is_logged_without_the_token(
    token_cache: TokenCache,
    entry: CacheEntry,
    service: FakeService,
    clock: FakeClock,
    background: BackgroundQueue,
    caplog: pytest.LogCaptureFixture,
) -> None:
    token_cache.get(entry, service)
    clock.seconds += LIFETIME / 2
    service.error = Refused("down")
    token_cache.get(entry, service)
    background.run()
    [record] = caplog.records
    assert "valid for 720 more minutes" in record.message
    assert "next attempt is in 30 s: down" in record.message
    assert "token-1" not in record.message


def test_retry_after_delays_the_next_refresh(
    token_cache: TokenCache,
    entry: CacheEntry,
    service: FakeService,
    clock: FakeClock,
    background: BackgroundQueue,
) -> None:
    token_cache.get(entry, service)
    clock.seconds += LIFETIME / 2
    service.error = Refused("throttled", retry_after=3000)
    token_cache.get(entry, service)
    background.run()
    clock.seconds += 2999
    token_cache.get(entry, service)
    assert not background.waiting
    clock.seconds += 1
    token_cache.get(entry, service)
    assert background.waiting


def test_failure_is_cached_for_two_seconds(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService, clock: FakeClock
) -> None:
    service.error = Refused("down")
    for _ in range(5):
        with pytest.raises(Refused):
            token_cache.get(entry, service)
    assert service.fetches == 1
    clock.seconds += 2
    service.error = None
    assert token_cache.get(entry, service).value == "token-2"


def test_claims_bypass_and_replace_the_cached_token(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService
) -> None:
    token_cache.get(entry, service)
    assert token_cache.get(entry, service, claims="c").value == "token-2"
    # The same thread repeats these claims: the resource rejected the new token, too.
    assert token_cache.get(entry, service, claims="c").value == "token-3"
    assert token_cache.get(entry, service).value == "token-3"


def test_many_threads_with_the_same_claims_make_one_request(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService
) -> None:
    token_cache.get(entry, service)
    assert token_cache.get(entry, service, claims="c").value == "token-2"
    for token in run_in_threads(100, lambda: token_cache.get(entry, service, claims="c")):
        assert token.value == "token-2"
    assert service.fetches == 2


def test_consecutive_threads_with_the_same_claims_share_one_token(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService
) -> None:
    """A new thread can have the identifier of a thread that has ended."""
    token_cache.get(entry, service)
    results = [
        run_in_threads(1, lambda: token_cache.get(entry, service, claims="c"))[0].value
        for _ in range(20)
    ]
    assert results == ["token-2"] * 20


def test_token_fetched_for_claims_is_reused_for_a_limited_time(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService, clock: FakeClock
) -> None:
    token_cache.get(entry, service)
    token_cache.get(entry, service, claims="c")
    clock.seconds += ANSWER_SECONDS
    assert (
        run_in_threads(1, lambda: token_cache.get(entry, service, claims="c"))[0].value == "token-3"
    )


def test_due_token_that_answers_a_challenge_is_not_refreshed(
    token_cache: TokenCache, entry: CacheEntry, clock: FakeClock, background: BackgroundQueue
) -> None:
    """Its refresh without claims could return the refused token."""

    def fetch() -> Token:
        return new_token(clock, "for-claims", life=20)

    token_cache.get(entry, fetch, claims="c")
    clock.seconds += 12
    [token] = run_in_threads(1, lambda: token_cache.get(entry, fetch, claims="c"))
    assert token.value == "for-claims"
    assert clock.now() > token.refresh_at
    assert background.waiting == []


def test_token_that_another_process_fetched_for_the_same_claims_is_used(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService, clock: FakeClock
) -> None:
    token_cache.get(entry, service)
    clock.seconds += 1
    newer = service.token().replace(value="of-another-process")
    token_cache.adopt(entry, newer, Challenge("c", clock.now() + ANSWER_SECONDS))
    assert token_cache.get(entry, service, "c") is newer


def test_only_a_blocking_caller_needs_another_flight_than_one_on_its_own_event_loop(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService
) -> None:
    flight = token_cache.join_or_start(entry, service, needs=threading.get_ident())
    assert token_cache.join_or_start(entry, service) is flight
    assert token_cache.join_or_start(entry, service, blocks=True) is not flight


@pytest.mark.parametrize("reason", [Reason.REFUSED, Reason.LOCAL_RESOURCES])
def test_failed_challenge_is_not_logged_as_a_failed_refresh(
    token_cache: TokenCache,
    entry: CacheEntry,
    service: FakeService,
    caplog: pytest.LogCaptureFixture,
    reason: Reason,
) -> None:
    token_cache.get(entry, service)
    service.error = Refused("no token for these claims", reason=reason)
    with pytest.raises(Refused, match="no token for these claims"):
        token_cache.get(entry, service, claims="c")
    assert not caplog.records
    assert token_cache.get(entry, service).value == "token-1"


def test_token_that_another_process_fetched_without_the_claims_is_not_used(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService, clock: FakeClock
) -> None:
    token_cache.get(entry, service)
    clock.seconds += 1
    token_cache.adopt(entry, service.token().replace(value="of-another-process"))
    assert token_cache.get(entry, service, "opaque claims").value == "token-2"


def test_token_issued_after_the_time_in_the_claims_is_used(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService
) -> None:
    token_cache.get(entry, service)
    assert entry.token is not None
    entry.token = entry.token.replace(value=jwt_of(nbf=1001))
    claims = '{"access_token": {"nbf": {"essential": true, "value": "%d"}}}'
    assert token_cache.get(entry, service, claims % 1000) is entry.token
    assert token_cache.get(entry, service, claims % 1001).value == "token-2"


def test_token_issued_after_the_time_in_the_claims_is_replaced_if_it_is_rejected(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService
) -> None:
    claims = '{"access_token": {"nbf": {"value": "1000"}}}'
    token_cache.get(entry, lambda: service().replace(value=jwt_of(nbf=1001)))
    assert token_cache.get(entry, service, claims) is entry.token
    # The same thread repeats these claims.
    assert token_cache.get(entry, service, claims).value == "token-2"


def test_token_issued_before_the_time_in_the_claims_is_not_used(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService, clock: FakeClock
) -> None:
    token_cache.get(entry, service)
    clock.seconds += 1
    token_cache.adopt(entry, service.token().replace(value=jwt_of(nbf=1000)))
    claims = '{"access_token": {"nbf": {"value": "1001"}}}'
    assert token_cache.get(entry, service, claims).value == "token-2"


def test_token_requested_before_the_claims_were_answered_does_not_satisfy_them(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService, clock: FakeClock
) -> None:
    """Its response may arrive late, and it may expire later than the token for the claims."""
    revoked = new_token(clock, "revoked")
    clock.seconds += 1
    claims_token = new_token(clock, "answer").replace(expires_at=clock.now() + 6)
    assert token_cache.get(entry, lambda: claims_token, claims="c") is claims_token
    clock.seconds += 6
    assert token_cache.get(entry, lambda: revoked) is revoked
    assert [t.value for t in run_in_threads(1, lambda: token_cache.get(entry, service, "c"))] == [
        "token-1"
    ]


def test_own_token_does_not_satisfy_a_challenge_that_another_process_answered(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService, clock: FakeClock
) -> None:
    claims_token = new_token(clock, "answer")
    clock.seconds += 1
    token_cache.get(entry, service)
    token_cache.adopt(entry, claims_token, Challenge("c", clock.now() + ANSWER_SECONDS))
    assert entry.token is not claims_token
    assert token_cache.get(entry, lambda: claims_token, claims="c") is claims_token


@pytest.mark.parametrize(
    ("second_claims", "first_claims", "second_wins"),
    [
        ({"iat": 9}, {"iat": 8}, True),
        ({"iat": 8}, {"nbf": 9}, False),
        ({"iat": 8}, {"iat": 8}, True),
        ({}, {"iat": 9}, True),
    ],
)
def test_later_issued_token_wins_and_the_later_requested_one_breaks_ties(
    token_cache: TokenCache, entry: CacheEntry, clock: FakeClock,
    second_claims: dict[str, int], first_claims: dict[str, int], second_wins: bool,
) -> None:  # fmt: skip
    first = new_token(clock, jwt_of(**first_claims))
    token_cache.get(entry, lambda: first)
    clock.seconds += 1
    token_cache.adopt(entry, second := new_token(clock, jwt_of(**second_claims)))
    assert entry.token is (second if second_wins else first)
    token_cache.adopt(entry, first)
    assert entry.token is (second if second_wins else first)


def test_failed_claims_request_is_cached_for_two_seconds_and_does_not_affect_other_requests(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService, clock: FakeClock
) -> None:
    token_cache.get(entry, service)
    service.error = Refused("down")
    for error in run_in_threads(60, lambda: token_cache.get(entry, service, claims="c")):
        assert isinstance(error, Refused)
    assert service.fetches <= 3  # threads that start before the first failure share its flight
    assert token_cache.get(entry, service).value == "token-1"
    clock.seconds += 2
    service.error = None
    assert token_cache.get(entry, service, claims="c").value.startswith("token-")


def test_request_without_claims_does_not_wait_for_one_with_claims(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService, background: BackgroundQueue
) -> None:
    first = token_cache.get(entry, service)
    assert isinstance(token_cache.join_or_start(entry, service, "c"), Flight)
    assert token_cache.get(entry, service) is first
    background.run()
    assert token_cache.get(entry, service).value == "token-2"


def test_refresh_in_progress_does_not_replace_the_token_for_claims(
    token_cache: TokenCache,
    entry: CacheEntry,
    service: FakeService,
    clock: FakeClock,
    background: BackgroundQueue,
) -> None:
    token_cache.get(entry, service)
    clock.seconds += LIFETIME / 2
    token_cache.get(entry, service)
    assert token_cache.get(entry, service, claims="c").value == "token-2"
    background.run()
    assert service.fetches == 3
    assert token_cache.get(entry, service).value == "token-2"


def test_clear_also_discards_the_result_of_a_fetch_in_progress(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService
) -> None:
    def fetch() -> Token:
        token_cache.clear()
        return service()

    assert token_cache.get(entry, fetch).value == "token-1"
    assert entry.token is None
    assert entry.hit_until == NEVER
    assert token_cache.get(entry, service).value == "token-2"


def run_in_threads(count: int, work: Callable[[], Any]) -> list[Any]:
    """Run ``work`` in ``count`` threads at the same time; return the results and exceptions."""
    barrier = threading.Barrier(count)
    results: list[Any] = []

    def run() -> None:
        barrier.wait()
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - the test checks it
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def fetch_after_waiters(
    service: FakeService, waiters: int, entry: CacheEntry
) -> Callable[[], Token]:
    """Return a fetch function that waits until ``waiters`` threads wait for it."""

    def fetch() -> Token:
        flight = entry.flights[None]
        while len(flight._callbacks) < waiters:
            pass
        return service()

    return fetch


def test_64_threads_make_one_request(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService
) -> None:
    fetch = fetch_after_waiters(service, 63, entry)
    results = run_in_threads(64, lambda: token_cache.get(entry, fetch))
    assert service.fetches == 1
    assert {token.value for token in results} == {"token-1"}


def test_each_waiting_thread_gets_its_own_copy_of_the_error(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService
) -> None:
    service.error = Refused("down", "wait", status=503)
    fetch = fetch_after_waiters(service, 15, entry)
    results = run_in_threads(16, lambda: token_cache.get(entry, fetch))
    assert service.fetches == 1
    assert len({id(error) for error in results}) == 16
    assert all(isinstance(e, Refused) and str(e) == "down. wait" for e in results)
    assert all(e.status == 503 and e.__context__ is None for e in results)


def test_waiting_threads_fetch_again_if_the_fetch_is_interrupted(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService
) -> None:
    attempts = iter([KeyboardInterrupt(), None, None])
    waiting = fetch_after_waiters(service, 3, entry)

    def fetch() -> Token:
        error = next(attempts)
        if error:
            waiting()
            raise error
        return service()

    results = run_in_threads(4, lambda: token_cache.get(entry, fetch))
    assert sum(isinstance(r, KeyboardInterrupt) for r in results) == 1
    assert sum(isinstance(r, Token) for r in results) == 3


def test_repeatedly_interrupted_fetch_fails(token_cache: TokenCache, entry: CacheEntry) -> None:
    def fetch() -> Token:
        raise Interrupted

    with pytest.raises(Refused, match=f"interrupted {TRIES} times") as caught:
        token_cache.get(entry, fetch)
    assert caught.value.reason is Reason.INTERRUPTED


def test_fetch_that_requests_its_own_token_fails(
    token_cache: TokenCache, entry: CacheEntry
) -> None:
    def fetch() -> Token:
        return token_cache.get(entry, fetch)

    with pytest.raises(Refused, match="requested the very token that it is fetching") as caught:
        token_cache.get(entry, fetch)
    assert caught.value.reason is Reason.RECURSIVE


def test_two_fetches_that_request_each_other_s_token_fail(token_cache: TokenCache) -> None:
    one, other = token_cache.entry(KEY), token_cache.entry(KEY._replace(resource="other"))

    def first() -> Token:
        return token_cache.get(other, second)

    def second() -> Token:
        return token_cache.get(one, first)

    with pytest.raises(Refused, match="requested the very token that it is fetching"):
        token_cache.get(one, first)


def test_unexpected_exception_is_wrapped_in_a_failure(
    token_cache: TokenCache, entry: CacheEntry
) -> None:
    def fetch() -> Token:
        raise ZeroDivisionError("division of eyJhbGciOiJSUzI1NiJ9.eyJvaWQiOiIxIn0.c2 by zero")

    for _ in range(2):
        expected = "an unexpected error ended the fetch: ZeroDivisionError: division of <hidden> by"
        with pytest.raises(Refused, match=expected):
            token_cache.get(entry, fetch)


def test_join_or_start_returns_the_shared_flight(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService, background: BackgroundQueue
) -> None:
    first, second = (
        token_cache.join_or_start(entry, service),
        token_cache.join_or_start(entry, service),
    )
    assert isinstance(first, Flight)
    assert first is second
    background.run()
    assert first.outcome is token_cache.join_or_start(entry, service)


def test_valid_token_is_returned_if_no_thread_can_be_started(
    clock: FakeClock, service: FakeService
) -> None:
    def no_thread(run: Callable[[], object], *, blocks: bool) -> None:
        raise RuntimeError("can't start new thread")

    token_cache = TokenCache(clock, lambda: 0.5, no_thread)
    entry = token_cache.entry(KEY)
    token_cache.get(entry, service)
    clock.seconds += LIFETIME / 2
    assert token_cache.get(entry, service).value == "token-1"
    flight = token_cache.join_or_start(token_cache.entry(KEY._replace(resource="other")), service)
    assert isinstance(flight, Flight)
    with pytest.raises(Refused, match="can't start new thread") as caught:
        flight.result(clock.now())
    assert caught.value.reason is Reason.LOCAL_RESOURCES


def test_waiter_starts_a_registered_flight_that_was_never_started(
    clock: FakeClock, service: FakeService
) -> None:
    """A signal handler can raise after a caller registers a flight and before it starts it."""
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


def test_hanging_flight_times_out_and_the_next_caller_replaces_it(
    token_cache: TokenCache,
    entry: CacheEntry,
    service: FakeService,
    clock: FakeClock,
    background: BackgroundQueue,
) -> None:
    flights = token_cache.flights(entry, service, None)
    flight = next(flights)
    flight.start()
    with pytest.raises(Refused, match="did not finish within 180 s") as caught:
        for _ in range(round(2 * LONGEST_FETCH / POLL_SECONDS)):
            assert next(flights) is flight
            clock.seconds += POLL_SECONDS
    assert caught.value.reason is Reason.TIMEOUT
    assert clock.now() <= flight.since + LONGEST_FETCH + POLL_SECONDS
    background.waiting.clear()
    assert token_cache.get(entry, service).value == "token-1"


@pytest.mark.parametrize("suspended_seconds", [LONGEST_FETCH, 10 * LONGEST_FETCH])
def test_waiter_in_a_suspended_process_starts_a_new_flight(
    token_cache: TokenCache,
    entry: CacheEntry,
    service: FakeService,
    clock: FakeClock,
    suspended_seconds: float,
) -> None:
    flights = token_cache.flights(entry, service, None)
    flight = next(flights)
    clock.seconds += suspended_seconds
    other = next(flights)
    assert other is not flight
    other.complete(service())
    with pytest.raises(StopIteration) as ended:
        next(flights)
    assert ended.value.value.value == "token-1"


def test_token_that_expires_before_the_waiter_receives_it_is_fetched_again(
    token_cache: TokenCache,
    entry: CacheEntry,
    service: FakeService,
    clock: FakeClock,
    background: BackgroundQueue,
) -> None:
    flights = token_cache.flights(entry, service, None)
    next(flights)
    background.run()
    clock.seconds += LIFETIME  # the process was suspended here
    next(flights)
    background.run()
    with pytest.raises(StopIteration) as ended:
        next(flights)
    assert ended.value.value.value == "token-2"


def test_waiter_that_times_out_removes_its_callback(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService
) -> None:
    flight = token_cache.join_or_start(entry, service)
    assert isinstance(flight, Flight)
    for _ in range(3):
        flight.wait(0.001)
    assert flight._callbacks == []


def test_fetch_does_not_replace_a_newer_token_of_another_process(
    token_cache: TokenCache,
    entry: CacheEntry,
    service: FakeService,
    clock: FakeClock,
    background: BackgroundQueue,
) -> None:
    """The newer token may satisfy a claims challenge, and the fetched one may be revoked."""
    token_cache.get(entry, service)
    clock.seconds += LIFETIME / 2
    token_cache.get(entry, service)
    revoked = service.token()
    clock.seconds += 1
    newer = service.token().replace(value="of-another-process")
    token_cache.adopt(entry, newer)
    fetched: list[Token] = []

    def fetch() -> Token:
        fetched.append(revoked)
        return revoked

    entry.flights[None].fetch = fetch
    background.run()
    assert fetched
    assert token_cache.get(entry, service) is newer


def test_thread_does_not_wait_for_a_flight_that_needs_its_event_loop(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService
) -> None:
    flight = token_cache.join_or_start(entry, service, needs=threading.get_ident())
    assert isinstance(flight, Flight)
    assert token_cache.get(entry, service).value == "token-1"
    assert flight.outcome is None


def test_log_handler_can_request_the_token(
    token_cache: TokenCache,
    entry: CacheEntry,
    service: FakeService,
    clock: FakeClock,
    background: BackgroundQueue,
) -> None:
    tokens: list[Token] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # Another thread shows that no lock is held.
            results = run_in_threads(1, lambda: token_cache.get(entry, service))
            tokens.extend([token_cache.get(entry, service), *results])

    token_cache.get(entry, service)
    clock.seconds += LIFETIME / 2
    service.error = Refused("down")
    token_cache.get(entry, service)
    logger, handler = logging.getLogger("imds_identity"), Handler()
    logger.addHandler(handler)
    try:
        background.run()
    finally:
        logger.removeHandler(handler)
    assert [token.value for token in tokens] == ["token-1", "token-1"]


def test_expired_token_is_never_a_cache_hit(
    token_cache: TokenCache,
    entry: CacheEntry,
    service: FakeService,
    clock: FakeClock,
    background: BackgroundQueue,
) -> None:
    token_cache.get(entry, service)
    clock.seconds += LIFETIME - 30
    service.error = Refused("throttled", retry_after=300)
    token_cache.get(entry, service)
    background.run()
    token = token_cache.get(entry, service)
    assert token.refresh_at <= token.expires_at - 15  # retried before expiry
    token_cache.publish(entry, token, lambda token: (token.value, "info"))
    assert entry.hit_until <= clock.tick() + token.expires_at - clock.now()
    clock.seconds = token.expires_at - 0.25
    token_cache.publish(entry, token, lambda token: (token.value, "info"))
    assert entry.hit_until <= clock.tick() + 0.25
    late = entry.token = token.replace(refresh_at=token.expires_at + 60)  # an invalid refresh time
    token_cache.publish(entry, late, lambda token: (token.value, "info"))
    assert entry.hit_until <= clock.tick() + 0.25


def test_token_that_expires_while_the_process_is_suspended_is_fetched_again(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService, clock: FakeClock
) -> None:
    def fetch_slowly() -> Token:
        token = service()
        clock.seconds += LIFETIME if service.fetches == 1 else 0
        return token

    assert token_cache.get(entry, fetch_slowly).value == "token-2"


def test_token_expired_by_the_wall_clock_is_not_returned(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService, clock: FakeClock
) -> None:
    """While a virtual machine is suspended, only the wall clock advances."""
    token_cache.get(entry, service)
    clock.skew = LIFETIME - 1
    assert token_cache.get(entry, service).value == "token-1"
    clock.skew = LIFETIME
    assert token_cache.get(entry, service).value == "token-2"
    clock.skew = 0.0  # if the wall clock was wrong, it costs only one request
    assert token_cache.get(entry, service).value == "token-2"


def test_token_expired_by_the_wall_clock_is_no_cache_hit(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService, clock: FakeClock
) -> None:
    token_cache.publish(entry, token_cache.get(entry, service), lambda token: (token, token))
    assert entry.hit_until > clock.tick()
    clock.skew = LIFETIME
    service.error = Refused("down")
    with pytest.raises(Refused, match="down"):
        token_cache.get(entry, service)
    assert entry.hit_until < clock.tick()


@pytest.mark.parametrize("ahead", [3.0, 300.0, 3600.0, 40 * 365 * 86400.0])
def test_expires_on_is_corrected_after_a_clock_that_was_ahead(
    token_cache: TokenCache,
    entry: CacheEntry,
    service: FakeService,
    clock: FakeClock,
    ahead: float,
) -> None:
    def published() -> tuple[Any, Any]:
        token = token_cache.get(entry, service)
        return token_cache.publish(entry, token, lambda t: (t.expires_on, t.refresh_on))

    clock.skew = ahead
    expires_on = int(clock.wall() + LIFETIME)
    assert published() == (expires_on, expires_on - LIFETIME / 2)
    clock.seconds += 100
    clock.skew = 0.0
    expires_on -= int(ahead)
    assert published() == (expires_on, expires_on - LIFETIME / 2)
    assert entry.access_token == expires_on
    clock.seconds += LIFETIME / 2 - 101
    assert published() == (expires_on, expires_on - LIFETIME / 2)
    assert service.fetches == 1


@pytest.mark.parametrize("change", [-1.5, 1.5, 3600.0])
def test_expires_on_stays_if_the_clock_was_behind_or_nearly_correct(
    token_cache: TokenCache,
    entry: CacheEntry,
    service: FakeService,
    clock: FakeClock,
    change: float,
) -> None:
    token = token_cache.get(entry, service)
    clock.skew = change
    assert token_cache.get(entry, service) is token


def test_expired_token_of_another_process_is_not_adopted(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService, clock: FakeClock
) -> None:
    own_token = token_cache.get(entry, service)
    clock.seconds += 1
    token_cache.adopt(entry, service.token().replace(expires_at=clock.now()))
    assert token_cache.get(entry, service) is own_token


def test_next_caller_starts_a_refresh_that_was_never_started(
    clock: FakeClock, service: FakeService
) -> None:
    """It returns the cached token without waiting."""
    started: list[Callable[[], object]] = []

    def start(run: Callable[[], object], *, blocks: bool) -> None:
        if blocks:
            run()
        elif not started:
            started.append(run)
            raise KeyboardInterrupt
        else:
            started.append(run)

    token_cache = TokenCache(clock, lambda: 0.5, start)
    entry = token_cache.entry(KEY)
    token_cache.get(entry, service)
    clock.seconds += LIFETIME / 2
    with pytest.raises(KeyboardInterrupt):
        token_cache.get(entry, service)
    for seconds, count in ((0.0, 1), (POLL_SECONDS, 2)):
        clock.seconds += seconds
        assert token_cache.get(entry, service).value == "token-1"
        assert len(started) == count


def test_child_process_does_not_wait_for_a_thread_of_its_parent(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService, background: BackgroundQueue
) -> None:
    token_cache.join_or_start(entry, service)
    background.waiting.clear()  # the child does not have the thread that would run it
    entry.leased.add(KEY)  # by the same thread
    token_cache.checks.add(KEY, print)
    background.waiting.clear()
    cache_module._reset()
    checked: list[bool] = []
    token_cache.checks.add(KEY, lambda: checked.append(True))
    background.run()
    assert checked == [True]
    assert token_cache.get(entry, service).value == "token-1"
    assert not entry.leased


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX processes")
def test_child_forked_in_c_waits_neither_for_a_fetch_nor_for_a_lock_of_its_parent(
    clock: FakeClock, service: FakeService
) -> None:
    token_cache = TokenCache(clock, lambda: 0.5)
    entry = token_cache.entry(KEY)

    def fetch_in_child() -> None:
        assert token_cache.get(entry, service).value == "token-1"

    def fetch(wait: Callable[[], object]) -> None:
        def waiting_service() -> Token:
            wait()
            return service()

        token_cache.get(entry, waiting_service)

    with in_another_thread(fetch), in_another_thread(token_cache._lock.run):
        run_after_fork_in_c(fetch_in_child)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX processes")
def test_waiter_that_a_fork_has_copied_starts_a_new_flight(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService, background: BackgroundQueue
) -> None:
    """A greenlet that waits is copied, and so is a thread whose signal handler forks."""
    flights = token_cache.flights(entry, service, None)
    inherited = next(flights)

    def wait_in_child() -> None:
        assert next(flights) is not inherited
        background.waiting.pop(0)()  # a greenlet of the parent fetches, too: not for this process
        assert entry.token is None
        background.run()
        with pytest.raises(StopIteration) as ended:
            next(flights)
        assert ended.value.value.value == "token-2"

    run_after_fork_in_c(wait_in_child)


def test_waiters_get_a_token_that_could_not_be_stored(
    token_cache: TokenCache, background: BackgroundQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without memory, no part of the cache must make them wait until the longest fetch is over."""

    def run_out_of_memory(*_: object) -> None:
        raise MemoryError

    entry, tokens = token_cache.entry(KEY), [new_token(token_cache.clock) for _ in range(2)]
    fetched = iter(tokens)
    callers = [token_cache.flights(entry, lambda: next(fetched), None) for _ in range(2)]
    next(callers[0])
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(CacheEntry, "store_result", run_out_of_memory)
        background.run()
    next(callers[1])
    background.run()
    for caller, token in zip(callers, tokens, strict=True):
        with pytest.raises(StopIteration) as done:
            next(caller)
        assert done.value.value is token


@pytest.mark.parametrize("fails", [False, True])
def test_signal_handler_that_interrupts_its_thread_inside_a_lock_fetches_itself(
    clock: FakeClock, *, fails: bool
) -> None:
    """The threads that it would wait for need the lock. A finalizer can be in the same position."""
    threads: list[Callable[[], object]] = []
    fetched: list[Token] = []

    def start(run: Callable[[], object], *, blocks: bool) -> None:
        threads.append(run)

    token_cache = TokenCache(clock, lambda: 0.5, start)
    entry = token_cache.entry(KEY)

    def fetch() -> Token:
        if fails:
            raise Refused("denied")
        fetched.append(new_token(clock))
        return fetched[-1]

    def handle_signal() -> Token:
        return token_cache.get(entry, fetch)

    if fails:
        with pytest.raises(Refused, match="denied"):
            token_cache._lock.run(handle_signal)
        return
    assert token_cache._lock.run(handle_signal) is fetched[0]
    next(token_cache.flights(entry, fetch, None))
    for run in threads:
        run()
    assert fetched[1:] == [entry.token]


@pytest.mark.parametrize("error", [ValueError("a transport's"), KeyboardInterrupt()])
def test_error_inside_a_lock_does_not_leave_other_callers_waiting(
    clock: FakeClock, error: BaseException
) -> None:
    token_cache = TokenCache(clock, lambda: 0.5, lambda _, *, blocks: None)
    entry = token_cache.entry(KEY)

    def fetch() -> Token:
        raise error

    flight = next(token_cache.flights(entry, fetch, None))
    expected = Refused if isinstance(error, Exception) else KeyboardInterrupt
    with pytest.raises(expected):
        token_cache._lock.run(token_cache.get, entry, fetch)
    assert flight.outcome is not None


def test_interrupted_is_not_a_failure() -> None:
    assert not issubclass(Interrupted, Failure)


def test_published_token_is_rechecked_within_a_second(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService, clock: FakeClock
) -> None:
    converted: list[Token] = []

    def convert(token: Token) -> tuple[str, str]:
        converted.append(token)
        return f"form-{len(converted)}", "info"

    token = token_cache.get(entry, service)
    token_cache.publish(entry, token, convert)
    assert entry.hit_until == clock.tick() + HIT_SECONDS
    clock.seconds += LIFETIME / 2 - 0.5
    token_cache.publish(entry, token, convert)
    assert entry.hit_until == clock.tick() + 0.5
    assert (entry.access_token, len(converted)) == ("form-1", 1)


def test_replaced_token_is_returned_but_not_published(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService
) -> None:
    token = token_cache.get(entry, service)
    token_cache.clear()
    assert token_cache.publish(entry, token, lambda token: (token.value, "info")) == (
        "token-1",
        "info",
    )
    assert entry.hit_until == NEVER
