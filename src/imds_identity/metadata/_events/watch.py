"""Watches scheduled events: asks once a second, tells each change once, and goes on."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from ..errors import (
    MetadataError,
    MetadataNotFoundError,
    MetadataUnavailableError,
    may_pass,
)
from .events import Differ, own_names
from .memory import Memory

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from ..._platform.clock import Clock
    from .._models.instance import Instance
    from .events import Change, EventsDocument, ScheduledEvent

EVERY = 1.0
"""Seconds between two requests, which is what Azure recommends."""
_LONGEST_REST = 60.0
_SLOWEST_START = 120.0
_NAME_SECONDS = 5.0


class Asked(Protocol):
    """What a watcher needs of a client."""

    @property
    def clock(self) -> Clock:
        """The time."""
        ...

    def require(self, seconds: float) -> Instance:
        """What the machine is."""
        ...

    def scheduled_events(self, *, retry: bool) -> EventsDocument:
        """What awaits it."""
        ...


class Watcher:
    """Gives the changes of scheduled events, one after another, for as long as it is asked.

    A change counts as told once the next one is asked for, or the loop is left. Who dies in
    between hears of it again after a restart with the same state file.

    A request that fails does not mean that there are no events: nothing is told, and it is asked
    again a second later. Only before the first answer it may end with an error: if there is no such
    service, or none has come up within two minutes.

    Attributes:
        failure: why the last request failed, or None.
        names: the machine's own names in events, lower-case; None until they are known.
        clock: the time.

    Args:
        client: asks the service.
        every_machine: whether to tell of the neighbours' events, too.
        state_file: where to keep what was told.
    """

    def __init__(
        self,
        client: Asked,
        *,
        every_machine: bool = False,
        state_file: str | os.PathLike[str] | None = None,
    ) -> None:
        self.failure: MetadataError | None = None
        self.names: frozenset[str] | None = None
        self._client = client
        self.clock = client.clock
        self._every_machine = every_machine
        self._memory = Memory(state_file)
        self._differ: Differ | None = None
        self._ready: deque[Change] = deque()
        self._due = self._started = self.clock.now()
        self._stopped = False

    def __iter__(self) -> Iterator[Change]:
        """Each change, and that it was told.

        Raises:
            MetadataError: if there is no such service.
        """
        for change in self.changes():
            try:
                yield change
            finally:
                self.done(change)

    def changes(self) -> Iterator[Change]:
        """Each change, for who says himself when he is `done` with it.

        Raises:
            MetadataError: if there is no such service.
        """
        while True:
            while self._ready:
                yield self._ready.popleft()
            if self._stopped:
                return
            if (seconds := self.seconds_left()) > 0:
                self.clock.sleep(seconds)
            self.ask()

    def done(self, change: Change) -> None:
        """Keep that ``change`` was told of."""
        self._memory.note(change)

    def stop(self) -> None:
        """End the iteration; another thread may do so. It may take a second."""
        self._stopped = True

    @property
    def stopped(self) -> bool:
        """Whether there is nothing more to tell."""
        return self._stopped and not self._ready

    def known(self, event_id: str | None) -> ScheduledEvent | None:
        """The event of this id as it was last heard of; None if it is not, or not any more."""
        return None if self._differ is None else self._differ.known(event_id)

    def seconds_left(self) -> float:
        """Seconds until the service is to be asked again."""
        return self._due - self.clock.now()

    def next_ready(self) -> Change | None:
        """A change that is known already."""
        return self._ready.popleft() if self._ready else None

    def ask(self) -> None:
        """Ask the service for what is new.

        Raises:
            MetadataError: if there is no such service.
        """
        self._due = self.clock.now() + EVERY
        try:
            if self.names is None:
                self.names = own_names(self._client.require(_NAME_SECONDS).compute)
            document = self._client.scheduled_events(retry=False)
        except MetadataError as error:
            if self._differ is None and not self._may_pass(error):
                raise
            self.failure = error
            self._due += min(error.retry_after or 0.0, _LONGEST_REST)
            return
        self.failure = None
        if self._differ is None:
            # A machine that does not know its name hears of everything, which beats nothing.
            names = None if self._every_machine else self.names or None
            self._differ = Differ(names, self._memory.events)
        self._ready.extend(self._differ.changes(document))

    def _may_pass(self, error: MetadataError) -> bool:
        """Whether waiting may help: a service can be slow to start, as can be a machine."""
        if isinstance(error, MetadataUnavailableError):
            return may_pass(error) and self.clock.now() < self._started + _SLOWEST_START
        return may_pass(error) and not isinstance(error, MetadataNotFoundError)
