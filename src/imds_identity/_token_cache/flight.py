"""One fetch and all who wait for it."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress

from .._platform.named_tuple import NamedTuple
from .._platform.threads import start_thread
from .._shared_cache.lease import LONGEST_LEASE_SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import weakref
    from collections.abc import Callable
    from typing import Any, Protocol, TypeAlias

    from .._core.failure import Failure
    from .._core.key import Key
    from .._core.token import Token

    class Start(Protocol):
        """Runs a callable in the background."""

        def __call__(self, run: Callable[[], object], /, *, blocks: bool) -> None:
            """Start ``run``, which the caller is about to wait for if ``blocks``.

            Raises:
                RuntimeError: if there can be no more threads.
            """


LONGEST_EXCHANGE = 100.0
"""Seconds for which a service that is overloaded or being updated is asked again and again."""
LONGEST_FETCH = LONGEST_LEASE_SECONDS
"""Seconds after which those who wait for a fetch, of this process or of another, give it up. The
longest sound one is an exchange whose last request begins at its end and waits before the gate."""

Fetch: TypeAlias = "Callable[[], Token]"


def in_a_thread(run: Callable[[], object], *, blocks: bool) -> None:  # noqa: ARG001
    """The `Start` of every process: in a thread of its own, whoever waits for it."""
    start_thread(run)


class Interrupted(Exception):
    """Whoever was fetching was stopped; those who waited ask anew."""


Outcome: TypeAlias = "Token | Failure | Interrupted"


class FetchResult(NamedTuple):
    """What came of a flight, for those whom that may interest.

    Attributes:
        outcome: a token or a failure.
        token: the present token, good or not.
        now: when that was (``Clock.now``).
        seconds: how long it took since it was wanted first.
        refreshed: whether there was a good token all the while.
    """

    outcome: Token | Failure
    token: Token | None
    now: float
    seconds: float
    refreshed: bool


OnResult: TypeAlias = "Callable[[FetchResult], object]"


class Flight:
    """One fetch and all who wait for it.

    A thread of its own makes it, never one of those who wait: Python runs signal handlers in the
    main thread, and one that raises there must not end what others wait for. For the same reason
    there is no condition and no event in here: both can be left locked by such an exception.

    Attributes:
        key: which token it is for.
        claims: the claims challenge that it answers, or None.
        callers: who waits for the answer to that, as in ``CacheEntry.answered``.
        fetch: gets the token.
        generation: that of the slot when it began.
        since: when it was wanted first (``Clock.now``).
        needs: the thread that must not wait for it, because the fetch needs its event loop.
        started: whether somebody makes it.
        refreshes: whether there is a good token meanwhile.
        on_result: is called once it is over and everybody knows, if anything is.
        outcome: what came of it, once it is over.
    """

    __slots__ = (
        "_callbacks",
        "callers",
        "claims",
        "fetch",
        "generation",
        "key",
        "needs",
        "on_result",
        "outcome",
        "refreshes",
        "since",
        "started",
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
        self.started = False
        self.refreshes = False
        self.on_result: OnResult | None = None
        self.callers: set[weakref.ref[Any]] = set()
        self.outcome: Outcome | None = None
        self._callbacks: list[Callable[[], object]] = []

    def begin(self) -> bool:
        """Note that somebody makes it; whether nobody did before."""
        is_first, self.started = not self.started, True
        return is_first

    def is_unusable(self, now: float, *, blocks: bool) -> bool:
        """Whether who asks at ``now`` needs another: this one hangs, or would if he blocks."""
        return self.is_overdue(now) or (blocks and self.needs == threading.get_ident())

    def is_overdue(self, now: float) -> bool:
        """Whether no sound fetch takes so long, or the threads of this process have ended."""
        return now >= self.since + LONGEST_FETCH or sys.is_finalizing()

    def complete(self, outcome: Outcome) -> None:
        """Let everybody know."""
        self.outcome = outcome
        self._call_back()

    def add_done_callback(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` once there is an outcome: now, or in the thread that brings it."""
        self._callbacks.append(callback)
        if self.outcome is not None:
            self._call_back()

    def forget(self, callback: Callable[[], object]) -> None:
        """Do not call ``callback`` any more: who waited does not."""
        with suppress(ValueError):
            self._callbacks.remove(callback)

    def wait(self, seconds: float) -> None:
        """Wait for the outcome, for so long at the most."""
        completed = threading.Lock()
        completed.acquire()
        self.add_done_callback(completed.release)
        completed.acquire(timeout=seconds)
        self.forget(completed.release)

    def _call_back(self) -> None:
        # pop is atomic: whoever else is in here at the same moment calls the others.
        while self._callbacks:
            try:
                callback = self._callbacks.pop()
            except IndexError:
                return
            callback()
