"""One fetch per machine: what another process of this user has fetched, else one fetch for all."""

from __future__ import annotations

from contextlib import contextmanager

from .._core.claims import ANSWER_SECONDS, Challenge, was_issued_after
from .._core.failure import Failure
from .._core.freshness import FAILURE_SECONDS, State, back_off, decide
from .._shared_cache.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._core.token import Token
    from .._http.exchange import Random
    from .._http.runner import Heartbeat
    from .._shared_cache.lease import Lease
    from .._shared_cache.store import SharedCache
    from .entry import CacheEntry


class SharedFetch:
    """One fetch, that of this process or of another.

    Args:
        shared_cache: where the processes meet.
        entry: whose token.
        random: spreads what follows a failure.
    """

    def __init__(self, shared_cache: SharedCache, entry: CacheEntry, random: Random) -> None:
        self._shared_cache = shared_cache
        self._slot = entry
        self._random = random
        self._generation = entry.generation

    def get(self, fetch: Callable[[Heartbeat], Token], claims: str | None) -> Token:
        """A token better than the one this process holds, from another process or by ``fetch``.

        Args:
            fetch: asks the service.
            claims: the claims challenge that refused what is held.

        Raises:
            Failure: this process's own, or that of another which was waited for.
        """
        with self._lease(claims) as lease:
            if token := self._usable_record(claims):
                return token
            try:
                token = fetch(lease.extend if lease else _no_heartbeat)
            except Failure as failure:
                if lease:
                    self._shared_cache.write(self._record_after(failure, claims))
                raise
            # After clear_cache(), called while this was fetched, nothing of before is to come back.
            if lease and self._slot.generation == self._generation:
                challenge = Challenge(claims, self._now() + ANSWER_SECONDS) if claims else None
                self._shared_cache.write(Record(self._slot.key, token, challenge=challenge))
            return token

    @contextmanager
    def _lease(self, claims: str | None) -> Iterator[Lease | None]:
        """The machine's lease for this fetch, or None for "go without".

        One who answers a claims challenge has another lease than those who refresh: nobody who
        asks without claims is made to wait for it.
        """
        key = self._slot.key._replace(claims=claims or "")
        leased = self._slot.leased
        if key in leased:  # by a fetch of this very process, which must not be waited for
            yield None
            return
        with self._shared_cache.leased(self._shared_cache.name_of(key)) as lease:
            leased.add(key)
            try:
                yield lease
            finally:
                leased.discard(key)

    def _usable_record(self, claims: str | None) -> Token | None:
        """What is worth having of what others have left.

        Raises:
            Failure: that of another process, a moment ago.
        """
        record = self._shared_cache.read(self._slot.key)
        if record is None:
            return None
        now = self._now()
        if claims is not None:
            return token_for_challenge(record, claims, now)
        state = decide(record.token, now)
        nothing_held = decide(self._slot.token, now) is State.EXPIRED
        if state is State.FRESH or (state is State.DUE and nothing_held):
            return record.token
        if record.failure is not None and now < record.failure_until <= now + FAILURE_SECONDS:
            raise record.failure.copy()
        return None

    def _record_after(self, failure: Failure, claims: str | None) -> Record:
        """What others are to know: to leave the service alone, or why there is no token."""
        key, now = self._slot.key, self._now()
        record = self._shared_cache.read(key)
        token = record.token if record and decide(record.token, now) is not State.EXPIRED else None
        if claims is not None:
            challenge = Challenge(claims, now + FAILURE_SECONDS, failure)
            return Record(key, token, challenge=challenge)
        if token is not None:
            return Record(key, back_off(token, now, self._random(), failure.retry_after))
        return Record(key, failure=failure, failure_until=now + FAILURE_SECONDS)

    def _now(self) -> float:
        return self._shared_cache.clock.now()


def token_for_challenge(record: Record, claims: str, now: float) -> Token | None:
    """The token in ``record``, if it answers a claims challenge.

    Args:
        record: what another process has left.
        claims: the challenge.
        now: the time (``Clock.now``).

    Raises:
        Failure: if the same challenge was taken to the service in vain a moment ago.
    """
    challenge = record.challenge
    if challenge is not None and challenge.answers(claims, now) and challenge.failure is not None:
        raise challenge.failure.copy()
    token = record.token
    if token is None or decide(token, now) is State.EXPIRED:
        return None
    same = challenge is not None and challenge.answers(claims, now)
    answers = same or was_issued_after(token.value, claims)
    return token if answers else None


def _no_heartbeat(_seconds: float) -> None:
    """There is no lease that would have to be extended."""
