"""What a process knows of one token. No lock and no I/O: the broker holds its lock around this."""

from __future__ import annotations

from .._core.claims import ANSWER_SECONDS, Challenge, is_later, was_issued_after
from .._core.failure import Failure
from .._core.freshness import FAILURE_SECONDS, State, back_off, decide
from .flight import Interrupted

TYPE_CHECKING = False
if TYPE_CHECKING:
    import weakref
    from typing import Any

    from .._core.key import Key
    from .._core.token import Token
    from .flight import Flight, Outcome

NEVER = float("-inf")


class CacheEntry:
    """All that this process knows of one key.

    Faces read ``hit_until`` and then a form of the token with no lock: a token is shown first and
    becomes valid after, and what has been shown stays until it is replaced.

    Attributes:
        token: the present token, good or not.
        published: the token that was last shown to faces.
        access_token: the same as azure-core's faces show it.
        access_token_info: likewise, in the other form.
        hit_until: until when these may be handed out with no further thought (``Clock.tick``).
        challenge: the last claims challenge and what came of it.
        answering: the token that answered it; an earlier one does not.
        answered: who has had the answer to it: weak references to threads or tasks, since numbers
            of those that are gone are given anew. If one of them brings the same claims again, they
            refuse that answer. It is no WeakSet: until Python 3.13 a member that is collected
            while another thread iterates over one can end that with an error.
        version: tells whether other processes have written of this key since it was last read.
        leased: the keys of the machine's leases that this process holds for this token.
    """

    __slots__ = (
        "access_token",
        "access_token_info",
        "answered",
        "answering",
        "challenge",
        "failure",
        "failure_until",
        "flights",
        "generation",
        "hit_until",
        "key",
        "leased",
        "published",
        "token",
        "version",
    )  # fmt: skip

    def __init__(self, key: Key) -> None:
        self.key = key
        self.published: Token | None = None
        self.access_token: Any = None
        self.access_token_info: Any = None
        self.generation = 0
        self.leased: set[Key] = set()
        self.forget()

    def forget(self) -> None:
        """Drop the token, and do not keep what is on its way."""
        self.hit_until = NEVER
        self.token: Token | None = None
        self.failure: Failure | None = None
        self.failure_until = NEVER
        self.challenge: Challenge | None = None
        self.answering: Token | None = None
        self.answered: set[weakref.ref[Any]] = set()
        self.version: object = None
        self.flights: dict[str | None, Flight] = {}
        self.generation += 1

    def drop_expired(self, wall: float) -> None:
        """Drop a token that has expired by the wall clock.

        In a virtual machine that was suspended or moved all other clocks may have stood still.

        Args:
            wall: the time (``Clock.wall``).
        """
        if self.token is not None and wall >= self.token.expires_on:
            self.hit_until = NEVER
            self.token = None

    def present(self, now: float) -> Token | None:
        """The present token, if it is good.

        Raises:
            Failure: when there was none to be had a moment ago.
        """
        if decide(self.token, now) is not State.EXPIRED:
            return self.token
        if self.failure is not None and now < self.failure_until:
            raise self.failure.copy()
        return None

    def answer(self, claims: str, caller: weakref.ref[Any], now: float) -> Token | None:
        """The present token, if it is not the one that was refused with ``claims``.

        Args:
            claims: the claims challenge.
            caller: who brings it.
            now: the time (``Clock.now``).

        Raises:
            Failure: when there was none to be had for these claims a moment ago.
        """
        token, challenge = self.token, self.challenge
        if challenge is None or not challenge.answers(claims, now):
            challenge = Challenge(claims, now + ANSWER_SECONDS)
        elif challenge.failure is not None:
            raise challenge.failure.copy()
        if token is None or decide(token, now) is State.EXPIRED:
            return None
        if challenge is self.challenge:
            is_older = self.answering is not None and is_later(self.answering, token)
            refused = is_older or caller in self.answered
        else:
            refused = not was_issued_after(token.value, claims)
        if refused:
            return None
        self._answered_by(challenge)
        self.answered.add(caller)
        return token

    def publish(self, token: Token, forms: tuple[Any, Any], hit_until: float) -> None:
        """Have faces hand out the ``forms`` of ``token`` for a while, if it is the present one."""
        if self.token is token:
            self.access_token, self.access_token_info = forms
            self.published = token
            self.hit_until = hit_until

    def join_or_start(self, flight: Flight, caller: weakref.ref[Any], *, blocks: bool) -> Flight:
        """The flight that ``caller`` is to wait for: ``flight`` only if there is none of use.

        Args:
            flight: a new one.
            caller: who wants what it brings.
            blocks: whether the calling thread is going to wait.
        """
        present = self.flights.get(flight.claims)
        if present is None or present.is_unusable(flight.since, blocks=blocks):
            present = self.flights[flight.claims] = flight
        present.callers.add(caller)
        return present

    def store_result(
        self, flight: Flight, outcome: Outcome, now: float, random: float
    ) -> tuple[Token | None, bool]:
        """Part with ``flight``; the present token, and what `note` returns.

        Args:
            flight: is over.
            outcome: as for `note`, or that it was interrupted.
            now: likewise.
            random: likewise.
        """
        if self.flights.get(flight.claims) is flight:
            del self.flights[flight.claims]
        failed_refresh = False
        if self.generation == flight.generation and not isinstance(outcome, Interrupted):
            failed_refresh = self.note(flight, outcome, now, random)
        return self.token, failed_refresh

    def adopt(
        self, token: Token, challenge: Challenge | None, generation: int | None = None
    ) -> None:
        """Take over a token of another process, and what claims challenge that knows of.

        Args:
            token: the other's.
            challenge: likewise.
            generation: that of the slot when they were read, if it may be another by now.
        """
        if generation not in (None, self.generation):
            return
        if self.token is None or is_later(token, self.token):
            self._keep(token)
        # Otherwise what this process holds is not what answered the challenge.
        if challenge is not None and (challenge.failure or self.token == token):
            self._answered_by(challenge)

    def note(self, flight: Flight, outcome: Token | Failure, now: float, random: float) -> bool:
        """Remember what a fetch has brought.

        Args:
            flight: the fetch.
            outcome: what came of it.
            now: the time (``Clock.now``).
            random: spreads the back-off, in [0, 1).

        Returns:
            Whether that was a refresh which failed, while the present token is still good.
        """
        failure = outcome if isinstance(outcome, Failure) else None
        if not isinstance(outcome, Failure) and not self._is_outdated(outcome, flight, now):
            self._keep(outcome)
        if flight.claims is not None:
            seconds = FAILURE_SECONDS if failure else ANSWER_SECONDS
            self._answered_by(Challenge(flight.claims, now + seconds, failure))
            self.answered |= flight.callers
            # A plain fetch that is still under way may bring the token that was refused.
            self.generation += 1
        elif failure and self.token and decide(self.token, now) is not State.EXPIRED:
            self.hit_until = NEVER
            self.token = back_off(self.token, now, random, failure.retry_after)
            return True
        elif failure:
            self.failure, self.failure_until = failure, now + FAILURE_SECONDS
        return False

    def reset_after_fork(self) -> None:
        """Only the token is left in a child of a fork, whatever the parent's threads were at."""
        self.hit_until = NEVER
        self.published = None
        self.flights = {}
        self.leased = set()

    def _is_outdated(self, token: Token, flight: Flight, now: float) -> bool:
        """Whether another process has since brought a later token: this one may be revoked."""
        if flight.claims is not None or decide(self.token, now) is State.EXPIRED:
            return False
        return self.token is not None and is_later(self.token, token)

    def _keep(self, token: Token) -> None:
        self.hit_until = NEVER
        self.token = token
        self.failure = None
        self.failure_until = NEVER

    def _answered_by(self, challenge: Challenge) -> None:
        if challenge != self.challenge:
            self.challenge, self.answering, self.answered = challenge, self.token, set()
