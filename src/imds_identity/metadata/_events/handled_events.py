"""The events whose changes were handled, in a file if they must survive the process."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from ..._core.failure import Malformed
from ..._platform.files import write_atomically
from ..._platform.locks import ForkAwareLock
from .._models.parsing import from_json
from .events import events_from_json

if TYPE_CHECKING:
    from .events import Change, ScheduledEvent

_MAX_BYTES = 4 * 1024 * 1024


class HandledEvents:
    """The events that were handled and still exist, in a state file unless ``path`` is None."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._path: str | None = None
        self._events: dict[str, ScheduledEvent] = {}
        self._lock = ForkAwareLock()
        if path is not None:
            if not os.fspath(path):
                raise ValueError("state_file is empty: pass a path, or None to keep no state")
            # The target of a symbolic link, because a replacement would overwrite the link.
            self._path = os.path.realpath(os.fsdecode(path))
            self._events = _load(self._path)
            _remove_temporary_files(self._path)
            self._save()

    @property
    def events(self) -> list[ScheduledEvent]:
        """The events in their last handled state."""
        return list(self._events.values())

    def record(self, change: Change) -> None:
        """Record that ``change`` was handled."""
        try:
            self._lock.run(partial(self._record, change))
        except OSError as error:
            # Reporting a change twice after a restart is better than stopping now.
            import logging

            logger = logging.getLogger("imds_identity")
            logger.warning("cannot write %s: %s", self._path, error.strerror)

    def _record(self, change: Change) -> None:
        if change.kind == "gone":
            self._events.pop(change.event.key, None)
        else:
            self._events[change.event.key] = change.event
        self._save()

    def _save(self) -> None:
        """Replace the file atomically and durably: the machine may stop at any moment."""
        if self._path is None:
            return
        content = json.dumps({"Events": [dict(each.raw) for each in self.events]})
        write_atomically(self._path, content.encode(), inherit_access=True, durable=True)


def _remove_temporary_files(path: str) -> None:
    """Remove the files of processes that were killed while writing."""
    directory, name = os.path.split(path)
    temporary = re.compile(rf"{re.escape(name)}\.[0-9a-f]{{8}}\.new")
    with suppress(OSError):
        for each in filter(temporary.fullmatch, os.listdir(directory)):
            os.unlink(os.path.join(directory, each))


def _load(path: str) -> dict[str, ScheduledEvent]:
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_BYTES)
    except FileNotFoundError:
        return {}
    try:
        return {event.key: event for event in events_from_json(from_json(content)).events}
    except Malformed as failure:
        raise ValueError(
            f"{path} is not a state file of scheduled events ({failure.problem}): remove it, or "
            "choose another file"
        ) from None
