"""What a watcher has told of, and in a file if it is to outlive the process."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from ..._core.failure import Malformed
from ..._platform.files import write_atomically
from .._models.parsing import from_json
from .._requests.connection import OneAtATime
from .events import events_from

if TYPE_CHECKING:
    from .events import Change, ScheduledEvent

_LARGEST = 4 * 1024 * 1024


class Memory:
    """The events that were told of and not gone since.

    Args:
        path: the file; None to keep nothing.

    Raises:
        OSError: if it cannot be read and written.
        ValueError: if it holds something else, or ``path`` is empty.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._path = None if path is None else _where(path)
        self._events = {} if self._path is None else _read(self._path)
        self._lock = OneAtATime()
        _remove_leftovers(self._path)
        self._save()

    @property
    def events(self) -> list[ScheduledEvent]:
        """They, as they were told of last."""
        return list(self._events.values())

    def note(self, change: Change) -> None:
        """Keep that ``change`` was told of."""
        try:
            self._lock.do(partial(self._note, change))
        except OSError as error:
            # To stop watching now would be worse than to tell something twice after a restart.
            import logging

            logging.getLogger("imds_identity").warning(
                "%s cannot be written: %s", self._path, error.strerror
            )

    def _note(self, change: Change) -> None:
        if change.kind == "gone":
            self._events.pop(change.event.key, None)
        else:
            self._events[change.event.key] = change.event
        self._save()

    def _save(self) -> None:
        """Replace the file at once; the machine may be gone the next moment."""
        if self._path is None:
            return
        written = json.dumps({"Events": [dict(each.raw) for each in self.events]})
        write_atomically(self._path, written.encode(), inherit_access=True, durable=True)


def _where(path: str | os.PathLike[str]) -> str:
    """The file itself, where ``path`` is a link: a link would be replaced by a file."""
    if not os.fspath(path):
        raise ValueError("state_file is empty: name a file, or leave it out to keep nothing")
    return os.path.realpath(os.fsdecode(path))


def _remove_leftovers(path: str | None) -> None:
    """Remove what watchers left that were killed while they wrote."""
    if path is None:
        return
    folder, name = os.path.split(path)
    leftover = re.compile(rf"{re.escape(name)}\.[0-9a-f]{{8}}\.new")
    with suppress(OSError):
        for each in filter(leftover.fullmatch, os.listdir(folder)):
            os.unlink(os.path.join(folder, each))


def _read(path: str) -> dict[str, ScheduledEvent]:
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST)
    except FileNotFoundError:
        return {}
    try:
        return {event.key: event for event in events_from(from_json(content)).events}
    except Malformed as failure:
        raise ValueError(
            f"{path} holds no watcher's state ({failure.problem}): remove it, or name another file"
        ) from None
