"""One fetch per machine: take the lease, look for another process's token, exchange, publish."""

from __future__ import annotations

from contextlib import contextmanager

from .._core.claims import ANSWER_SECONDS, Challenge, answers_challenge
from .._core.failure import Failure
from .._core.freshness import FAILURE_SECONDS, State, back_off, decide
from .._shared_cache.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from .._core.token import Token
    from .._http.exchange import Random
    from .._http.runner import Heartbeat
    from .._shared_cache.lease import Lease
    from .._shared_cache.store import SharedCache
    from .entry import CacheEntry

    Exchange: TypeAlias = Callable[[Heartbeat], Token]


class Fetch:
    """A callable that returns another process's token, or requests a new one.

    Attributes:
        looks_first: whether to look for another process's token, because the caller has not.
        is_fresh: whether to ignore another process's token.
    """

    def __init__(
        self,
        entry: CacheEntry,
        claims: str | None,
        exchange: Exchange,
        shared_cache: SharedCache | None,
        random: Random,
    ) -> None:
        self._entry = entry
        self._claims = claims
        self._exchange = exchange
        self._shared_cache = shared_cache
        self._random = random
        self._generation = entry.generation
        self._token, self._challenge = entry.token, entry.challenge
        self.looks_first = False
        self.is_fresh = False

    def __call__(self) -> Token:
        """Return another process's token, or request one and share it; failures are shared, too."""
        shared_cache = self._shared_cache
        if shared_cache is None:
            return self._exchange(_no_heartbeat)
        if self.looks_first and (token := self._shared_token(shared_cache)):
            return token
        with self._lease(shared_cache) as lease:
            if token := self._shared_token(shared_cache):
                return token
            try:
                token = self._exchange(lease.extend if lease else _no_heartbeat)
            except Failure as failure:
                if lease and not failure.is_local:
                    self._publish_failure(shared_cache, failure)
                raise
            if lease:
                self._publish(shared_cache, token)
            return token

    @contextmanager
    def _lease(self, shared_cache: SharedCache) -> Iterator[Lease | None]:
        """Hold the lease for this fetch; yield None to proceed without one.

        A claims challenge has a lease of its own: callers without claims do not wait for it.
        """
        key = self._entry.key._replace(claims=self._claims or "")
        leased = self._entry.leased
        if key in leased:  # another fetch of this process holds it, and must not be waited for
            yield None
            return
        with shared_cache.leased(shared_cache.name_of(key)) as lease:
            leased.add(key)
            try:
                yield lease
            finally:
                leased.discard(key)

    def _shared_token(self, shared_cache: SharedCache) -> Token | None:
        """Return another process's token if it is usable; raise that process's recent failure."""
        record = None if self.is_fresh else shared_cache.read(self._entry.key)
        if record is None:
            return None
        token, now = record.token, shared_cache.clock.now()
        if self._claims is not None:
            answers = answers_challenge(token, self._claims, record.challenge, now)
            return token if answers and not self._was_rejected(token, now) else None
        state = decide(token, now)
        has_token = decide(self._entry.token, now) is not State.EXPIRED
        if state is State.FRESH or (state is State.DUE and not has_token):
            return token
        if record.failure is not None and now < record.failure_until <= now + FAILURE_SECONDS:
            raise record.failure.copy()
        return None

    def _was_rejected(self, token: Token | None, now: float) -> bool:
        """Return whether ``token`` had answered the claims before this fetch was requested."""
        known, challenge = self._token, self._challenge
        if token is None or known is None or challenge is None or self._claims is None:
            return False
        return challenge.answers(self._claims, now) and token.value == known.value

    def _publish(self, shared_cache: SharedCache, token: Token) -> None:
        if self._entry.generation != self._generation:
            return  # clear_cache() was called during the exchange
        challenge = None
        if self._claims is not None:
            challenge = Challenge(self._claims, shared_cache.clock.now() + ANSWER_SECONDS)
        shared_cache.write(Record(self._entry.key, token, challenge=challenge))

    def _publish_failure(self, shared_cache: SharedCache, failure: Failure) -> None:
        """Publish the failure, so that other processes back off."""
        key, now = self._entry.key, shared_cache.clock.now()
        record = shared_cache.read(key)
        token = record.token if record and decide(record.token, now) is not State.EXPIRED else None
        if self._claims is not None:
            challenge = Challenge(self._claims, now + FAILURE_SECONDS, failure)
            update = Record(key, token, challenge=challenge)
        elif token is not None:
            update = Record(key, back_off(token, now, self._random(), failure.retry_after))
        else:
            update = Record(key, failure=failure, failure_until=now + FAILURE_SECONDS)
        shared_cache.write(update)


def _no_heartbeat(_seconds: float) -> None:
    """Do nothing: there is no lease to extend."""
