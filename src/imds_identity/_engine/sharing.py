"""One fetch per machine: what another process of this user has fetched, else one fetch for all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._core.failure import Failure
from .._core.freshness import FAILURE_SECONDS, State, decide
from .._machine.entries import Entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.key import Key
    from .._core.token import Token
    from .._machine.store import MachineCache
    from .._wire.channel import Expect
    from .._wire.exchange import Random
    from .broker import Slot


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
            claims: the claims challenge that refused what is held, here and by others.

        Raises:
            Failure: this process's own, or that of another which was waited for.
        """
        key = self._slot.key
        with self._machine.leased(self._machine.name_of(key)) as lease:
            if token := self._found(claims):
                return token
            try:
                token = fetch(lease.extend if lease else _nobody)
            except Failure as failure:
                if lease and not claims:
                    self._machine.write(self._entry_after(failure))
                raise
            # Whoever forgot everything in the meantime does not want this one back.
            if lease and self._slot.generation == self._generation:
                self._machine.write(Entry(key, token))
            return token

    def _found(self, claims: str | None) -> Token | None:
        """What is worth having of what others have left.

        Raises:
            Failure: that of another process, a moment ago.
        """
        entry = None if claims else self._machine.read(self._slot.key)
        if entry is None:
            return None
        now = self._machine.clock.now()
        state = decide(entry.token, now)
        nothing_held = decide(self._slot.token, now) is State.EXPIRED
        if state is State.FRESH or (state is State.DUE and nothing_held):
            return entry.token
        if entry.failure is not None and now < entry.failure_until <= now + FAILURE_SECONDS:
            raise entry.failure.again()
        return None

    def _entry_after(self, failure: Failure) -> Entry:
        """What others are to know: to leave the service alone, or why there is no token."""
        key, now = self._slot.key, self._machine.clock.now()
        token = glance(self._machine, key)
        if token is not None:
            return Entry(key, token.set_back(now, self._random(), failure.retry_after))
        return Entry(key, failure=failure, failure_until=now + FAILURE_SECONDS)


def glance(machine: MachineCache, key: Key) -> Token | None:
    """A token that another process left and that has not expired."""
    entry = machine.read(key)
    if entry is None or decide(entry.token, machine.clock.now()) is State.EXPIRED:
        return None
    return entry.token


def _nobody(_seconds: float) -> None:
    """There is no lease that would have to be extended."""
