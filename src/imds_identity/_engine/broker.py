"""A token from memory, else by exactly one fetch, however many ask at once."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Protocol

from .._core.failure import Failure, Malformed, Refused
from .._core.fork import whole
from .._core.freshness import State, decide
from .flight import LONGEST_FETCH, Flight, Interrupted
from .slot import Slot

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.challenge import Challenge
    from .._core.clock import Clock
    from .._core.key import Key
    from .._core.token import Token
    from .._wire.exchange import Random
    from .flight import Fetch, Outcome

HIT_SECONDS = 1.0
"""For how long a token is handed out before it is looked at again: another process may have
replaced it, and the cheap clock stands still while the machine sleeps."""
LOOK_SECONDS = 0.5
"""Seconds after which one who waits looks whether the fetch has begun at all."""
TRIES = 3
"""How often a caller asks anew when a fetch was interrupted, or brought what had expired."""
_FORK_SECONDS = 1.0

_made_here: ContextVar[tuple[Flight, ...]] = ContextVar("imds_identity_flights", default=())
"""The flights on whose behalf this code runs: a hook of one that waited for it would wait for ever.
A context follows a request from the flight's thread on to an event loop."""


class Start(Protocol):
    """Runs a callable in the background."""

    def __call__(self, run: Callable[[], object], /, *, blocks: bool) -> None:
        """Start ``run``, which the caller is about to wait for if ``blocks``.

        Raises:
            RuntimeError: if there can be no more threads.
        """


class Broker:
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
        self._start = start or _start_daemon
        self._slots: dict[Key, Slot] = {}
        # Reentrant: a signal handler or a finaliser may ask for a token anywhere.
        self._lock = threading.RLock()
        _brokers.add(self)

    def slot(self, key: Key) -> Slot:
        """The one slot of ``key``."""
        with self._lock:
            return self._slots.setdefault(key, Slot(key))

    def adopt(self, slot: Slot, token: Token | None, challenge: Challenge | None = None) -> None:
        """Take over what another process knows, where that is newer.

        Args:
            slot: what it is about.
            token: the other's token, if it has one.
            challenge: the last claims challenge that it knows of.
        """
        with self._lock:
            if token is not None and decide(token, self.clock.now()) is not State.EXPIRED:
                slot.adopt(token, challenge)

    def show(
        self, slot: Slot, token: Token, forms: Callable[[Token], tuple[Any, Any]]
    ) -> tuple[Any, Any]:
        """The ``forms`` of ``token``, which faces hand out for a while if it is the present one."""
        shown = slot.shown is token
        made = (slot.access_token, slot.access_token_info) if shown else forms(token)
        with self._lock:
            if slot.token is token:
                slot.access_token, slot.access_token_info = made
                slot.shown = token
                remaining = min(token.refresh_at, token.expires_at) - self.clock.now()
                slot.hit_until = self.clock.tick() + min(remaining, HIT_SECONDS)
        return made

    def clear(self) -> None:
        """Forget every token."""
        with self._lock:
            for slot in self._slots.values():
                slot.forget()

    def get(
        self, slot: Slot, fetch: Fetch, claims: str | None = None, held: Token | None = None
    ) -> Token:
        """The token of ``slot``, waiting for one if need be.

        Args:
            slot: which token.
            fetch: gets one from the service; used for one caller among all that ask.
            claims: the claims challenge with which a token was refused, if one was.
            held: the token that this process held then.

        Raises:
            Failure: when there is none to be had.
        """
        for _ in range(TRIES):
            found = self.launch(slot, fetch, claims, held, blocks=True)
            if not isinstance(found, Flight):
                return found
            while not found.wait(LOOK_SECONDS):
                self.look_after(found)
            if token := self.result(found):
                return token
        raise given_up()

    def launch(
        self,
        slot: Slot,
        fetch: Fetch,
        claims: str | None = None,
        held: Token | None = None,
        *,
        blocks: bool = False,
        needs: int = 0,
        caller: object = None,
    ) -> Token | Flight:
        """Like `get`, but a flight where that would wait.

        Args:
            slot: as for `get`.
            fetch: likewise.
            claims: likewise.
            held: likewise.
            blocks: whether the calling thread is going to wait for the flight.
            needs: the thread whose event loop ``fetch`` needs, if it needs one.
            caller: what tells the caller from others, if not its thread.

        Raises:
            Failure: when there was none to be had a moment ago.
        """
        with self._lock:
            now = self.clock.now()
            caller = caller or threading.get_ident()
            token = slot.answer(claims, held, caller, now) if claims else slot.present(now)
            if token and (claims or now < token.refresh_at):
                return token
            blocks = blocks and not token
            flight = slot.flights.get(claims)
            if flight is None or flight.is_no_use(now, blocks=blocks):
                flight = Flight(slot.key, slot.generation, claims, fetch, now, needs)
                slot.flights[claims] = flight
                stalled = True
            else:
                stalled = not flight.begun and now >= flight.since + LOOK_SECONDS
            flight.callers.add(caller)
        if stalled:
            self._begin(flight, blocks=blocks)
        if not token and flight in _made_here.get():
            raise Refused(
                "a token was asked for by the very fetch that is to bring it",
                "A hook or a transport that uses this credential does that: give it another one.",
            )
        return token or flight

    def look_after(self, flight: Flight) -> None:
        """See to it that a flight begins, and that nobody waits for it for ever.

        Raises:
            Refused: if it has taken too long.
        """
        now = self.clock.now()
        if now >= flight.since + LONGEST_FETCH:
            raise Refused(
                f"a fetch that was under way has not ended within {LONGEST_FETCH:.0f} s",
                "A transport or a hook that hangs does that. The next call starts another fetch.",
            )
        if not flight.begun:  # whoever was to begin it was stopped by an exception
            self._begin(flight, blocks=False)

    def result(self, flight: Flight) -> Token | None:
        """What a flight that is over has brought; None for "ask anew".

        Raises:
            Failure: a copy of that which ended it.
        """
        outcome = flight.outcome
        if isinstance(outcome, Failure):
            raise outcome.again()
        return None if isinstance(outcome, Interrupted) else outcome

    def _begin(self, flight: Flight, *, blocks: bool) -> None:
        handled = sys.exc_info()[1]
        try:
            self._start(self._run(flight), blocks=blocks)
        except RuntimeError as error:  # no more threads, or the interpreter is going down
            if error.__context__ is not handled and error.__context__ is not None:
                # A signal handler raised inside of Thread.start, which then met with a lock that
                # it no longer held.
                raise error.__context__ from None
            if blocks:
                self._run(flight)()
            else:
                self._land(flight, Refused(f"no thread can be started to fetch a token: {error}"))

    def _run(self, flight: Flight) -> Callable[[], object]:
        """What makes ``flight``, in the context of who calls this."""
        context = copy_context()
        return lambda: context.run(self._fly, flight)

    def _fly(self, flight: Flight) -> None:
        """Fetch, unless somebody does already, and let the waiters know what came of it."""
        with self._lock:
            begun, flight.begun = flight.begun, True
        if begun:
            return
        _made_here.set((*_made_here.get(), flight))
        outcome: Outcome = Interrupted()
        try:
            outcome = self._fetched(flight)
        except (Failure, Interrupted) as error:
            outcome = error.with_traceback(None)
        except Exception as error:  # noqa: BLE001 - those who wait get an error that is documented
            outcome = Refused(
                f"an unexpected {type(error).__name__} ended the fetch",
                "That is a fault in a transport, in a hook or in this package.",
            )
        finally:  # with an exception that is none of these those who wait ask anew
            self._land(flight, outcome)

    def _fetched(self, flight: Flight) -> Token:
        """A token that is good now: this process may have been frozen while it came."""
        for _ in range(TRIES):
            token = flight.fetch()
            if decide(token, self.clock.now()) is not State.EXPIRED:
                return token
        raise Malformed(
            "each token had expired before it could be handed out",
            "Is this process, or the machine, suspended again and again?",
        )

    def _land(self, flight: Flight, outcome: Outcome) -> None:
        failed_refresh = False
        with self._lock:
            slot, now = self._slots[flight.key], self.clock.now()
            if slot.flights.get(flight.claims) is flight:
                del slot.flights[flight.claims]
            if slot.generation == flight.generation and not isinstance(outcome, Interrupted):
                failed_refresh = slot.note(flight, outcome, now, self.random())
            token = slot.token
        flight.land(outcome)
        if failed_refresh and token and isinstance(outcome, Failure):
            _log_setback(token, now, outcome)


def given_up() -> Failure:
    """What a caller is told whose fetches were interrupted again and again."""
    return Refused(
        f"the fetch was interrupted {TRIES} times",
        "Its thread or its event loop was stopped, or a hook raised what is no Exception.",
    )


def _log_setback(token: Token, now: float, failure: Failure) -> None:
    with whole():
        import logging

        logging.getLogger("imds_identity").warning(
            "refreshing a token failed; the present one is good for %.0f more minutes, and the "
            "next attempt is in %.0f s: %s",
            (token.expires_at - now) / 60,
            token.refresh_at - now,
            failure,
        )


def _start_daemon(run: Callable[[], object], *, blocks: bool) -> None:  # noqa: ARG001
    threading.Thread(target=run, name="imds-identity", daemon=True).start()


_brokers: weakref.WeakSet[Broker] = weakref.WeakSet()
_held_for_fork: list[Any] = []


def _before_fork() -> None:
    """A child must not get slots that another thread is half-way through changing."""
    locks = [broker._lock for broker in list(_brokers)]
    _held_for_fork.extend(lock for lock in locks if lock.acquire(timeout=_FORK_SECONDS))


def _after_fork_in_parent() -> None:
    while _held_for_fork:
        _held_for_fork.pop().release()


def _after_fork_in_child() -> None:
    """Threads do not survive a fork: whatever they were fetching will not come."""
    _held_for_fork.clear()
    for broker in list(_brokers):
        broker._lock = threading.RLock()
        for slot in broker._slots.values():
            slot.flights = {}
            slot.leased = set()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
