"""The threads that fetch tokens: a few for each endpoint; further fetches wait in order.

Without a bound, a program that needs 300 tokens at once would start 300 threads, each with several
open files, and the service would throttle their requests. A running fetch never waits for a queued
one: code that runs inside a fetch, such as a hook, does not use the queue. If such code waits for
a token in a thread of its own, which cannot be recognized, `STALL_SECONDS` end the wait.
"""

from __future__ import annotations

import functools
from collections import OrderedDict

from .._platform.locks import BriefLock
from .._platform.threads import mark_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from .._platform.clock import Clock
    from .flight import Flight, Start

    Run: TypeAlias = Callable[[], object]

MOST_WORKERS = 8
"""Threads for each endpoint. IMDS accepts fewer requests; some threads wait for other processes."""
STALL_SECONDS = 5.0
"""If no fetch starts for this many seconds, a waiting caller adds one more thread."""


class FetchPool:
    """Runs flights in a few threads for each endpoint; a thread ends when no flight waits."""

    def __init__(self, clock: Clock, start: Start) -> None:
        self._clock = clock
        self._start = start
        self._lock = BriefLock()
        self._queues: dict[tuple[str, str, int], _EndpointQueue] = {}

    def reset(self) -> None:
        """Forget all threads and flights, which a forked child does not have."""
        self._queues.clear()

    def submit(self, flight: Flight, run: Run, *, blocks: bool, is_awaited: bool) -> None:
        """Call ``run`` in order; flights that callers wait for come first.

        ``run`` starts, runs and completes ``flight``. ``blocks``: the calling thread is going to
        wait. ``is_awaited``: any caller waits for it.

        It may be called again: a signal handler may have raised during the first call.

        Raises:
            RuntimeError: if no thread can be started, and none is running or the caller waits.
            MemoryError: in the same case.
        """
        queue = self._queues.setdefault((*flight.key[:2], flight.needs), _EndpointQueue())
        worker = object()
        try:
            self._lock.run(queue.add, flight, run, is_awaited=is_awaited)
            if self._lock.run(queue.reserve, worker, self._clock.now()):
                self._start(functools.partial(self._work, queue, worker), blocks=blocks)
        except BaseException as error:
            queue.workers.discard(worker)
            cannot_start = isinstance(error, RuntimeError | MemoryError)
            if not cannot_start or blocks or not queue.workers:
                raise

    def _work(self, queue: _EndpointQueue, worker: object) -> None:
        try:
            while task := self._lock.run(queue.take, worker, self._clock.now()):
                flight, run = task
                mark_thread(ending=False)
                # Do not wait for the end of ``run``: a hook that it calls afterwards may hang.
                flight.add_done_callback(functools.partial(queue.workers.discard, worker))
                run()
        finally:
            queue.workers.discard(worker)


class _EndpointQueue:
    """The waiting flights and the threads of one endpoint: another endpoint may respond sooner.

    Flights that need an event loop have their own queues, because the loop may have been stopped.

    Attributes:
        workers: the threads that are fetching or are about to start.
    """

    __slots__ = ("_awaited", "_moved_at", "_refreshes", "workers")

    def __init__(self) -> None:
        self.workers: set[object] = set()
        self._awaited: OrderedDict[Flight, Run] = OrderedDict()
        self._refreshes: OrderedDict[Flight, Run] = OrderedDict()
        self._moved_at = 0.0

    def add(self, flight: Flight, run: Run, *, is_awaited: bool) -> None:
        """Add ``flight`` to the queue, unless it is there."""
        if is_awaited:
            run = self._refreshes.pop(flight, run)
            self._awaited.setdefault(flight, run)
        elif flight not in self._awaited:
            self._refreshes.setdefault(flight, run)

    def reserve(self, worker: object, now: float) -> bool:
        """Register one more thread if it is needed, and return whether it is."""
        is_stalled = now >= self._moved_at + STALL_SECONDS
        if not (self._awaited or self._refreshes):
            return False
        if len(self.workers) >= MOST_WORKERS and not is_stalled:
            return False
        self.workers.add(worker)
        self._moved_at = now
        return True

    def take(self, worker: object, now: float) -> tuple[Flight, Run] | None:
        """Return the next flight for ``worker``, or None if its thread is to end."""
        queue = self._awaited or self._refreshes
        # A hook has run, or a signal handler has raised in `submit`: the thread is not registered.
        if not queue or (worker not in self.workers and len(self.workers) >= MOST_WORKERS):
            self.workers.discard(worker)
            return None
        self.workers.add(worker)
        self._moved_at = now
        return queue.popitem(last=False)
