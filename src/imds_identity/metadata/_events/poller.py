"""Polls scheduled events in a background thread, so that a slow loop body misses no change."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from ..._platform.locks import ForkAwareLock
from ..._platform.log import log
from ..._platform.threads import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._platform.clock import Clock
    from ..errors import MetadataError

TICK_SECONDS = 0.1
"""Seconds between two looks at the received changes, or at a request to stop."""


class PolledWatcher(Protocol):
    """The part of a watcher that its poller uses."""

    failure: MetadataError | None
    clock: Clock

    def ask(self) -> None: ...
    def seconds_left(self) -> float: ...


class Poller:
    """Sends the requests of a watcher in a thread until `stop`.

    Consumers look for changes once in `TICK_SECONDS` instead of waiting for a signal: a handler
    that raises, a fork and a canceled task then leave nothing behind.
    """

    def __init__(
        self, watcher: PolledWatcher, on_failure: Callable[[MetadataError], object] | None
    ) -> None:
        self._watcher = watcher
        self._on_failure = on_failure
        self._requests = ForkAwareLock()
        self._current: _Run | None = None

    def start(self) -> None:
        """Start the thread, unless it is running; raise the error that ended it, if any."""
        run = self._current
        if run is not None and run.error is not None:
            self._current = None
            raise run.error
        if run is None or run.pid != os.getpid():
            self._current = run = _Run()
            try:
                start_thread(lambda: self._poll(run))
            except RuntimeError:
                self._current = None  # otherwise the next call would wait for this thread
                raise

    def stop(self) -> None:
        """End the thread after the request in progress, without waiting for it."""
        run, self._current = self._current, None
        if run is not None:
            run.stopped = True

    def _poll(self, run: _Run) -> None:
        is_failing = False
        try:
            while not run.stopped:
                self._requests.run(self._watcher.ask)
                failure = self._watcher.failure
                self._report(failure, is_failing=is_failing)
                is_failing = failure is not None
                while not run.stopped and (seconds := self._watcher.seconds_left()) > 0:
                    self._watcher.clock.sleep(min(seconds, TICK_SECONDS))
        except Exception as error:  # noqa: BLE001 - the consumer raises it
            run.error = error

    def _report(self, failure: MetadataError | None, *, is_failing: bool) -> None:
        """Log the start and the end of an outage, and pass each failure to the caller's hook."""
        if failure is None:
            if is_failing:
                log("INFO", "scheduled events: the service responds again")
            return
        if not is_failing:
            log("WARNING", "scheduled events: %s", failure)
        if self._on_failure is None:
            return
        try:
            self._on_failure(failure)
        except Exception:  # noqa: BLE001 - polling must continue
            log("ERROR", "on_failure raised an exception", exc_info=True)


class _Run:
    """One thread: its process, whether it is to stop, and the error that ended it."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.stopped = False
        self.error: Exception | None = None
