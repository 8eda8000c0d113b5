"""One fetch and all who wait for it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.failure import Failure
    from .._core.key import Key
    from .._core.token import Token

LONGEST_FETCH = 150.0
"""Seconds after which those who wait for a fetch give it up. The longest sound one, by a service
that is overloaded or being updated, ends within two minutes."""

Fetch: TypeAlias = "Callable[[], Token]"


class Interrupted(Exception):
    """Whoever was fetching was stopped; those who waited ask anew."""


Outcome: TypeAlias = "Token | Failure | Interrupted"


class Flight:
    """One fetch and all who wait for it.

    A thread of its own makes it, never one of those who wait: Python runs signal handlers in the
    main thread, and one that raises there must not end what others wait for. For the same reason
    there is no condition and no event in here: both can be left locked by such an exception.

    Attributes:
        key: which token it is for.
        claims: the claims challenge that it answers, or None.
        callers: who waits for the answer to that, as in ``Slot.answered``.
        fetch: gets the token.
        generation: that of the slot when it began.
        since: when it was wanted first (``Clock.now``).
        needs: the thread that must not wait for it, because the fetch needs its event loop.
        begun: whether somebody makes it.
        outcome: what came of it, once it is over.
    """

    __slots__ = (
        "_callbacks", "begun", "callers", "claims", "fetch", "generation", "key", "needs",
        "outcome", "since",
    )  # fmt: skip

    def __init__(
        self,
        key: Key,
        generation: int,
        claims: str | None,
        fetch: Fetch,
        since: float,
        needs: int = 0,
    ) -> None:
        self.key = key
        self.claims = claims
        self.fetch = fetch
        self.generation = generation
        self.since = since
        self.needs = needs
        self.begun = False
        self.callers: set[object] = set()
        self.outcome: Outcome | None = None
        self._callbacks: list[Callable[[], object]] = []

    def is_no_use(self, now: float, *, blocks: bool) -> bool:
        """Whether who asks at ``now`` needs another: this one hangs, or would if he blocks."""
        overdue = now >= self.since + LONGEST_FETCH
        return overdue or (blocks and self.needs == threading.get_ident())

    def land(self, outcome: Outcome) -> None:
        """Let everybody know."""
        self.outcome = outcome
        self._call_back()

    def when_landed(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` once there is an outcome: now, or in the thread that brings it."""
        self._callbacks.append(callback)
        if self.outcome is not None:
            self._call_back()

    def wait(self, seconds: float) -> bool:
        """Wait for the outcome, for so long at the most; whether it is there."""
        landed = threading.Lock()
        landed.acquire()
        self.when_landed(landed.release)
        return landed.acquire(timeout=seconds)

    def _call_back(self) -> None:
        # pop is atomic: whoever else is in here at the same moment calls the others.
        while self._callbacks:
            try:
                callback = self._callbacks.pop()
            except IndexError:
                return
            callback()
