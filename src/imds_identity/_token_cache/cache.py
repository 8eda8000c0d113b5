"""A token from memory, else by exactly one fetch, however many ask at once."""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import suppress
from contextvars import ContextVar, copy_context

from .._core.failure import Failure, Reason, Refused
from .._core.freshness import State, decide
from .._platform.fork import load
from .._platform.locks import locked
from .entry import CacheEntry
from .flight import LONGEST_FETCH, FetchResult, Flight, Interrupted, in_a_thread
from .negative_cache import UnavailableEndpoints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any, TypeVar

    from .._core.claims import Challenge
    from .._core.key import Key
    from .._core.token import Token
    from .._http.exchange import Random
    from .._platform.clock import Clock
    from .flight import Fetch, OnResult, Outcome, Start

    T = TypeVar("T")

HIT_SECONDS = 1.0
"""For how long a token is handed out before it is looked at again: another process may have
replaced it, and the cheap clock stands still while the machine sleeps."""
POLL_SECONDS = 0.5
"""Seconds after which one who waits looks whether the fetch has begun at all."""
TRIES = 3
"""How often a caller asks anew when a fetch was interrupted, or brought what had expired."""

_current_flights: ContextVar[tuple[Flight, ...]] = ContextVar("imds_identity_flights", default=())
"""The flights on whose behalf this code runs: a hook of one that waited for it would wait for ever.
A context follows a request from the flight's thread on to an event loop."""


class TokenCache:
    """Every credential of a process asks here.

    Its lock is held for instants only: under it nothing is logged, called back or read from a file.

    Args:
        clock: the time.
        random: spreads what would otherwise be done in step.
        start: runs a callable in the background.
    """

    def __init__(self, clock: Clock, random: Random, start: Start | None = None) -> None:
        self.clock = clock
        self.random = random
        self.unavailable_endpoints = UnavailableEndpoints()
        self._start = start or in_a_thread
        self._entries: dict[Key, CacheEntry] = {}
        # Reentrant: a signal handler or a finaliser may ask for a token anywhere.
        self._lock = threading.RLock()
        _token_caches.add(self)

    def entry(self, key: Key) -> CacheEntry:
        """The one slot of ``key``."""
        return self._locked(self._entries.setdefault, key, CacheEntry(key))

    def adopt(
        self,
        entry: CacheEntry,
        token: Token | None,
        challenge: Challenge | None = None,
        generation: int | None = None,
    ) -> None:
        """Take over what another process knows, where that is newer.

        Args:
            entry: what it is about.
            token: the other's token, if it has one.
            challenge: the last claims challenge that it knows of.
            generation: that of the slot when this was read; what was cleared since stays cleared.
        """
        if token is not None and decide(token, self.clock.now()) is not State.EXPIRED:
            self._locked(entry.adopt, token, challenge, generation)

    def publish(
        self, entry: CacheEntry, token: Token, forms: Callable[[Token], tuple[Any, Any]]
    ) -> tuple[Any, Any]:
        """The ``forms`` of ``token``, which faces hand out for a while if it is the present one."""
        published = entry.published is token
        made = (entry.access_token, entry.access_token_info) if published else forms(token)
        # This clock first: a thread may stand still between the two.
        tick = self.clock.tick()
        remaining = min(token.refresh_at, token.expires_at) - self.clock.now()
        self._locked(entry.publish, token, made, tick + min(remaining, HIT_SECONDS))
        return made

    def clear(self) -> None:
        """Forget every token."""
        self.unavailable_endpoints.clear()
        self._locked(self._forget)

    def get(
        self,
        entry: CacheEntry,
        fetch: Fetch,
        claims: str | None = None,
        on_result: OnResult | None = None,
    ) -> Token:
        """The token of ``entry``, waiting for one if need be.

        Args:
            entry: which token.
            fetch: gets one from the service; used for one caller among all that ask.
            claims: the claims challenge with which a token was refused, if one was.
            on_result: is called with what came of ``fetch`` once nobody waits for it any more.

        Raises:
            Failure: when there is none to be had.
        """
        asked = self.wait_or_fetch(entry, fetch, claims, blocks=True, on_result=on_result)
        try:
            while True:
                next(asked).wait(POLL_SECONDS)
        except StopIteration as done:
            token: Token = done.value
            return token

    def wait_or_fetch(
        self, entry: CacheEntry, fetch: Fetch, claims: str | None, **how: Any
    ) -> Generator[Flight, None, Token]:
        """Like `get`, but who drives it does the waiting: for each flight, until it looks again.

        Args:
            entry: as for `get`.
            fetch: likewise.
            claims: likewise.
            how: as for `join_or_start`.

        Yields:
            A flight to be waited for, for `POLL_SECONDS` at the most.

        Raises:
            Failure: as `get` does.
        """
        looks = 0
        for _ in range(TRIES):
            found = self.join_or_start(entry, fetch, claims, **how)
            if not isinstance(found, Flight):
                return found
            while found.outcome is None and self._keep_waiting(found, looks):
                yield found
                looks += 1
            if token := self.result(found):
                return token
        raise Refused(
            f"the fetch was interrupted {TRIES} times, or what it brought had expired by then",
            "Its thread, its event loop or this process was stopped, or a hook raised what is no "
            "Exception.",
            reason=Reason.INTERRUPTED,
        )

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
        """Like `get`, but a flight where that would wait.

        Args:
            entry: as for `get`.
            fetch: likewise.
            claims: likewise.
            blocks: whether the calling thread is going to wait for the flight.
            needs: the thread whose event loop ``fetch`` needs, if it needs one.
            caller: an object that tells the caller from others, if not its thread.
            on_result: as for `get`.

        Raises:
            Failure: when there was none to be had a moment ago.
        """
        who = weakref.ref(caller or threading.current_thread())

        def look_up() -> tuple[Token | None, Flight | None, bool]:
            now = self.clock.now()
            entry.drop_expired(self.clock.wall())
            token = entry.answer(claims, who, now) if claims else entry.present(now)
            if token and (claims or now < token.refresh_at):
                return token, None, False
            new = Flight(entry.key, entry.generation, claims, fetch, now, needs)
            new.on_result, new.refreshes = on_result, token is not None
            flight = entry.join_or_start(new, who, blocks=blocks and not token)
            overdue = not flight.started and now >= flight.since + POLL_SECONDS
            return token, flight, flight is new or overdue

        token, flight, stalled = self._locked(look_up)
        if flight is None:
            assert token is not None
            return token
        if stalled:
            self._start_flight(flight, blocks=blocks and not token)
        if not token and flight in _current_flights.get():
            raise Refused(
                "a token was asked for by the very fetch that is to bring it",
                "A hook or a transport that uses this credential does that: give it another one.",
                reason=Reason.RECURSIVE,
            )
        return token or flight

    def result(self, flight: Flight) -> Token | None:
        """What a flight has brought; None for "ask anew".

        Raises:
            Failure: a copy of that which ended it.
        """
        outcome = flight.outcome
        if isinstance(outcome, Failure):
            raise outcome.copy()
        if outcome is None or isinstance(outcome, Interrupted):
            return None
        # Who waits may have been frozen for longer than a token lives.
        return None if decide(outcome, self.clock.now()) is State.EXPIRED else outcome

    def _keep_waiting(self, flight: Flight, looks: int) -> bool:
        """Whether to wait on, having looked so often; also sees to it that the flight begins.

        Raises:
            Refused: if it has taken too long.
        """
        now = self.clock.now()
        if not flight.is_overdue(now):
            if looks and not flight.started:  # whoever was to begin it was stopped by an exception
                self._start_flight(flight, blocks=False)
            return True
        # Who has not looked that often was frozen, or came late: another flight may be a sound one.
        if looks * POLL_SECONDS < LONGEST_FETCH / 2:
            return False
        raise Refused(
            f"a fetch that was under way has not ended within {LONGEST_FETCH:.0f} s",
            "A transport or a hook that hangs does that. The next call starts another fetch.",
            reason=Reason.TIMEOUT,
        )

    def _locked(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        return locked(self._lock, work, *args, **kwargs)

    def _forget(self) -> None:
        for entry in self._entries.values():
            entry.forget()

    def _start_flight(self, flight: Flight, *, blocks: bool) -> None:
        try:
            self._start(self._runner_of(flight), blocks=blocks)
        except RuntimeError as error:  # no more threads, or the interpreter is going down
            if blocks:
                self._runner_of(flight)()
            else:
                self._complete(
                    flight,
                    Refused(
                        f"no thread can be started to fetch a token: {error}",
                        reason=Reason.INTERNAL_ERROR,
                    ),
                )

    def _runner_of(self, flight: Flight) -> Callable[[], object]:
        """What makes ``flight``, in the context of who calls this."""
        context = copy_context()
        return lambda: context.run(self._fetch_flight, flight)

    def _fetch_flight(self, flight: Flight) -> None:
        """Fetch, unless somebody does already, and let the waiters know what came of it."""
        if not self._locked(flight.begin):
            return
        _current_flights.set((*_current_flights.get(), flight))
        outcome: Outcome = Interrupted()
        try:
            outcome = flight.fetch()
        except (Failure, Interrupted) as error:
            outcome = error.with_traceback(None)
        except Exception as error:  # noqa: BLE001 - those who wait get an error that is documented
            outcome = Refused(
                f"an unexpected {type(error).__name__} ended the fetch",
                "That is a fault in a transport, in a hook or in this package.",
                reason=Reason.INTERNAL_ERROR,
            )
        finally:  # with an exception that is none of these those who wait ask anew
            self._complete(flight, outcome)

    def _complete(self, flight: Flight, outcome: Outcome) -> None:
        entry, now = self._entries[flight.key], self.clock.now()
        token, failed_refresh = self._locked(
            entry.store_result, flight, outcome, now, self.random()
        )
        flight.complete(outcome)
        if isinstance(outcome, Interrupted):
            return
        with suppress(Exception):  # a log handler's, which harms nobody here
            if failed_refresh and token and isinstance(outcome, Failure):
                load("imds_identity._token_cache.notifications").log_failed_refresh(
                    token, now, outcome
                )
            if flight.on_result is not None:
                flight.on_result(
                    FetchResult(outcome, token, now, now - flight.since, flight.refreshes)
                )


_token_caches: weakref.WeakSet[TokenCache] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    """Threads do not survive a fork: what they fetched will not come, what they changed is torn."""
    for token_cache in list(_token_caches):
        token_cache._lock = threading.RLock()
        for entry in token_cache._entries.values():
            entry.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
