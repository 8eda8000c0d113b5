"""The pool of threads that fetch tokens."""

from __future__ import annotations

import threading
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._core.failure import Reason, Refused
from imds_identity._platform import threads as platform_threads
from imds_identity._platform.clock import SYSTEM_CLOCK
from imds_identity._platform.threads import run_in_thread
from imds_identity._token_cache import cache as cache_module
from imds_identity._token_cache import pool as pool_module
from imds_identity._token_cache.cache import TokenCache
from imds_identity._token_cache.flight import LONGEST_FETCH, POLL_SECONDS, Flight
from imds_identity._token_cache.pool import MOST_WORKERS, STALL_SECONDS
from support import KEY, LIFETIME, FakeClock, new_token, no_jitter, run_concurrently

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_identity._core.token import Token
    from imds_identity._token_cache.entry import CacheEntry


class Threads:
    """Keeps what would run in new threads, for the test to run."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []
        self.error: Exception | None = None

    def __call__(self, run: Callable[[], object], *, blocks: bool) -> None:
        if self.error:
            raise self.error
        self.waiting.append(run)

    def run(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


class Program:
    """A program that requests tokens for numbered resources."""

    def __init__(self, token_cache: TokenCache) -> None:
        self.token_cache = token_cache
        self.fetched: list[int] = []

    def entry(self, number: int, endpoint: str = KEY.endpoint) -> CacheEntry:
        return self.token_cache.entry(KEY._replace(endpoint=endpoint, resource=str(number)))

    def fetch(self, number: int) -> Token:
        self.fetched.append(number)
        return new_token(self.token_cache.clock)

    def request(self, number: int, **options: Any) -> Token | Flight:
        return self.token_cache.join_or_start(
            self.entry(number, **options), partial(self.fetch, number)
        )

    def wait(self, number: int, *queue_seconds: float) -> Any:
        fetch = partial(self.fetch, number)
        return self.token_cache.flights(self.entry(number), fetch, None, None, *queue_seconds)


@pytest.fixture
def threads() -> Threads:
    return Threads()


@pytest.fixture
def program(clock: FakeClock, threads: Threads) -> Program:
    return Program(TokenCache(clock, no_jitter, threads))


def test_a_few_threads_fetch_everything_in_order(program: Program, threads: Threads) -> None:
    for number in range(300):
        program.request(number)
    assert len(threads.waiting) == MOST_WORKERS
    threads.run()
    assert program.fetched == list(range(300))
    program.request(300)
    assert len(threads.waiting) == 1


def test_thread_is_about_to_end_only_after_its_last_fetch(
    program: Program, threads: Threads
) -> None:
    """Otherwise a fork would wait for a thread that has begun another fetch."""
    ending: list[bool] = []

    def fetch() -> Token:
        ending.append(threading.get_ident() in platform_threads._ending)
        return new_token(program.token_cache.clock)

    for number in range(MOST_WORKERS + 2):
        program.token_cache.join_or_start(program.entry(number), fetch)
    run_in_thread(threads.waiting[0], 10)
    assert ending == [False] * (MOST_WORKERS + 2)


def test_code_that_runs_in_a_fetch_starts_a_queued_one_that_it_needs(
    program: Program, threads: Threads
) -> None:
    """It must not wait for the queue, in which its own fetch occupies a thread."""
    started: list[int] = []

    def fetch() -> Token:
        before = len(threads.waiting)
        assert isinstance(program.request(MOST_WORKERS), Flight)
        started.append(len(threads.waiting) - before)
        return new_token(program.token_cache.clock)

    program.token_cache.join_or_start(program.entry(0), fetch)
    for number in range(1, MOST_WORKERS + 1):
        program.request(number)
    assert len(threads.waiting) == MOST_WORKERS
    threads.waiting.pop(0)()
    assert started == [1]


def test_no_more_than_a_few_fetches_run_at_once() -> None:
    running, most, can_end = set[int](), 0, threading.Event()
    program = Program(TokenCache(SYSTEM_CLOCK, no_jitter))

    def fetch(number: int) -> Token:
        nonlocal most
        running.add(number)
        most = max(most, len(running))
        if len(running) == MOST_WORKERS:
            can_end.set()
        assert can_end.wait(30)
        running.discard(number)
        return new_token(SYSTEM_CLOCK)

    def get(number: int) -> None:
        assert program.token_cache.get(program.entry(number), partial(fetch, number))

    run_concurrently(*(partial(get, number) for number in range(100)))
    assert most == MOST_WORKERS


def test_another_endpoint_is_not_delayed(program: Program, threads: Threads) -> None:
    for number in range(20):
        program.request(number)
    program.request(20, endpoint="http://another")
    threads.waiting[MOST_WORKERS]()
    assert program.fetched == [20]


def test_refresh_starts_a_thread(program: Program, threads: Threads, clock: FakeClock) -> None:
    program.request(0)
    threads.run()
    clock.seconds += LIFETIME / 2
    program.request(0)
    threads.run()
    assert program.fetched == [0, 0]


def test_all_identities_share_the_threads_of_an_endpoint(
    program: Program, threads: Threads
) -> None:
    for number in range(MOST_WORKERS + 4):
        entry = program.token_cache.entry(KEY._replace(selector="object_id", identity=str(number)))
        program.token_cache.join_or_start(entry, partial(program.fetch, number))
        program.request(number)
    assert len(threads.waiting) == MOST_WORKERS


def test_awaited_fetches_precede_refreshes(
    program: Program, threads: Threads, clock: FakeClock
) -> None:
    for number in (1, 2):
        program.request(number)
    threads.run()
    clock.seconds += LIFETIME / 2
    for number in (1, 2):
        program.request(number)
    callers = [program.wait(number) for number in (3, 4)]
    assert all(isinstance(next(each), Flight) for each in callers)
    program.entry(2).token = None  # it expires, and a caller waits
    clock.seconds += POLL_SECONDS
    program.request(2)
    threads.run()
    assert program.fetched[2:] == [3, 4, 2, 1]


def test_a_fetch_may_wait_for_another_token() -> None:
    """A hook or a transport may use another credential, in all threads of the pool at once."""
    program, barrier = Program(TokenCache(SYSTEM_CLOCK, no_jitter)), threading.Barrier(MOST_WORKERS)

    def fetch(number: int) -> Token:
        barrier.wait(30)
        inner = number + 1000
        return program.token_cache.get(program.entry(inner), partial(program.fetch, inner))

    def get(number: int) -> None:
        assert program.token_cache.get(program.entry(number), partial(fetch, number))

    run_concurrently(*(partial(get, number) for number in range(MOST_WORKERS)))


def test_a_fetch_may_wait_for_one_that_is_queued(
    program: Program, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(number: int) -> Token:
        found = program.request(20)
        assert isinstance(found, Flight)
        threads.waiting.pop()()
        token = found.result(program.token_cache.clock.now())
        assert token is not None
        return token

    monkeypatch.setattr(program, "fetch", fetch)
    for number in range(20):
        program.request(number)
    monkeypatch.setattr(program, "fetch", partial(Program.fetch, program))
    program.request(20)
    threads.waiting[0]()
    assert program.fetched == [20]


def test_a_thread_inside_a_fetch_may_wait_for_another_token(
    program: Program, threads: Threads, clock: FakeClock
) -> None:
    """Only its wait shows that it has a fetch of its own: the queue does not move."""
    for number in range(MOST_WORKERS):
        program.request(number)
    flights = program.wait(20)
    next(flights)
    assert len(threads.waiting) == MOST_WORKERS
    for _ in range(round(STALL_SECONDS / POLL_SECONDS)):
        clock.seconds += POLL_SECONDS
        next(flights)
    assert len(threads.waiting) == MOST_WORKERS + 1
    clock.seconds += POLL_SECONDS
    next(flights)
    assert len(threads.waiting) == MOST_WORKERS + 1


def test_a_hook_that_hangs_does_not_occupy_a_thread_of_the_pool() -> None:
    program, can_end = Program(TokenCache(SYSTEM_CLOCK, no_jitter)), threading.Event()

    def hang(_result: object) -> None:
        assert can_end.wait(30)

    def get(number: int) -> Token:
        fetch = partial(program.fetch, number)
        return program.token_cache.get(program.entry(number), fetch, on_result=hang)

    try:
        for number in range(2 * MOST_WORKERS):
            assert get(number)
    finally:
        can_end.set()


def test_fetches_that_need_an_event_loop_do_not_delay_others(
    program: Program, threads: Threads
) -> None:
    """The loop may be stopped, or blocked by a thread that waits for one of the others."""
    for number in range(20):
        fetch = partial(program.fetch, number)
        program.token_cache.join_or_start(program.entry(number), fetch, needs=1)
    program.request(20)
    assert len(threads.waiting) == MOST_WORKERS + 1
    threads.waiting[-1]()
    assert program.fetched == [20]


NO_THREAD = [RuntimeError("can't start new thread"), MemoryError()]


@pytest.mark.parametrize("error", NO_THREAD, ids=repr)
def test_fetches_wait_for_a_thread_if_no_more_can_be_started(
    program: Program, threads: Threads, error: Exception
) -> None:
    program.request(0)
    threads.error = error
    flight = program.request(1)
    assert isinstance(flight, Flight)
    assert flight.outcome is None
    threads.run()
    assert program.fetched == [0, 1]


@pytest.mark.parametrize("error", NO_THREAD, ids=repr)
def test_caller_fetches_in_its_own_thread_if_no_more_can_be_started(
    program: Program, threads: Threads, error: Exception
) -> None:
    """The threads that are running may hang."""
    program.request(0)
    threads.error = error
    assert program.token_cache.get(program.entry(1), partial(program.fetch, 1))
    assert program.fetched == [1]


def in_another_thread(call: Callable[..., object], *arguments: object) -> None:
    """Call without the context of the fetch that is running in this thread."""
    Context().run(call, *arguments)


def test_thread_counts_again_when_it_fetches_again(
    program: Program, threads: Threads, clock: FakeClock
) -> None:
    counts: list[int] = []

    def fetch_and_request(number: int) -> Token:
        clock.seconds += STALL_SECONDS
        return Program.fetch(program, number)

    def fetch_last(number: int) -> Token:
        in_another_thread(program.request, 20)
        counts.append(len(threads.waiting))
        return Program.fetch(program, number)

    fetches = [partial(fetch_and_request, number) for number in range(MOST_WORKERS)]
    callers = [
        program.token_cache.flights(program.entry(number), fetch, None)
        for number, fetch in enumerate([*fetches, partial(fetch_last, 10)])
    ]
    assert all(isinstance(next(each), Flight) for each in callers)
    threads.waiting[0]()
    assert counts == [MOST_WORKERS]


def test_thread_ends_after_a_hook_if_another_one_has_replaced_it(
    program: Program, threads: Threads
) -> None:
    counts: list[int] = []

    def hook(_result: object) -> None:
        in_another_thread(program.request, 20)
        counts.append(len(threads.waiting))

    for number in range(MOST_WORKERS):
        program.token_cache.join_or_start(
            program.entry(number), partial(program.fetch, number), on_result=hook
        )
    threads.waiting[0]()
    assert counts == [MOST_WORKERS + 1]
    assert program.fetched == [0]
    threads.run()
    assert sorted(program.fetched) == [*range(MOST_WORKERS), 20]


def test_fetch_that_ends_its_thread_leaves_the_others_to_another_thread(
    program: Program, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end_thread(number: int) -> Token:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(program, "fetch", end_thread)
        for number in range(MOST_WORKERS):
            program.request(number)
    flights = program.wait(20)
    next(flights)
    for run in [threads.waiting.pop() for _ in range(MOST_WORKERS)]:
        with pytest.raises(SystemExit):
            run()
    next(flights)
    threads.run()
    assert program.fetched == [20]


def test_fetch_whose_thread_ends_too_early_is_started_again(
    program: Program, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out_of_memory(*, ending: bool) -> None:
        raise MemoryError

    flights = [program.wait(number) for number in range(MOST_WORKERS)]
    for each in flights:
        next(each)
    with monkeypatch.context() as patch:
        patch.setattr(pool_module, "mark_thread", run_out_of_memory)
        for run in [threads.waiting.pop() for _ in range(MOST_WORKERS)]:
            with pytest.raises(MemoryError):
                run()
    for each in flights:
        next(each)
    threads.run()
    assert program.fetched == list(range(MOST_WORKERS))


def test_waiter_that_gives_up_on_a_queued_fetch_says_so(
    program: Program, threads: Threads, clock: FakeClock
) -> None:
    flights = program.wait(0)
    next(flights)
    with pytest.raises(Refused, match="did not start within 180 s"):
        for _ in range(round(LONGEST_FETCH / POLL_SECONDS) + 1):
            clock.seconds += POLL_SECONDS
            next(flights)
    program.request(0)
    threads.run()
    assert program.fetched == [0]


def test_caller_s_timeout_limits_the_wait_in_the_queue(program: Program, threads: Threads) -> None:
    flights = program.wait(0, 5.0)
    with pytest.raises(Refused, match="did not start within 5 s") as caught:
        for polls in range(20):  # noqa: B007 - see below
            next(flights)
    assert polls == 5 / POLL_SECONDS
    assert caught.value.reason is Reason.TIMEOUT
    flights = program.wait(0, 5.0)
    next(flights)
    threads.run()
    with pytest.raises(StopIteration):
        next(flights)


@pytest.mark.parametrize("waits_until", ["its end", "a timeout"])
def test_queued_fetch_that_no_caller_waits_for_is_not_run(
    program: Program, threads: Threads, clock: FakeClock, waits_until: str
) -> None:
    """It would use the service's limits, which other callers need."""
    callers = [program.wait(0, 5.0), program.wait(0), program.wait(1)]
    for each in callers:
        next(each)
    if waits_until == "its end":
        callers[0].close()  # such as a canceled task
    else:
        with pytest.raises(Refused):
            for _ in range(20):
                next(callers[0])
    clock.seconds += POLL_SECONDS
    callers[2].close()
    threads.run()
    assert program.fetched == [0]
    with pytest.raises(StopIteration):
        next(callers[1])
    program.request(1)
    threads.run()
    assert program.fetched == [0, 1]


def test_new_fetch_continues_without_a_caller(program: Program, threads: Threads) -> None:
    """A caller with a short timeout finds the token when it tries again."""
    caller = program.wait(0)
    next(caller)
    caller.close()
    threads.run()
    assert program.fetched == [0]


def test_caller_that_comes_later_gets_the_token_of_a_queued_fetch(
    program: Program, threads: Threads, clock: FakeClock
) -> None:
    first, second = program.wait(0), program.wait(0)
    flight = next(first)
    clock.seconds += POLL_SECONDS
    first.close()
    assert next(second) is flight
    threads.run()
    assert program.fetched == [0]


def test_forked_child_fetches_what_its_parent_had_queued(
    program: Program, threads: Threads
) -> None:
    for number in range(20):
        program.request(number)
    threads.waiting.clear()
    cache_module._reset()
    program.request(19)
    threads.run()
    assert program.fetched == [19]
