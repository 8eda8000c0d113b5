"""Watches scheduled events: polls the service once a second and returns each change once."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from .._models.instance import partial_document
from ..errors import (
    MetadataError,
    MetadataNotFoundError,
    MetadataUnavailableError,
    error_from,
    is_transient,
)
from .events import Differ, lower_names, own_names
from .handled_events import HandledEvents
from .poller import TICK_SECONDS, Poller

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator

    from ..._platform.clock import Clock
    from .._models.instance import Instance
    from .events import Change, EventsDocument, ScheduledEvent

POLL_SECONDS = 1.0  # between two requests, as Azure recommends
_MAX_RETRY_AFTER = 60.0
_STARTUP_SECONDS = 120.0
MAX_WAITING = 1000
_INSTANCE_SECONDS = 5.0
_NAMES_SECONDS = 10.0
"""Between two requests for names that only approvals need."""


class EventsClient(Protocol):
    """The part of a client that a watcher uses."""

    @property
    def clock(self) -> Clock: ...
    def require(self, seconds: float) -> Instance: ...
    def scheduled_events(self, *, retry: bool) -> EventsDocument: ...


class Watcher:
    """An endless iterator of the changes of scheduled events.

    A thread polls the service during the iteration, so a slow loop body misses no change: up to
    1,000 changes wait for it. A change counts as handled when the next one is requested, or when
    the loop ends. If the process stops before that, a restarted process with the same state file
    receives it again.

    A failed request does not mean that there are no events: the watcher returns nothing and tries
    again a second later. Only before the first response can it raise an error: if there is no such
    service, or if it has not started within two minutes.

    Attributes:
        failure: the error of the last request, or None.
        lost: the number of the oldest changes that were dropped, because 1,000 others were waiting.
        names: the machine's names in events, in lower case; None until they are known, and until
            then no event counts as its own.
        clock: the clock of the client.

    Args:
        client: the client of the service.
        every_machine: whether to include events of other machines in its scale or availability set.
        names: the machine's names in events; by default those of the instance document.
        state_file: a file for the handled events.
        on_failure: called with the error of each failed request, in the polling thread.

    Raises:
        OSError: if the file cannot be read or written.
        ValueError: if it is not a state file.
    """

    def __init__(
        self,
        client: EventsClient,
        *,
        every_machine: bool = False,
        names: Iterable[str] = (),
        state_file: str | os.PathLike[str] | None = None,
        on_failure: Callable[[MetadataError], object] | None = None,
    ) -> None:
        self.lost: int = 0
        self.poller: Poller = Poller(self, on_failure)
        self.failure: MetadataError | None = None
        given = (names,) if isinstance(names, str) else names
        self.names: frozenset[str] | None = lower_names(given) or None
        self._client = client
        self.clock: Clock = client.clock
        self._every_machine = every_machine
        self._handled = HandledEvents(state_file)
        self._differ: Differ | None = None
        self._ready: deque[Change] = deque()
        self._due = self._started = self._names_due = self.clock.now()
        self._names_failure: MetadataError | None = None
        self._stopped = False

    def __iter__(self) -> Iterator[Change]:
        """Yield each change, and record it as handled.

        Raises:
            MetadataError: if there is no such service.
        """
        for change in self.changes():
            try:
                yield change
            finally:
                self.done(change)

    def changes(self) -> Iterator[Change]:
        """Yield each change for a caller that calls `done` itself.

        Raises:
            MetadataError: if there is no such service.
        """
        try:
            while True:
                while (change := self.next_ready()) is not None:
                    yield change
                if self.stopped:
                    return
                self.poller.start()
                self.clock.sleep(TICK_SECONDS)
        finally:
            self.poller.stop()

    def done(self, change: Change) -> None:
        """Record that ``change`` was handled.

        Args:
            change: the change.
        """
        self._handled.record(change)

    def stop(self) -> None:
        """End the iteration within a second; another thread may call this."""
        self._stopped = True
        self.poller.stop()

    @property
    def stopped(self) -> bool:
        """Whether the iteration has ended."""
        return self._stopped and not self._ready

    def known(self, event_id: str | None) -> ScheduledEvent | None:
        """Return an event of the last document.

        Args:
            event_id: the ID of the event.

        Returns:
            The event; None if that document does not contain it.
        """
        return None if self._differ is None else self._differ.get(event_id)

    def seconds_left(self) -> float:
        """Return the seconds until the next request is due."""
        return self._due - self.clock.now()

    def next_ready(self) -> Change | None:
        """Return the next change that was received already, or None."""
        try:
            return self._ready.popleft()
        except IndexError:
            return None

    def ask(self) -> None:
        """Send one request, and keep the changes for `next_ready`.

        Raises:
            MetadataError: if there is no such service.
        """
        self._due = self.clock.now() + POLL_SECONDS
        try:
            self.failure = None if self.names else self._find_names()
            document = self._client.scheduled_events(retry=False)
        except MetadataError as error:
            if self._differ is None and not self._is_transient(error):
                raise
            self.failure = error
            self._due += min(error.retry_after or 0.0, _MAX_RETRY_AFTER)
            return
        if self._differ is None:
            names = None if self._every_machine else self.names
            self._differ = Differ(names, self._handled.events)
        for change in self._differ.changes(document):
            self._add(change)

    def _add(self, change: Change) -> None:
        """Queue ``change``, in place of the oldest one if the loop is far behind."""
        if len(self._ready) >= MAX_WAITING:
            self.lost += 1
            self.next_ready()
        self._ready.append(change)

    def _find_names(self) -> MetadataError | None:
        """Set `names`; return why they are unknown if that does not prevent the watch."""
        if not self._every_machine:
            # Without names, every event could be another machine's.
            self.names = self._own_names(_INSTANCE_SECONDS)
        elif self.clock.now() >= self._names_due:
            self._names_due = self.clock.now() + _NAMES_SECONDS
            self._names_failure = None
            try:
                self.names = self._own_names(POLL_SECONDS)
            except MetadataError as error:
                self._names_failure = error
        return self._names_failure

    def _own_names(self, seconds: float) -> frozenset[str]:
        names = own_names(self._client.require(seconds).compute)
        if not names:
            raise error_from(partial_document("the name of this machine"))
        return names

    def _is_transient(self, error: MetadataError) -> bool:
        """Return whether a later request may succeed: machine or service may be starting."""
        if isinstance(error, MetadataUnavailableError):
            return is_transient(error) and self.clock.now() < self._started + _STARTUP_SECONDS
        return is_transient(error) and not isinstance(error, MetadataNotFoundError)
