"""Runs a command for each change of scheduled events, and approves what it is done with."""

from __future__ import annotations

import datetime as dt
import json
import queue
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from ..._core.failure import sanitize
from ..._platform.environment import for_child
from ..._platform.threads import start_thread
from ..errors import MetadataError
from .events import why_not_approve

if TYPE_CHECKING:
    from collections.abc import Callable

    from .events import ApprovalRule, Change
    from .watch import Watcher


_LONGEST_VARIABLE = 30_000
"""Characters: Windows takes 32,767, and Linux 128 KiB, which four bytes for each stay within."""


class Starts(Protocol):
    """What a hook needs of a client."""

    def start(self, *event_ids: str) -> None:
        """Approve events."""
        ...


class Hook:
    """Runs a command for each change.

    The changes of one event wait for one another; those of several events do not, or a Preempt
    with its thirty seconds would wait for whoever drains at leisure.

    Args:
        command: for the shell. It gets what `as_document` says as JSON on its standard input, and
            what `as_variables` says as variables.
        client: approves events.
        watcher: whose changes they are; each is `done` when its command has ended.
        approval: which events to approve once the command has ended with 0; None for none.
        tell: is told in a line what a person ought to know.
    """

    def __init__(
        self,
        command: str,
        client: Starts,
        watcher: Watcher,
        approval: ApprovalRule | None,
        tell: Callable[[str], object],
    ) -> None:
        self._command = command
        self._client = client
        self._watcher = watcher
        self._approval = approval
        self._tell = tell
        self._waiting: dict[str, queue.SimpleQueue[Change]] = {}

    def take(self, change: Change) -> None:
        """Run the command for ``change``, as soon as its event's changes before it are done."""
        key = change.event.key
        if key not in self._waiting:
            self._waiting[key] = queue.SimpleQueue()
            start_thread(partial(self._work, self._waiting[key]))
        self._waiting[key].put(change)
        if change.kind == "gone":
            # An event of the same id that comes after it is another one.
            del self._waiting[key]

    def _work(self, changes: queue.SimpleQueue[Change]) -> None:
        while True:
            change = changes.get()
            if self._run(change) and change.kind in ("scheduled", "changed"):
                self._approve(change)
            self._watcher.done(change)
            if change.kind == "gone":
                return

    def _run(self, change: Change) -> bool:
        """Whether the command ended well."""
        try:
            done = subprocess.run(  # noqa: S602 - a shell's command is what the user gives
                self._command,
                shell=True,
                input=json.dumps(as_document(change)).encode(),
                env=for_child(as_variables(change)),
                check=False,
            )
        except OSError as error:
            self._tell(f"the command for {_name(change)} cannot be run: {error.strerror}")
            return False
        if done.returncode:
            self._tell(f"the command for {_name(change)} ended with {done.returncode}")
        return done.returncode == 0

    def _approve(self, change: Change) -> None:
        if self._approval is None:
            return
        event_id = change.event.event_id or ""
        now = dt.datetime.fromtimestamp(self._watcher.clock.wall(), dt.timezone.utc)
        # As it is now: it may have been moved or taken back while the command ran.
        event = self._watcher.known(event_id)
        objection = why_not_approve(event, now, self._approval, self._watcher.names or ())
        if objection is None:
            try:
                self._client.start(event_id)
            except MetadataError as error:
                objection = str(error)
        if objection is not None:
            self._tell(f"{_name(change)} was not approved: {objection}")


def as_document(change: Change) -> dict[str, Any]:
    """A change as JSON: the event as the service wrote it, and what happened as ``Change``."""
    return {"Change": change.kind, **change.event.raw}


def as_variables(change: Change) -> dict[str, str]:
    """A change as environment variables, each a line of text."""
    event = change.event
    values = {
        "CHANGE": change.kind,
        "ID": event.event_id,
        "TYPE": event.event_type,
        "STATUS": event.status,
        "NOT_BEFORE": event.not_before.isoformat() if event.not_before else "",
        "RESOURCES": " ".join(event.resources),
        "SOURCE": event.source,
        "DURATION": "" if event.duration is None else str(event.duration),
        "DESCRIPTION": event.description,
    }
    return {f"IMDS_EVENT_{name}": _one_line(value or "") for name, value in values.items()}


def _one_line(text: str) -> str:
    """``text`` as a variable can hold it and a shell read it."""
    visible = "".join(c if c.isprintable() else " " for c in text[:_LONGEST_VARIABLE])
    return " ".join(visible.split())


def _name(change: Change) -> str:
    event = change.event
    return sanitize(f"{event.event_type} {event.event_id}")
