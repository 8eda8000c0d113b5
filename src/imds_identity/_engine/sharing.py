"""One fetch per machine: what another process of this user has fetched, else one fetch for all."""

from __future__ import annotations

from contextlib import contextmanager

from .._core.challenge import ANSWER_SECONDS, Challenge, was_issued_after
from .._core.failure import Failure
from .._core.freshness import FAILURE_SECONDS, State, decide, set_back
from .._machine.entries import Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._core.token import Token
    from .._machine.lease import Lease
    from .._machine.store import MachineCache
    from .._wire.channel import Expect
    from .._wire.exchange import Random
    from .slot import Slot


class Sharing:
    """One fetch, that of this process or of another.

    Args:
        machine: where the processes meet.
        slot: whose token.
        random: spreads what follows a failure.
    """

    def __init__(self, machine: MachineCache, slot: Slot, random: Random) -> None:
        self._machine = machine
        self._slot = slot
        self._random = random
        self._generation = slot.generation

    def get(self, fetch: Callable[[Expect], Token], claims: str | None) -> Token:
        """A token better than the one this process holds, from another process or by ``fetch``.

        Args:
            fetch: asks the service.
            claims: the claims challenge that refused what is held.

        Raises:
            Failure: this process's own, or that of another which was waited for.
        """
        with self._lease(claims) as lease:
            if token := self._found(claims):
                return token
            try:
                token = fetch(lease.extend if lease else _nobody)
            except Failure as failure:
                if lease:
                    self._machine.write(self._entry_after(failure, claims))
                raise
            # After clear_cache(), called while this was fetched, nothing of before is to come back.
            if lease and self._slot.generation == self._generation:
                challenge = Challenge(claims, self._now() + ANSWER_SECONDS) if claims else None
                self._machine.write(Entry(self._slot.key, token, challenge=challenge))
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
        with self._machine.leased(self._machine.name_of(key)) as lease:
            leased.add(key)
            try:
                yield lease
            finally:
                leased.discard(key)

    def _found(self, claims: str | None) -> Token | None:
        """What is worth having of what others have left.

        Raises:
            Failure: that of another process, a moment ago.
        """
        entry = self._machine.read(self._slot.key)
        if entry is None:
            return None
        now = self._now()
        if claims is not None:
            return answer_in(entry, claims, now)
        state = decide(entry.token, now)
        nothing_held = decide(self._slot.token, now) is State.EXPIRED
        if state is State.FRESH or (state is State.DUE and nothing_held):
            return entry.token
        if entry.failure is not None and now < entry.failure_until <= now + FAILURE_SECONDS:
            raise entry.failure.again()
        return None

    def _entry_after(self, failure: Failure, claims: str | None) -> Entry:
        """What others are to know: to leave the service alone, or why there is no token."""
        key, now = self._slot.key, self._now()
        entry = self._machine.read(key)
        token = entry.token if entry and decide(entry.token, now) is not State.EXPIRED else None
        if claims is not None:
            challenge = Challenge(claims, now + FAILURE_SECONDS, failure)
            return Entry(key, token, challenge=challenge)
        if token is not None:
            return Entry(key, set_back(token, now, self._random(), failure.retry_after))
        return Entry(key, failure=failure, failure_until=now + FAILURE_SECONDS)

    def _now(self) -> float:
        return self._machine.clock.now()


def answer_in(entry: Entry, claims: str, now: float) -> Token | None:
    """The token in ``entry``, if it answers a claims challenge.

    Args:
        entry: what another process has left.
        claims: the challenge.
        now: the time (``Clock.now``).

    Raises:
        Failure: if the same challenge was taken to the service in vain a moment ago.
    """
    challenge = entry.challenge
    if challenge is not None and challenge.answers(claims, now) and challenge.failure is not None:
        raise challenge.failure.again()
    token = entry.token
    if token is None or decide(token, now) is State.EXPIRED:
        return None
    same = challenge is not None and challenge.answers(claims, now)
    answers = same or was_issued_after(token.value, claims)
    return token if answers else None


def _nobody(_seconds: float) -> None:
    """There is no lease that would have to be extended."""
