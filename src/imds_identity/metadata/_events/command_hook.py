"""Runs a command for each change of scheduled events, and approves events afterwards."""

from __future__ import annotations

import datetime as dt
import json
import queue
import subprocess
from functools import partial
from typing import TYPE_CHECKING

from ..._core.failure import sanitize
from ..._platform.environment import for_child
from ..._platform.threads import start_thread
from ..errors import MetadataError
from .events import reason_not_to_approve

if TYPE_CHECKING:
    from collections.abc import Callable

    from .events import ApprovalPolicy, Change
    from .watcher import Watcher

_MAX_VARIABLE = 30_000
"""Characters. Windows allows 32,767; Linux 128 KiB, even at four bytes for each character."""


class CommandHook:
    """Runs a command for each change.

    Changes of one event run in order. Those of different events run in parallel, so that a slow
    command for one event does not delay a Preempt event with its notice of thirty seconds.

    The command receives `change_to_dict` as JSON on standard input and `change_to_environment` as
    environment variables. After it has succeeded, events that ``approval`` allows are approved.
    """

    def __init__(
        self,
        command: str,
        approve: Callable[[str], object],
        watcher: Watcher,
        approval: ApprovalPolicy | None,
        report: Callable[[str], object],
    ) -> None:
        self._command = command
        self._send_approval = approve
        self._watcher = watcher
        self._approval = approval
        self._report = report
        self._queues: dict[str, queue.SimpleQueue[Change]] = {}

    def submit(self, change: Change) -> None:
        """Run the command for ``change`` after the earlier changes of its event."""
        key = change.event.key
        if key not in self._queues:
            self._queues[key] = queue.SimpleQueue()
            start_thread(partial(self._work, self._queues[key]))
        self._queues[key].put(change)
        if change.kind == "gone":
            # A later event with the same ID is another event.
            del self._queues[key]

    def _work(self, changes: queue.SimpleQueue[Change]) -> None:
        while True:
            change = changes.get()
            if self._run(change) and change.kind in ("scheduled", "changed"):
                self._approve(change)
            self._watcher.done(change)
            if change.kind == "gone":
                return

    def _run(self, change: Change) -> bool:
        """Run the command; return whether it succeeded."""
        try:
            completed = subprocess.run(  # noqa: S602 - the user's shell command
                self._command,
                shell=True,
                input=json.dumps(change_to_dict(change)).encode(),
                env=for_child(change_to_environment(change)),
                check=False,
            )
        except OSError as error:
            self._report(f"cannot run the command for {_label(change)}: {error.strerror}")
            return False
        if completed.returncode:
            status = completed.returncode
            self._report(f"the command for {_label(change)} exited with status {status}")
        return completed.returncode == 0

    def _approve(self, change: Change) -> None:
        if self._approval is None:
            return
        event_id = change.event.event_id or ""
        now = dt.datetime.fromtimestamp(self._watcher.clock.wall(), dt.timezone.utc)
        # The current state: the event may have changed or ended while the command ran.
        event = self._watcher.known(event_id)
        reason = reason_not_to_approve(event, now, self._approval, self._watcher.names or ())
        if reason is None:
            try:
                self._send_approval(event_id)
            except MetadataError as error:
                reason = str(error)
        if reason is not None:
            self._report(f"did not approve {_label(change)}: {reason}")


def change_to_dict(change: Change) -> dict[str, object]:
    """Return a change as JSON: the event as the service wrote it, and the kind as ``Change``."""
    return {"Change": change.kind, **change.event.raw}


def change_to_environment(change: Change) -> dict[str, str]:
    """Return a change as environment variables, each with one line of text."""
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
    """Replace line breaks and unprintable characters, and limit the length."""
    visible = "".join(c if c.isprintable() else " " for c in text[:_MAX_VARIABLE])
    return " ".join(visible.split())


def _label(change: Change) -> str:
    return sanitize(f"{change.event.event_type} {change.event.event_id}")
