"""Runs a command for each change of scheduled events, and approves events afterwards."""

from __future__ import annotations

import datetime as dt
import json
from functools import partial
from typing import TYPE_CHECKING

from ..._core.failure import sanitize
from ..._platform.clock import SYSTEM_CLOCK
from ..._platform.locks import ForkAwareLock
from ..._platform.threads import start_thread
from ..errors import MetadataError
from .events import why_not_approve
from .hook_process import GRACE_SECONDS, HookProcess, stop_processes

if TYPE_CHECKING:
    from collections.abc import Callable

    from .events import ApprovalPolicy, Change
    from .watcher import Watcher

MAX_RUNNING = 8
_POLL_SECONDS = 0.01
_MAX_VARIABLE = 30_000
"""Characters. Windows allows 32,767; Linux 128 KiB, even at four bytes for each character."""


class CommandHook:
    """Runs a command for each change, the oldest first, and at most `MAX_RUNNING` at once.

    Changes of one event run one after another, those of different events in parallel. Preempt
    events do not wait for other events, because their notice is thirty seconds: as many of their
    commands run in addition.

    The command receives `change_to_dict` as JSON on standard input and `change_to_environment` as
    environment variables. After it has succeeded, events that ``approval`` allows are approved. A
    command that runs longer than ``seconds`` is stopped, together with its children. With
    ``dry_run``, commands and approvals are reported only.
    """

    def __init__(
        self,
        command: str,
        approve: Callable[[str], object],
        watcher: Watcher,
        approval: ApprovalPolicy | None,
        report: Callable[[str], object],
        seconds: float,
        *,
        dry_run: bool = False,
    ) -> None:
        self._dry_run = dry_run
        self._command = command
        self._send_approval = approve
        self._watcher = watcher
        self._approval = approval
        self._report = report
        self._seconds = seconds
        self._lock = ForkAwareLock()
        self._waiting: list[Change] = []
        self._busy: set[str] = set()
        self._processes: set[HookProcess] = set()
        self._starting = 0  # commands that are not in the set yet
        self._workers = {True: 0, False: 0}  # whether they are for Preempt events
        self._stopped = False

    def submit(self, change: Change) -> None:
        """Run the command for ``change`` after the earlier changes of its event."""
        if not self._lock.run(self._add, change):
            return
        is_preempt = _is_preempt(change)
        try:
            start_thread(partial(self._work, is_preempt=is_preempt))
        except RuntimeError as error:
            self._workers[is_preempt] -= 1
            self._report(
                f"the command for {_label(change)} starts with the next event, because no thread "
                f"can be started: {error}"
            )

    def _add(self, change: Change) -> bool:
        """Append ``change``; return whether to start another worker."""
        if self._stopped:
            return False
        self._waiting.append(change)
        is_preempt = _is_preempt(change)
        if self._workers[is_preempt] == MAX_RUNNING:
            return False
        self._workers[is_preempt] += 1
        return True

    def stop(self) -> None:
        """Stop the running commands, whose changes do not count as handled, and start no others."""
        self._lock.run(self._stop)
        deadline = SYSTEM_CLOCK.now() + GRACE_SECONDS
        while self._starting and SYSTEM_CLOCK.now() < deadline:
            SYSTEM_CLOCK.sleep(_POLL_SECONDS)
        stop_processes(self._lock.run(list, self._processes))

    def _stop(self) -> None:
        self._stopped = True
        self._waiting.clear()

    def _work(self, *, is_preempt: bool) -> None:
        while (change := self._lock.run(self._take, is_preempt)) is not None:
            try:
                self._handle(change)
            except Exception as error:  # noqa: BLE001 - the later changes must be handled
                self._report(f"the command for {_label(change)} failed: {error!r}")
            finally:
                self._lock.run(self._busy.discard, change.event.key)

    def _take(self, is_preempt: bool) -> Change | None:
        """Return the oldest change of an event without a running command; None ends the worker."""
        for index, change in enumerate(self._waiting):
            if _is_preempt(change) == is_preempt and change.event.key not in self._busy:
                self._busy.add(change.event.key)
                return self._waiting.pop(index)
        self._workers[is_preempt] -= 1
        return None

    def _handle(self, change: Change) -> None:
        succeeded = self._run(change)
        if self._stopped:
            return
        if succeeded and change.kind in ("scheduled", "changed"):
            self._approve(change)
        self._watcher.done(change)

    def _run(self, change: Change) -> bool:
        """Run the command; return whether it succeeded."""
        if self._dry_run:
            self._report(f"would run the command for {change.kind} {_label(change)}")
            return True
        process = self._start(change)
        if process is None:
            return False
        try:
            return self._wait(process, change)
        finally:
            self._lock.run(self._processes.discard, process)

    def _start(self, change: Change) -> HookProcess | None:
        """Start the command, unless `stop` was called; `stop` waits for the end of this method."""
        if not self._lock.run(self._may_start):
            return None
        process = None
        try:
            process = HookProcess(self._command, change_to_environment(change))
        except OSError as error:
            self._report(f"cannot run the command for {_label(change)}: {error.strerror}")
        finally:
            self._lock.run(self._register, process)
        return process

    def _may_start(self) -> bool:
        self._starting += not self._stopped
        return not self._stopped

    def _register(self, process: HookProcess | None) -> None:
        self._starting -= 1
        if process is not None:
            self._processes.add(process)

    def _wait(self, process: HookProcess, change: Change) -> bool:
        status = process.communicate(json.dumps(change_to_dict(change)).encode(), self._seconds)
        if status is None:
            stop_processes([process])
            self._report(
                f"stopped the command for {_label(change)}, which ran longer than "
                f"{self._seconds:g} s"
            )
        elif status and not self._stopped:
            self._report(f"the command for {_label(change)} exited with status {status}")
        return status == 0

    def _approve(self, change: Change) -> None:
        if self._approval is None:
            return
        event_id = change.event.event_id or ""
        now = dt.datetime.fromtimestamp(self._watcher.clock.wall(), dt.timezone.utc)
        # The current state: the event may have changed or ended while the command ran.
        event = self._watcher.known(event_id)
        names = self._watcher.names or ()
        reason = why_not_approve(event, names=names, at=now, policy=self._approval)
        if self._dry_run:
            would = f"would not approve {_label(change)}: {reason}"
            self._report(would if reason else f"would approve {_label(change)}")
            return
        if reason is None:
            try:
                self._send_approval(event_id)
            except MetadataError as error:
                reason = str(error)
        if reason is not None:
            self._report(f"did not approve {_label(change)}: {reason}")


def _is_preempt(change: Change) -> bool:
    return change.event.event_type == "Preempt"


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
