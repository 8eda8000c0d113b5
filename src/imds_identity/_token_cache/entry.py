"""The cache entry of one token, without lock and I/O: the token cache holds its lock."""

from __future__ import annotations

import itertools
from contextlib import suppress

from .._core.claims import ANSWER_SECONDS, Challenge, answers_challenge, is_later
from .._core.failure import Failure, Reason
from .._core.freshness import FAILURE_SECONDS, State, back_off, decide
from .flight import Interrupted

TYPE_CHECKING = False
if TYPE_CHECKING:
    import weakref
    from collections.abc import Callable
    from typing import Any

    from .._core.key import Key
    from .._core.token import Token
    from .._platform.clock import Clock
    from .flight import Flight, Outcome

NEVER = float("-inf")
UNUSED_SECONDS = 10.0
"""Seconds since its last use after which an entry without any state may be dropped."""
_EXAMINED = 16
_generations = itertools.count(1)
"""Unique numbers, so that a fetch of a dropped entry does not change the entry that follows it."""


class CacheEntry:
    """The token of one key, and the state of its fetches.

    Credentials read ``hit_until`` and then the published token without a lock. So a token is
    published before ``hit_until`` is set, and stays published until it is replaced.

    Attributes:
        token: the current token, valid or not.
        published: the token whose public types are below.
        access_token: that token as azure-core's ``AccessToken``.
        access_token_info: that token as azure-core's ``AccessTokenInfo``.
        hit_until: the time until which these are returned without any check (``Clock.tick``).
        challenge: the last claims challenge and its result.
        answering: the token that satisfied it; an earlier token does not.
        answered: the callers that received that token: weak references to threads or tasks, because
            the numbers of finished ones are reused. For a caller that passes the same claims again,
            the token was rejected. Not a WeakSet: until Python 3.13 a member that is collected
            while another thread iterates can end the iteration with an error.
        version: changes when another process writes a record of this key.
        leased: the keys of the leases that this process holds for this token.
        network: the network namespace that its token is for, as in `other_network`.
        used_at: when a caller last needed more than a hit (``Clock.now``).
        is_dropped: whether the token cache has dropped it.
    """

    __slots__ = (
        "access_token", "access_token_info", "answered", "answering", "challenge", "failure",
        "failure_until", "flights", "generation", "hit_until", "is_dropped", "key", "leased",
        "network", "published", "token", "used_at", "version",
    )  # fmt: skip

    def __init__(self, key: Key, network: str, now: float) -> None:
        self.key: Key = key
        self.network: str = network
        self.used_at: float = now
        self.is_dropped: bool = False
        self.published: Token | None = None
        self.access_token: Any = None
        self.access_token_info: Any = None
        self.leased: set[Key] = set()
        self.clear()

    def clear(self) -> None:
        """Drop the token, and the results of fetches in progress."""
        self.hit_until: float = NEVER
        self.token: Token | None = None
        self.failure: Failure | None = None
        self.failure_until: float = NEVER
        self.challenge: Challenge | None = None
        self.answering: Token | None = None
        self.answered: set[weakref.ref[object]] = set()
        self.version: object = None
        self.flights: dict[str | None, Flight] = {}
        self.generation: int = next(_generations)

    def is_unused(self, now: float) -> bool:
        """Return whether it has neither a valid token nor other state, and was not used lately."""
        return (
            now >= self.used_at + UNUSED_SECONDS
            and now >= self.failure_until
            and not (self.flights or self.leased)
            and (self.challenge is None or now >= self.challenge.until)
            and decide(self.token, now) is State.EXPIRED
        )

    def check_wall_time(self, now: float, wall: float) -> None:
        """Drop a token that has expired by the wall clock; correct one from a clock that was ahead.

        In a virtual machine that was suspended or moved, the other clocks may have stood still.

        Args:
            now: the time (``Clock.now``).
            wall: the Unix time (``Clock.wall``), read after ``now``.
        """
        if self.token is not None and wall >= self.token.expires_on:
            self.hit_until = NEVER
            self.token = None
        elif self.token is not None:
            self.token = self.token.at_wall_time(now, wall)

    def valid_token(self, now: float) -> Token | None:
        """Return the current token if it is valid; raise the failure of a recent fetch."""
        if decide(self.token, now) is not State.EXPIRED:
            return self.token
        if self.failure is not None and now < self.failure_until:
            raise self.failure.copy()
        return None

    def answer(self, claims: str, caller: weakref.ref[object], now: float) -> Token | None:
        """Return the current token if it satisfies ``claims`` and was not rejected."""
        token, challenge = self.token, self.challenge
        if not answers_challenge(token, claims, challenge, now):
            return None
        if challenge is not None and challenge.answers(claims, now):
            is_older = self.answering is not None and is_later(self.answering, token)
            if is_older or caller in self.answered:
                return None
        else:
            self._set_challenge(Challenge(claims, now + ANSWER_SECONDS))
        self.answered.add(caller)
        return token

    def publish(self, token: Token, forms: tuple[Any, Any], hit_until: float) -> None:
        """Cache both public types of ``token`` for a while, if it is the current token."""
        if self.token is token:
            self.access_token, self.access_token_info = forms
            self.published = token
            self.hit_until = hit_until

    def join_or_start(self, flight: Flight, caller: weakref.ref[object], *, blocks: bool) -> Flight:
        """Return the flight to wait for: a usable one in progress, else ``flight``."""
        current = self.flights.get(flight.claims)
        if current is None or current.is_unusable(flight.since, blocks=blocks):
            current = self.flights[flight.claims] = flight
        current.callers.add(caller)
        return current

    def store_result(
        self, flight: Flight, outcome: Outcome, now: float, random: float
    ) -> tuple[Token | None, bool]:
        """Store the outcome of ``flight``, unless the entry was cleared since it started.

        Returns:
            The current token, and whether a refresh failed while it is still valid.
        """
        if self.flights.get(flight.claims) is flight:
            del self.flights[flight.claims]
        failed_refresh = False
        if self.generation == flight.generation and not isinstance(outcome, Interrupted):
            failed_refresh = self._store(flight, outcome, now, random)
        return self.token, failed_refresh

    def adopt(
        self, token: Token, challenge: Challenge | None, generation: int | None = None
    ) -> None:
        """Store another process's token and challenge, read when ``generation`` was current."""
        if generation not in (None, self.generation):
            return
        if self.token is None or is_later(token, self.token):
            self._keep(token)
        # Otherwise this process's token is not the one that answered the challenge.
        if challenge is not None and (challenge.failure or self.token == token):
            self._set_challenge(challenge)

    def reset_after_fork(self) -> None:
        """Keep only the token in a forked child, whatever the parent's threads were doing."""
        self.hit_until = NEVER
        self.published = None
        self.flights = {}
        self.leased = set()
        # A greenlet that the fork has copied may complete a flight of the parent.
        self.generation = next(_generations)

    def _store(self, flight: Flight, outcome: Token | Failure, now: float, random: float) -> bool:
        """Store an outcome; return whether a refresh failed while the token is still valid."""
        failure = outcome if isinstance(outcome, Failure) else None
        if not isinstance(outcome, Failure) and not self._is_outdated(outcome, flight, now):
            self._keep(outcome)
        is_valid = decide(self.token, now) is not State.EXPIRED
        if failure and failure.reason is Reason.LOCAL_RESOURCES and (flight.claims or not is_valid):
            return False  # the next call may succeed: another thread may have closed its files
        if flight.claims is not None:
            seconds = FAILURE_SECONDS if failure else ANSWER_SECONDS
            self._set_challenge(Challenge(flight.claims, now + seconds, failure))
            self.answered |= flight.callers
            # A plain fetch that is still in progress may return the token that was refused.
            self.generation = next(_generations)
        elif failure and self.token and is_valid:
            self.hit_until = NEVER
            self.token = back_off(self.token, now, random, failure.retry_after)
            return True
        elif failure:
            self.failure, self.failure_until = failure, now + FAILURE_SECONDS
        return False

    def _is_outdated(self, token: Token, flight: Flight, now: float) -> bool:
        """Return whether another process has a later token: the current one may be revoked."""
        if flight.claims is not None or decide(self.token, now) is State.EXPIRED:
            return False
        return self.token is not None and is_later(self.token, token)

    def _keep(self, token: Token) -> None:
        self.hit_until = NEVER
        self.token = token
        self.failure = None
        self.failure_until = NEVER

    def _set_challenge(self, challenge: Challenge) -> None:
        if challenge != self.challenge:
            self.challenge, self.answering, self.answered = challenge, self.token, set()


class Entries:
    """The entries of a token cache, by key. The token cache holds its lock during each call."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[Key, CacheEntry] = {}

    def get(self, key: Key, network: str) -> CacheEntry:
        """Return the one entry of ``key``; before adding it, drop some unused ones."""
        entry = self._entries.get(key)
        if entry is None:
            now = self._clock.now()
            drop_unused(self._entries, lambda entry: entry.is_unused(now))
            entry = self._entries[key] = CacheEntry(key, network, now)
        return entry

    def restore(self, entry: CacheEntry, now: float) -> CacheEntry:
        """Return ``entry``, added again if it was dropped, or else the entry that replaced it."""
        current = self._entries.setdefault(entry.key, entry)
        current.is_dropped, current.used_at = False, now
        return current

    def clear(self) -> None:
        """Drop all tokens, and the results of fetches in progress."""
        for entry in self._entries.values():
            entry.clear()

    def disable_hits(self) -> None:
        """Have each token checked before it is returned."""
        for entry in self._entries.values():
            entry.hit_until = NEVER

    def reset_after_fork(self) -> None:
        """Keep only tokens in a forked child."""
        for entry in list(self._entries.values()):
            entry.reset_after_fork()


def drop_unused(entries: dict[Any, CacheEntry], is_unused: Callable[[CacheEntry], bool]) -> None:
    """Examine the first few ``entries``: remove unused ones, and move the others to the end.

    Call it before each insertion, so that unused entries do not accumulate.
    """
    with suppress(RuntimeError):  # another thread has changed the dictionary
        for name in list(itertools.islice(entries, _EXAMINED)):
            entry = entries.pop(name, None)
            if entry is not None and is_unused(entry):
                entry.is_dropped = True
            elif entry is not None:
                entries[name] = entry
