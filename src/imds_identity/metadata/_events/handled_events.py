"""The events whose changes were handled, in a file if they must survive the process."""

from __future__ import annotations

import json
import os
import re
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from ..._core.failure import Malformed
from ..._platform.files import write_atomically
from ..._platform.locks import ForkAwareLock
from ..._platform.output_files import check_replaceable, file_status, open_trusted_parent
from .._models.parsing import from_json
from .events import events_from_json

if TYPE_CHECKING:
    from collections.abc import Iterator

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
            # The program may change its directory. `abspath` would ignore links before "..".
            self._path = os.path.join(os.getcwd(), os.fsdecode(path))
            self._events = _load(self._path)
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
        text = json.dumps({"Events": [dict(each.raw) for each in self.events]})
        with _own_file(self._path) as (directory, name):
            write_atomically(
                name, text.encode(), inherit_access=True, durable=True, directory=directory
            )


@contextmanager
def _own_file(path: str) -> Iterator[tuple[int | None, str]]:
    """Yield directory and name of a file of this user, or of one that does not exist.

    A link is followed, because a replacement would overwrite it; but not one of another user.
    """
    with open_trusted_parent(path, follows=True) as (directory, name):
        if directory is not None:
            check_replaceable(path, file_status(name, directory))
        yield directory, name


def _remove_temporary_files(directory: int | None, name: str) -> None:
    """Remove the files of processes that were killed while writing."""
    parent, name = os.path.split(name)  # only Windows has a parent here
    temporary = re.compile(rf"{re.escape(name)}\.[0-9a-f]{{8}}\.new")
    with suppress(OSError):
        listed = parent if directory is None else f"/dev/fd/{directory}"
        for each in filter(temporary.fullmatch, os.listdir(listed)):
            os.unlink(os.path.join(parent, each), dir_fd=directory)


def _load(path: str) -> dict[str, ScheduledEvent]:
    with _own_file(path) as (directory, name):
        try:
            with open(name, "rb", opener=partial(os.open, dir_fd=directory)) as file:
                content = file.read(_MAX_BYTES)
        except FileNotFoundError:
            return {}
        finally:
            _remove_temporary_files(directory, name)
    try:
        return {event.key: event for event in events_from_json(from_json(content)).events}
    except Malformed as failure:
        raise ValueError(
            f"{path} is not a state file of scheduled events ({failure.problem}): remove it, or "
            "choose another file"
        ) from None
