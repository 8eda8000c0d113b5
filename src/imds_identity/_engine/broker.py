"""A token from memory, else by exactly one fetch, however many ask at once."""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import suppress
from contextvars import ContextVar, copy_context

from .._core.failure import Failure, Refused
from .._core.freshness import State, decide
from .._runtime.fork import load
from .._runtime.locked import locked
from .absence import Absences
from .flight import LONGEST_FETCH, Flight, Interrupted, Landing, in_a_thread
from .slot import Slot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any, TypeVar

    from .._core.challenge import Challenge
    from .._core.key import Key
    from .._core.token import Token
    from .._runtime.clock import Clock
    from .._wire.exchange import Random
    from .flight import Fetch, Outcome, Start, Tell

    T = TypeVar("T")

HIT_SECONDS = 1.0
"""For how long a token is handed out before it is looked at again: another process may have
replaced it, and the cheap clock stands still while the machine sleeps."""
LOOK_SECONDS = 0.5
"""Seconds after which one who waits looks whether the fetch has begun at all."""
TRIES = 3
"""How often a caller asks anew when a fetch was interrupted, or brought what had expired."""

_made_here: ContextVar[tuple[Flight, ...]] = ContextVar("imds_identity_flights", default=())
"""The flights on whose behalf this code runs: a hook of one that waited for it would wait for ever.
A context follows a request from the flight's thread on to an event loop."""


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
        self.absences = Absences()
        self._start = start or in_a_thread
        self._slots: dict[Key, Slot] = {}
        # Reentrant: a signal handler or a finaliser may ask for a token anywhere.
        self._lock = threading.RLock()
        _brokers.add(self)

    def slot(self, key: Key) -> Slot:
        """The one slot of ``key``."""
        return self._alone(self._slots.setdefault, key, Slot(key))

    def adopt(
        self,
        slot: Slot,
        token: Token | None,
        challenge: Challenge | None = None,
        generation: int | None = None,
    ) -> None:
        """Take over what another process knows, where that is newer.

        Args:
            slot: what it is about.
            token: the other's token, if it has one.
            challenge: the last claims challenge that it knows of.
            generation: that of the slot when this was read; what was cleared since stays cleared.
        """
        if token is not None and decide(token, self.clock.now()) is not State.EXPIRED:
            self._alone(slot.adopt, token, challenge, generation)

    def show(
        self, slot: Slot, token: Token, forms: Callable[[Token], tuple[Any, Any]]
    ) -> tuple[Any, Any]:
        """The ``forms`` of ``token``, which faces hand out for a while if it is the present one."""
        shown = slot.shown is token
        made = (slot.access_token, slot.access_token_info) if shown else forms(token)
        # This clock first: a thread may stand still between the two.
        tick = self.clock.tick()
        remaining = min(token.refresh_at, token.expires_at) - self.clock.now()
        self._alone(slot.show, token, made, tick + min(remaining, HIT_SECONDS))
        return made

    def clear(self) -> None:
        """Forget every token."""
        self.absences.clear()
        self._alone(self._forget)

    def get(
        self, slot: Slot, fetch: Fetch, claims: str | None = None, tell: Tell | None = None
    ) -> Token:
        """The token of ``slot``, waiting for one if need be.

        Args:
            slot: which token.
            fetch: gets one from the service; used for one caller among all that ask.
            claims: the claims challenge with which a token was refused, if one was.
            tell: is called with what came of ``fetch`` once nobody waits for it any more.

        Raises:
            Failure: when there is none to be had.
        """
        asked = self.ask(slot, fetch, claims, blocks=True, tell=tell)
        try:
            while True:
                next(asked).wait(LOOK_SECONDS)
        except StopIteration as done:
            token: Token = done.value
            return token

    def ask(
        self, slot: Slot, fetch: Fetch, claims: str | None, **how: Any
    ) -> Generator[Flight, None, Token]:
        """Like `get`, but who drives it does the waiting: for each flight, until it looks again.

        Args:
            slot: as for `get`.
            fetch: likewise.
            claims: likewise.
            how: as for `launch`.

        Yields:
            A flight to be waited for, for `LOOK_SECONDS` at the most.

        Raises:
            Failure: as `get` does.
        """
        looks = 0
        for _ in range(TRIES):
            found = self.launch(slot, fetch, claims, **how)
            if not isinstance(found, Flight):
                return found
            while found.outcome is None and self._is_worth_waiting(found, looks):
                yield found
                looks += 1
            if token := self.result(found):
                return token
        raise Refused(
            f"the fetch was interrupted {TRIES} times, or what it brought had expired by then",
            "Its thread, its event loop or this process was stopped, or a hook raised what is no "
            "Exception.",
        )

    def launch(
        self,
        slot: Slot,
        fetch: Fetch,
        claims: str | None = None,
        *,
        blocks: bool = False,
        needs: int = 0,
        caller: object = None,
        tell: Tell | None = None,
    ) -> Token | Flight:
        """Like `get`, but a flight where that would wait.

        Args:
            slot: as for `get`.
            fetch: likewise.
            claims: likewise.
            blocks: whether the calling thread is going to wait for the flight.
            needs: the thread whose event loop ``fetch`` needs, if it needs one.
            caller: an object that tells the caller from others, if not its thread.
            tell: as for `get`.

        Raises:
            Failure: when there was none to be had a moment ago.
        """
        who = weakref.ref(caller or threading.current_thread())

        def looked() -> tuple[Token | None, Flight | None, bool]:
            now = self.clock.now()
            slot.drop_expired(self.clock.wall())
            token = slot.answer(claims, who, now) if claims else slot.present(now)
            if token and (claims or now < token.refresh_at):
                return token, None, False
            new = Flight(slot.key, slot.generation, claims, fetch, now, needs)
            new.tell, new.refreshes = tell, token is not None
            flight = slot.joined(new, who, blocks=blocks and not token)
            overdue = not flight.begun and now >= flight.since + LOOK_SECONDS
            return token, flight, flight is new or overdue

        token, flight, stalled = self._alone(looked)
        if flight is None:
            assert token is not None
            return token
        if stalled:
            self._begin(flight, blocks=blocks and not token)
        if not token and flight in _made_here.get():
            raise Refused(
                "a token was asked for by the very fetch that is to bring it",
                "A hook or a transport that uses this credential does that: give it another one.",
            )
        return token or flight

    def result(self, flight: Flight) -> Token | None:
        """What a flight has brought; None for "ask anew".

        Raises:
            Failure: a copy of that which ended it.
        """
        outcome = flight.outcome
        if isinstance(outcome, Failure):
            raise outcome.again()
        if outcome is None or isinstance(outcome, Interrupted):
            return None
        # Who waits may have been frozen for longer than a token lives.
        return None if decide(outcome, self.clock.now()) is State.EXPIRED else outcome

    def _is_worth_waiting(self, flight: Flight, looks: int) -> bool:
        """Whether to wait on, having looked so often; also sees to it that the flight begins.

        Raises:
            Refused: if it has taken too long.
        """
        now = self.clock.now()
        if not flight.is_overdue(now):
            if looks and not flight.begun:  # whoever was to begin it was stopped by an exception
                self._begin(flight, blocks=False)
            return True
        # Who has not looked that often was frozen, or came late: another flight may be a sound one.
        if looks * LOOK_SECONDS < LONGEST_FETCH / 2:
            return False
        raise Refused(
            f"a fetch that was under way has not ended within {LONGEST_FETCH:.0f} s",
            "A transport or a hook that hangs does that. The next call starts another fetch.",
        )

    def _alone(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        return locked(self._lock, work, *args, **kwargs)

    def _forget(self) -> None:
        for slot in self._slots.values():
            slot.forget()

    def _begin(self, flight: Flight, *, blocks: bool) -> None:
        try:
            self._start(self._run(flight), blocks=blocks)
        except RuntimeError as error:  # no more threads, or the interpreter is going down
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
        if not self._alone(flight.begin):
            return
        _made_here.set((*_made_here.get(), flight))
        outcome: Outcome = Interrupted()
        try:
            outcome = flight.fetch()
        except (Failure, Interrupted) as error:
            outcome = error.with_traceback(None)
        except Exception as error:  # noqa: BLE001 - those who wait get an error that is documented
            outcome = Refused(
                f"an unexpected {type(error).__name__} ended the fetch",
                "That is a fault in a transport, in a hook or in this package.",
            )
        finally:  # with an exception that is none of these those who wait ask anew
            self._land(flight, outcome)

    def _land(self, flight: Flight, outcome: Outcome) -> None:
        slot, now = self._slots[flight.key], self.clock.now()
        token, failed_refresh = self._alone(slot.landed, flight, outcome, now, self.random())
        flight.land(outcome)
        if isinstance(outcome, Interrupted):
            return
        with suppress(Exception):  # a log handler's, which harms nobody here
            if failed_refresh and token and isinstance(outcome, Failure):
                load("imds_identity._engine.telling").tell_setback(token, now, outcome)
            if flight.tell is not None:
                flight.tell(Landing(outcome, token, now, now - flight.since, flight.refreshes))


_brokers: weakref.WeakSet[Broker] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    """Threads do not survive a fork: what they fetched will not come, what they changed is torn."""
    for broker in list(_brokers):
        broker._lock = threading.RLock()
        for slot in broker._slots.values():
            slot.part_with_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
