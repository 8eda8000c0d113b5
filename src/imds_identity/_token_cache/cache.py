"""The token cache of a process: concurrent callers of the same token share one fetch."""

from __future__ import annotations

import threading
import weakref
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from functools import partial

from .._core.failure import Failure
from .._core.freshness import State, decide
from .._http.local_errors import unexpected_failure
from .._platform.fork import detect_fork, reset_in_child
from .._platform.locks import BriefLock
from .._platform.threads import mark_thread
from .background_checks import BackgroundChecks
from .entry import NEVER, Entries
from .flight import (
    LONGEST_FETCH,
    POLL_SECONDS,
    FetchResult,
    Flight,
    Interrupted,
    in_a_thread,
)
from .negative_cache import UnavailableEndpoints
from .notifications import log_failed_refresh
from .pool import FetchPool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any, TypeVar

    from .._core.claims import Challenge
    from .._core.key import Key
    from .._core.token import Token
    from .._http.exchange import Random
    from .._http.runner import RateLimiter
    from .._platform.clock import Clock
    from .entry import CacheEntry
    from .flight import Fetch, OnResult, Outcome, Start

    T = TypeVar("T")

HIT_SECONDS = 1.0
"""Seconds for which a token is returned without a check: another process may have replaced
it, and the cheap clock stands still while the machine is suspended."""
TRIES = 3
"""Flights that a caller waits for if they are interrupted or return a token that has expired."""

_current_flights: ContextVar[tuple[Flight, ...]] = ContextVar("imds_identity_flights", default=())
"""The flights that this code runs in. A hook that waited for one of them would wait forever.
A context follows a request from the flight's thread to an event loop."""


class TokenCache:
    """The tokens of a process, and the flights that fetch them.

    Its lock is held only briefly: never during log calls, callbacks or file access.

    Attributes:
        checks: background checks whether other processes have newer tokens.
        network: the network namespace, as in `other_network`.
        other_networks: the token caches of other network namespaces, by network.
    """

    def __init__(self, clock: Clock, random: Random, start: Start | None = None) -> None:
        self.clock = clock
        self.network = ""
        self.hit_seconds: float = HIT_SECONDS
        self.other_networks: dict[str, TokenCache] = {}
        self.random = random
        self.unavailable_endpoints: UnavailableEndpoints = UnavailableEndpoints()
        self.rate_limiters: dict[str, RateLimiter] = {}
        self.start: Start = start or in_a_thread
        self.checks: BackgroundChecks = BackgroundChecks(clock, self.start)
        self._pool = FetchPool(clock, self.start)
        self._entries = Entries(clock)
        # A signal handler or a finalizer may request a token anywhere: see `Flight.wait`.
        self._lock = BriefLock()
        _token_caches.add(self)

    def entry(self, key: Key) -> CacheEntry:
        """Return the one entry of ``key``."""
        return self._locked(self._entries.get, key, self.network)

    def adopt(
        self,
        entry: CacheEntry,
        token: Token | None,
        challenge: Challenge | None = None,
        generation: int | None = None,
    ) -> None:
        """Store another process's token and challenge if newer, unless the cache was cleared."""
        if token is not None and decide(token, self.clock.now()) is not State.EXPIRED:
            self._locked(entry.adopt, token, challenge, generation)

    def publish(
        self, entry: CacheEntry, token: Token, convert: Callable[[Token], tuple[object, object]]
    ) -> tuple[Any, Any]:
        """Return ``token`` in both public types; if it is the current token, cache them."""
        if entry.published is token:
            forms = entry.access_token, entry.access_token_info
        else:
            forms = convert(token)
        self._locked(entry.publish, token, forms, self.hit_until(token))
        return forms

    def hit_until(self, token: Token) -> float:
        """Return until when (``Clock.tick``) ``token`` may be returned without another check."""
        # In this order: the thread may be suspended between the two clocks.
        tick = self.clock.tick()
        remaining = min(token.refresh_at, token.expires_at) - self.clock.now()
        return tick + min(remaining, self.hit_seconds)

    def clear(self) -> None:
        """Forget every token."""
        self.unavailable_endpoints.clear()
        self._locked(self._entries.clear)
        for token_cache in list(self.other_networks.values()):
            token_cache.clear()

    def disable_hits(self) -> None:
        """Check each token before it is returned, from now on."""
        self.hit_seconds = NEVER
        self._locked(self._entries.disable_hits)

    def get(
        self,
        entry: CacheEntry,
        fetch: Fetch,
        claims: str | None = None,
        on_result: OnResult | None = None,
        between_polls: Callable[[], object] | None = None,
        queue_seconds: float = LONGEST_FETCH,
    ) -> Token:
        """Return the token of ``entry``, waiting for a flight if necessary.

        Raise Failure if no token is available.

        Args:
            entry: which token.
            fetch: requests it; called once for all concurrent callers.
            claims: the claims challenge with which a token was refused, or None.
            on_result: called with the result of ``fetch`` when no caller waits for it any more.
            between_polls: called while the flight continues; it may adopt another process's token.
            queue_seconds: the longest wait until the flight starts.
        """
        options = {"blocks": True, "on_result": on_result}
        flights = self.flights(entry, fetch, claims, between_polls, queue_seconds, **options)
        try:
            while True:
                next(flights).wait(POLL_SECONDS)
        except StopIteration as done:
            token: Token = done.value
            return token
        finally:
            flights.close()

    def flights(
        self,
        entry: CacheEntry,
        fetch: Fetch,
        claims: str | None,
        between_polls: Callable[[], object] | None = None,
        queue_seconds: float = LONGEST_FETCH,
        **options: Any,
    ) -> Generator[Flight, None, Token]:
        """Like `get`, but yield each flight for the caller to wait for, up to `POLL_SECONDS`."""
        polls, waiter, flight = 0, object(), None
        try:
            for _ in range(TRIES):
                found = self.join_or_start(entry, fetch, claims, **options)
                while isinstance(found, Flight) and self._keep_waiting(found, polls, queue_seconds):
                    flight, before = found, entry.token
                    flight.waiters.add(waiter)
                    yield flight
                    polls += 1
                    if between_polls and not flight.outcome:
                        between_polls()
                    # A challenge's flight stores its token a moment before it is complete.
                    if claims is None and not flight.outcome and entry.token is not before:
                        found = self.join_or_start(entry, fetch, claims, **options)
                token = found.result(self.clock.now()) if isinstance(found, Flight) else found
                if token:
                    return token
        finally:
            if flight:
                flight.waiters.discard(waiter)
        raise Flight.interrupted_error(TRIES)

    def join_or_start(
        self,
        entry: CacheEntry,
        fetch: Fetch,
        claims: str | None = None,
        *,
        blocks: bool = False,
        needs: int = 0,
        caller: object = None,
        on_result: OnResult | None = None,
    ) -> Token | Flight:
        """Return the token, or the flight to wait for: one in progress, else a new one.

        ``blocks``: the calling thread is going to wait. ``needs`` is the thread whose event loop
        ``fetch`` needs, or 0. ``caller`` identifies the caller, if its thread does not. Other
        arguments are those of `get`.

        Raise Failure if a fetch failed recently.
        """
        caller_ref = weakref.ref(caller or threading.current_thread())

        def look_up(entry: CacheEntry) -> tuple[Token | None, Flight | None, bool]:
            now = self.clock.now()
            entry = self._entries.restore(entry, now)
            entry.check_wall_time(now, self.clock.wall())
            token = entry.answer(claims, caller_ref, now) if claims else entry.valid_token(now)
            if token and (claims or now < token.refresh_at):
                return token, None, False
            new = Flight(entry.key, entry.generation, claims, fetch, now, needs)
            new.on_result, new.refreshes = on_result, token is not None
            flight = entry.join_or_start(new, caller_ref, blocks=blocks and not token)
            is_late = not flight.started and now >= flight.since + POLL_SECONDS
            return token, flight, flight is new or is_late

        token, flight, must_start = self._locked(look_up, entry)
        if flight is None:
            assert token is not None
            return token
        blocks = blocks and not token
        cannot_queue = not token and _current_flights.get()
        if must_start or (cannot_queue and not flight.started):
            self._start_flight(
                flight, blocks=blocks, is_awaited=not token, in_queue=not cannot_queue
            )
        if not token and flight in _current_flights.get():
            raise flight.recursion_error()
        return token or flight

    def _keep_waiting(self, flight: Flight, polls: int, queue_seconds: float) -> bool:
        """Return whether to keep waiting for ``flight``; start it if it was not started."""
        now = self.clock.now()
        if flight.outcome is not None or flight.is_lost():
            return False
        if not flight.is_overdue(now):
            if not flight.started and polls * POLL_SECONDS >= queue_seconds:
                raise flight.timeout_error(queue_seconds)
            if polls and not flight.started:  # the pool has stalled, or a signal stopped the caller
                self._start_flight(flight, blocks=False, is_awaited=True)
            return True
        # A waiter with fewer polls was suspended or came late: the next flight may succeed.
        if polls * POLL_SECONDS < LONGEST_FETCH / 2:
            return False
        raise flight.timeout_error()

    def _locked(self, work: Callable[..., T], *args: object, **kwargs: object) -> T:
        detect_fork()
        return self._lock.run(work, *args, **kwargs)

    def _start_flight(
        self, flight: Flight, *, blocks: bool, is_awaited: bool, in_queue: bool = True
    ) -> None:
        run = partial(self._run, flight, copy_context())
        try:
            if in_queue:
                self._pool.submit(flight, run, blocks=blocks, is_awaited=is_awaited)
            else:
                self.start(run, blocks=blocks)
        except (RuntimeError, MemoryError) as error:  # no more threads, or it is shutting down
            if blocks:
                run()
            else:
                self._complete(flight, unexpected_failure(error))

    def _run(self, flight: Flight, context: Context) -> None:
        """Run the fetch of ``flight`` in ``context``, unless another thread runs it."""
        if self._locked(flight.start):
            context.run(self._fetch, flight)

    def _fetch(self, flight: Flight) -> None:
        _current_flights.set((*_current_flights.get(), flight))
        flight.run(partial(self._complete, flight), lambda: flight.is_abandoned(self.clock.now()))

    def _complete(self, flight: Flight, outcome: Outcome) -> None:
        try:
            entry, now, random = self.entry(flight.key), self.clock.now(), self.random()
            stored = self._locked(entry.store_result, flight, outcome, now, random)
        finally:  # even if there is no memory
            mark_thread(ending=True)
            flight.complete(outcome)
        if isinstance(outcome, Interrupted):
            return
        token, failed_refresh = stored
        with suppress(Exception):  # a log handler's, which must not harm anything here
            if failed_refresh and token and isinstance(outcome, Failure):
                log_failed_refresh(token, now, outcome)
            if flight.on_result is not None:
                result = FetchResult(outcome, token, now, now - flight.since, flight.refreshes)
                flight.on_result(result)


_token_caches: weakref.WeakSet[TokenCache] = weakref.WeakSet()


@reset_in_child
def _reset() -> None:
    """Keep only tokens: the parent's threads do not exist here."""
    for token_cache in list(_token_caches):
        token_cache._pool.reset()
        token_cache.checks.reset()
        token_cache._entries.reset_after_fork()
