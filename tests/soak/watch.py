"""The watchdog of one process: it finds calls that hang, and measures how long the process ran."""

from __future__ import annotations

import faulthandler
import itertools
import os
import threading
import time
from typing import TYPE_CHECKING

from .shared_state import monotonic

if TYPE_CHECKING:
    from collections import Counter

    from .event_log import EventLog

HUNG = "calls that hung"
_TICK_SECONDS = 0.1
_GAP_SECONDS = 0.6
"""A longer gap between two ticks means that the process was stopped or the machine very busy."""
_MAX_DUMPS = 5


class PendingCall:
    """A call in progress.

    Attributes:
        description: of the call, for the report.
        began: when it began, on the process's active clock.
        blocked: seconds for which the soak itself blocked the loop of the call.
        thread: the thread that made the call.
        reported: whether it was reported as hanging.
    """

    __slots__ = ("began", "blocked", "description", "reported", "thread")

    def __init__(self, description: str, began: float, blocked: list[float]) -> None:
        self.description = description
        self.thread = threading.get_ident()
        self.began = began
        self.blocked = blocked
        self.reported = False


class Watch:
    """The calls in progress, and an active clock that stands still while the process is stopped.

    Args:
        event_log: takes violations and, once a second, the counts.
        folder: for dumps of stacks.
        call_timeout: active seconds that a call may take.
        counts: the counts of the process.
    """

    def __init__(
        self, event_log: EventLog, folder: str, call_timeout: float, counts: Counter[str]
    ) -> None:
        self.call_timeout = call_timeout
        self.active = 0.0
        self.longest = 0.0
        self.counts = counts
        self._event_log = event_log
        self._folder = folder
        self._last_tick = monotonic()
        self._gap_ended = 0.0
        self._calls: dict[int, PendingCall] = {}
        self._numbers = itertools.count()
        self._dumps = 0

    def start(self) -> None:
        threading.Thread(target=self._watch, name="soak-watch", daemon=True).start()

    def begin(self, description: str, blocked: list[float]) -> int:
        """Record that a call begins; return its number."""
        number = next(self._numbers)
        self._calls[number] = PendingCall(description, self.active, blocked)
        return number

    def end(self, number: int) -> None:
        """Record that a call ended."""
        call = self._calls.pop(number, None)
        if call is not None:
            self.longest = max(self.longest, self._seconds(call))

    def end_calls_of_this_thread(self) -> None:
        """Forget this thread's calls: a signal may have interrupted before `end` was called."""
        for number, call in list(self._calls.items()):
            if call.thread == threading.get_ident():
                self._calls.pop(number, None)

    def undisturbed_since(self, start: float) -> bool:
        """Return whether this process ran all the time since ``start`` (`monotonic`)."""
        return self._gap_ended < start and monotonic() - self._last_tick < _GAP_SECONDS

    def _watch(self) -> None:
        ticks = 0
        while True:
            time.sleep(_TICK_SECONDS)
            self._tick()
            ticks += 1
            if ticks % 10 == 0:
                self._event_log.write_counts(self.counts, self.longest)
                self.report_hung_calls()

    def _tick(self) -> None:
        now = monotonic()
        if now - self._last_tick > _GAP_SECONDS:
            self._gap_ended = now
        self.active += min(now - self._last_tick, 2 * _TICK_SECONDS)
        self._last_tick = now

    def report_hung_calls(self) -> None:
        """Report each call that hangs, once."""
        for call in list(self._calls.values()):
            if not call.reported and self._seconds(call) > self.call_timeout:
                call.reported = True
                detail = f"{call.description}: {self._seconds(call):.0f} s"
                self._event_log.write_violation(HUNG, detail)
                self.dump_stacks()

    def _seconds(self, call: PendingCall) -> float:
        return self.active - call.began - call.blocked[0]

    def dump_stacks(self) -> None:
        """Write the stacks of all threads to a file, a few times at most."""
        self._dumps += 1
        if self._dumps > _MAX_DUMPS:
            return
        with open(f"{self._folder}/stacks-{os.getpid()}-{self._dumps}.txt", "w") as file:
            faulthandler.dump_traceback(file, all_threads=True)
