"""A token from memory, else by exactly one fetch, however many ask at once."""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, TypeAlias

from .._core.failure import Failure, Refused
from .._core.freshness import FAILURE_SECONDS, State, decide

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from .._core.clock import Clock
    from .._core.key import Key
    from .._core.token import Token
    from .._wire.exchange import Random

Fetch: TypeAlias = "Callable[[], Token]"

NEVER = float("-inf")
HIT_SECONDS = 60.0
"""For how long a token is handed out before it is looked at again: a machine that wakes after a
night's sleep must not go on with yesterday's token because the cheap clock slept as well."""


class Interrupted(Exception):
    """Whoever was fetching was stopped, by Ctrl-C say; one of those who waited goes on."""


class Slot:
    """All that this process knows of one key.

    Faces read ``hit_until`` and then what they show with no lock: a token is shown first and
    becomes valid after, and what has been shown stays until it is replaced.

    Attributes:
        token: the present token, good or not.
        shown: the token that was last shown to faces.
        access_token: the same as azure-core's faces show it.
        access_token_info: likewise, in the other form.
        hit_until: until when these may be handed out with no further thought (``Clock.tick``).
    """

    __slots__ = (
        "access_token", "access_token_info", "failure", "failure_until", "flights", "generation",
        "hit_until", "key", "shown", "token",
    )  # fmt: skip

    def __init__(self, key: Key) -> None:
        self.key = key
        self.shown: Token | None = None
        self.access_token: Any = None
        self.access_token_info: Any = None
        self.generation = 0
        self.forget()

    def forget(self) -> None:
        """Drop the token, and do not keep what is on its way."""
        self.hit_until = NEVER
        self.token: Token | None = None
        self.failure: Failure | None = None
        self.failure_until = NEVER
        self.flights: dict[str | None, Flight] = {}
        self.generation += 1

    def keep(self, token: Token) -> None:
        """From now on this is the token."""
        self.hit_until = NEVER
        self.token = token
        self.failure = None
        self.failure_until = NEVER


class Flight:
    """One fetch and all who wait for it.

    Attributes:
        taken: whether somebody flies it; everybody else waits.
        thread: who flies it, once it is in the air.
        future: its outcome.
    """

    def __init__(self, slot: Slot, claims: str | None, fetch: Fetch) -> None:
        from concurrent.futures import Future

        self.slot = slot
        self.claims = claims
        self.fetch = fetch
        self.generation = slot.generation
        self.taken = False
        self.thread = 0
        self.future: Future[Token] = Future()
        # A running future cannot be cancelled, so no waiter can spoil it for the others.
        self.future.set_running_or_notify_cancel()


class Broker:
    """Every credential of a process asks here.

    Args:
        clock: the time.
        random: spreads what would otherwise be done in step.
        start_thread: runs a callable in the background.
    """

    def __init__(
        self,
        clock: Clock,
        random: Random,
        start_thread: Callable[[Callable[[], object]], None] | None = None,
    ) -> None:
        self.clock = clock
        self.random = random
        self._start_thread = start_thread or _start_daemon
        self._slots: dict[Key, Slot] = {}
        # Reentrant: a signal handler or a finaliser may ask for a token anywhere.
        self._lock = threading.RLock()
        _brokers.add(self)

    def slot(self, key: Key) -> Slot:
        """The one slot of ``key``."""
        with self._lock:
            return self._slots.setdefault(key, Slot(key))

    def adopt(self, slot: Slot, token: Token) -> None:
        """Take over a token that another process has fetched, if there is none."""
        with self._lock:
            if slot.token is None:
                slot.keep(token)

    def show(
        self, slot: Slot, token: Token, forms: Callable[[Token], tuple[Any, Any]]
    ) -> tuple[Any, Any]:
        """The ``forms`` of ``token``, which faces hand out for a while if it is the present one."""
        with self._lock:
            if slot.token is not token:
                return forms(token)
            if slot.shown is not token:
                slot.access_token, slot.access_token_info = forms(token)
                slot.shown = token
            remaining = token.refresh_at - self.clock.now()
            slot.hit_until = self.clock.tick() + min(remaining, HIT_SECONDS)
            return slot.access_token, slot.access_token_info

    def clear(self) -> None:
        """Forget every token."""
        with self._lock:
            for slot in self._slots.values():
                slot.forget()

    def get(self, slot: Slot, fetch: Fetch, claims: str | None = None) -> Token:
        """The token of ``slot``, waiting for one if need be.

        Args:
            slot: which token.
            fetch: gets one from the service; used by one caller among all that ask.
            claims: the claims challenge that refused the present token, if one did.

        Raises:
            Failure: when there is none to be had.
        """
        while True:
            found = self._ask(slot, fetch, claims)
            if not isinstance(found, Flight):
                return found
            if self._take(found):
                self._fly(found)
            elif found.thread == threading.get_ident():
                raise Refused(
                    "a token was asked for while this very thread was fetching it",
                    "A log handler, a signal handler or a transport that uses this credential does "
                    "that: give it another one.",
                )
            try:
                return found.future.result()
            except Interrupted:
                continue
            except Failure as failure:
                reason = failure.again()
            raise reason

    def launch(self, slot: Slot, fetch: Fetch, claims: str | None = None) -> Token | Future[Token]:
        """Like `get`, but a future where that would wait.

        The future's exception may be `Interrupted`, upon which the caller asks again.
        """
        found = self._ask(slot, fetch, claims)
        if not isinstance(found, Flight):
            return found
        if self._take(found):
            self._fly_in_background(found)
        return found.future

    def _ask(self, slot: Slot, fetch: Fetch, claims: str | None) -> Token | Flight:
        """The token to serve now, or the flight that will bring one."""
        with self._lock:
            flight = slot.flights.get(claims)
            if claims is None:
                now = self.clock.now()
                state = decide(slot.token, now)
                if slot.token is not None and state is not State.EXPIRED:
                    if state is State.DUE and flight is None:
                        flight = slot.flights[None] = Flight(slot, None, fetch)
                        flight.taken = True
                        self._fly_in_background(flight)
                    return slot.token
                if slot.failure is not None and now < slot.failure_until:
                    raise slot.failure.again()
            if flight is None:
                flight = slot.flights[claims] = Flight(slot, claims, fetch)
            return flight

    def _take(self, flight: Flight) -> bool:
        with self._lock:
            free, flight.taken = not flight.taken, True
            return free

    def _fly(self, flight: Flight) -> None:
        """Fetch, keep what came, and let the waiters know."""
        flight.thread = threading.get_ident()
        try:
            token = flight.fetch()
        except Exception as error:  # noqa: BLE001 - it reaches every waiter through the future
            self._land(flight, error)
            flight.future.set_exception(error)
        except BaseException:
            self._land(flight, None)
            flight.future.set_exception(Interrupted())
            raise
        else:
            self._land(flight, token)
            flight.future.set_result(token)

    def _fly_in_background(self, flight: Flight) -> None:
        try:
            self._start_thread(lambda: self._fly(flight))
        except RuntimeError as error:  # no more threads, or the interpreter is going down
            self._land(flight, error)
            flight.future.set_exception(error)

    def _land(self, flight: Flight, outcome: Token | Exception | None) -> None:
        slot = flight.slot
        with self._lock:
            if slot.flights.get(flight.claims) is flight:
                del slot.flights[flight.claims]
            if slot.generation != flight.generation or outcome is None:
                return
            if not isinstance(outcome, Exception):
                slot.keep(outcome)
                if flight.claims is not None:
                    # A plain fetch that is still under way may bring the token that was refused.
                    slot.generation += 1
            elif flight.claims is None:
                self._set_back(slot, outcome)

    def _set_back(self, slot: Slot, error: Exception) -> None:
        now = self.clock.now()
        failure = error if isinstance(error, Failure) else None
        if slot.token is None or decide(slot.token, now) is State.EXPIRED:
            if failure is not None:
                slot.failure, slot.failure_until = failure, now + FAILURE_SECONDS
            return
        slot.token = slot.token.set_back(
            now, self.random(), failure.retry_after if failure else None
        )
        slot.hit_until = NEVER
        _log_setback(slot.token, now, error)


def _log_setback(token: Token, now: float, error: Exception) -> None:
    import logging

    logging.getLogger("imds_identity").warning(
        "refreshing a token failed; the present one is good for %.0f more minutes, and the next "
        "attempt is in %.0f s: %s",
        (token.expires_at - now) / 60,
        token.refresh_at - now,
        error if isinstance(error, Failure) else type(error).__name__,
    )


def _start_daemon(run: Callable[[], object]) -> None:
    threading.Thread(target=run, name="imds-identity", daemon=True).start()


_brokers: weakref.WeakSet[Broker] = weakref.WeakSet()


def _after_fork() -> None:
    """Threads do not survive a fork: whatever they were fetching will not come."""
    for broker in _brokers:
        broker._lock = threading.RLock()
        for slot in broker._slots.values():
            slot.flights = {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
