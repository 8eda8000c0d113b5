"""A flight: one fetch in progress, and the callers that wait for it."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from typing import NamedTuple

from .._core.failure import Failure, Reason, Refused
from .._core.freshness import State, decide
from .._http.local_errors import unexpected_failure
from .._platform.locks import holds_brief_lock
from .._platform.threads import start_thread
from .._shared_cache.lease import LONGEST_LEASE_SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import weakref
    from collections.abc import Callable
    from typing import Protocol, TypeAlias

    from .._core.key import Key
    from .._core.token import Token

    class Start(Protocol):
        """Runs a callable in the background."""

        def __call__(self, run: Callable[[], object], /, *, blocks: bool) -> None:
            """Start ``run``; ``blocks`` means that the caller waits for it.

            Raise RuntimeError if no thread can be started.
            """


LONGEST_EXCHANGE = 100.0
"""Seconds for which an exchange retries while the service is overloaded or being updated."""
LONGEST_FETCH = LONGEST_LEASE_SECONDS
"""Seconds after which waiters give up on a fetch of this process or of another. The longest
regular one is an exchange whose last request starts at its end and waits for the rate limit."""
POLL_SECONDS = 0.5
"""Seconds after which a waiter checks that its flight has been started."""

Fetch: TypeAlias = "Callable[[], Token]"


def in_a_thread(run: Callable[[], object], *, blocks: bool) -> None:  # noqa: ARG001
    """Run ``run`` in a new thread, even if the caller waits for it: the default `Start`."""
    start_thread(run)


class Interrupted(Exception):
    """The fetch was stopped without a result; its waiters try again."""


Outcome: TypeAlias = "Token | Failure | Interrupted"


class FetchResult(NamedTuple):
    """The result of a flight, for logs and hooks.

    Attributes:
        outcome: a token or a failure.
        token: the current token, valid or not.
        now: when the flight was completed (``Clock.now``).
        seconds: how long it took from the first request for it.
        refreshed: whether there was a valid token throughout.
    """

    outcome: Token | Failure
    token: Token | None
    now: float
    seconds: float
    refreshed: bool


OnResult: TypeAlias = "Callable[[FetchResult], object]"


class Flight:
    """One fetch in progress, and the callers that wait for it.

    It runs in a separate thread, never in that of a waiter: Python runs signal handlers in the
    main thread, and one that raises there must not end a fetch that other callers wait for. It
    uses no Condition and no Event for the same reason: such an exception can leave both locked.

    Attributes:
        key: the key of the token.
        claims: the claims challenge that it is for, or None.
        callers: the callers that wait for that token, as in ``CacheEntry.answered``.
        fetch: returns the token.
        generation: the generation of the entry when the flight was created.
        since: when it was first requested (``Clock.now``).
        process: the ID of the process that runs it; a forked child has no such thread.
        needs: the thread that must not wait for it, because the fetch needs its event loop.
        started: whether a thread runs it.
        refreshes: whether there is a valid token in the meantime.
        on_result: called after it is complete and all waiters were woken.
        outcome: its result, once it is complete.
        waiters: one object for each caller that waits; a flight in the queue needs one.
    """

    __slots__ = (
        "_callbacks", "callers", "claims", "fetch", "generation", "key", "needs", "on_result",
        "outcome", "process", "refreshes", "since", "started", "waiters",
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
        self.key: Key = key
        self.claims: str | None = claims
        self.fetch: Fetch = fetch
        self.generation: int = generation
        self.since: float = since
        self.needs: int = needs
        self.process: int = os.getpid()
        self.started: bool = False
        self.refreshes: bool = False
        self.on_result: OnResult | None = None
        self.callers: set[weakref.ref[object]] = set()
        self.outcome: Outcome | None = None
        self.waiters: set[object] = set()
        self._callbacks: list[Callable[[], object]] = []

    def start(self) -> bool:
        """Mark it as started; return False if it was started before."""
        is_first, self.started = not self.started, True
        return is_first

    def is_unusable(self, now: float, *, blocks: bool) -> bool:
        """Return whether a caller needs another flight: this one hangs, or would hang."""
        would_hang = blocks and self.needs == threading.get_ident()
        is_over = self.outcome is not None  # and could not be stored
        return would_hang or is_over or self.is_overdue(now) or self.is_lost()

    def is_lost(self) -> bool:
        """Return whether another process runs it: this one was forked in the meantime."""
        return self.process != os.getpid()

    def is_abandoned(self, now: float) -> bool:
        """Return whether no caller waits any more for this flight, which was in the queue."""
        if self.refreshes or self.waiters:
            return self.is_overdue(now)
        return now >= self.since + POLL_SECONDS

    def is_overdue(self, now: float) -> bool:
        """Return whether it takes longer than any regular fetch, or threads no longer run."""
        return now >= self.since + LONGEST_FETCH or sys.is_finalizing()

    def timeout_error(self, waited: float = LONGEST_FETCH) -> Refused:
        """Return the error for a caller that has waited for ``waited`` seconds."""
        seconds = f"{waited:.0f} s"
        if not self.started:
            return Refused(
                f"the fetch did not start within {seconds}: earlier ones are still in progress",
                "The service is slow, or the program requests too many different tokens at once.",
                reason=Reason.TIMEOUT,
            )
        return Refused(
            f"the fetch in progress did not finish within {seconds}",
            "A transport or a hook may hang. The next call starts another fetch.",
            reason=Reason.TIMEOUT,
        )

    @staticmethod
    def interrupted_error(tries: int) -> Refused:
        """Return the error for a caller that has waited for ``tries`` flights."""
        return Refused(
            f"the fetch was interrupted {tries} times, or its token had expired on arrival",
            "Its thread, its event loop or this process was stopped, or a hook raised an exception "
            "that is not an Exception.",
            reason=Reason.INTERRUPTED,
        )

    @staticmethod
    def recursion_error() -> Refused:
        """Return the error for a caller inside this flight, which cannot wait for it."""
        return Refused(
            "a fetch requested the very token that it is fetching",
            "A hook or a transport uses this credential: give it another one.",
            reason=Reason.RECURSIVE,
        )

    def result(self, now: float) -> Token | None:
        """Return the token of a completed flight, or None to try again; raise its failure."""
        outcome = self.outcome
        if isinstance(outcome, Failure):
            raise outcome.copy()
        if outcome is None or isinstance(outcome, Interrupted):
            return None
        # The waiter may have been suspended for longer than the token is valid.
        return None if decide(outcome, now) is State.EXPIRED else outcome

    def run(
        self,
        complete: Callable[[Outcome], object],
        is_abandoned: Callable[[], bool] = lambda: False,
    ) -> None:
        """Fetch the token, unless ``is_abandoned`` returns True, and call ``complete``."""
        outcome: Outcome = Interrupted()
        try:
            if not is_abandoned():
                outcome = self.fetch()
        except (Failure, Interrupted) as error:
            outcome = error.with_traceback(None)
        except Exception as error:  # noqa: BLE001 - callers get a documented error
            outcome = unexpected_failure(error)
        finally:  # after any other exception the waiters try again
            complete(outcome)

    def complete(self, outcome: Outcome) -> None:
        """Set the outcome and wake every waiter."""
        self.outcome = outcome
        self._call_back()

    def add_done_callback(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` once there is an outcome: now, or in the thread that completes it."""
        self._callbacks.append(callback)
        if self.outcome is not None:
            self._call_back()

    def remove_done_callback(self, callback: Callable[[], object]) -> None:
        """Undo `add_done_callback`."""
        with suppress(ValueError):
            self._callbacks.remove(callback)

    def wait(self, seconds: float) -> None:
        """Wait for the outcome, for ``seconds`` at most.

        A thread that holds a lock must not wait for threads that need it: it fetches the token.
        """
        if holds_brief_lock():
            self.started = True
            self.run(self.complete)
            return
        done = threading.Lock()
        done.acquire()
        self.add_done_callback(done.release)
        done.acquire(timeout=seconds)
        self.remove_done_callback(done.release)

    def _call_back(self) -> None:
        # pop is atomic: another thread that is in here at the same time calls the other callbacks.
        while self._callbacks:
            try:
                callback = self._callbacks.pop()
            except IndexError:
                return
            callback()
