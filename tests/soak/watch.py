"""What keeps an eye on one process: calls that take too long, and its own pace."""

from __future__ import annotations

import faulthandler
import itertools
import os
import threading
import time
from typing import TYPE_CHECKING

from .shared_state import steady

if TYPE_CHECKING:
    from collections import Counter

    from .event_log import EventLog

HUNG = "calls that hung"
_TICK = 0.1
_FRESH = 0.6
"""Seconds between two ticks that only a process that is stopped, or very busy, lets pass."""


class Call:
    """One call that is under way.

    Attributes:
        what: it is, for a person to read.
        began: on the process's active clock.
        held_up: seconds that the soak itself kept its loop from running.
        thread: whose it is.
    """

    __slots__ = ("began", "held_up", "thread", "told", "what")

    def __init__(self, what: str, began: float, held_up: list[float]) -> None:
        self.what = what
        self.thread = threading.get_ident()
        self.began = began
        self.held_up = held_up
        self.told = False


class Watch:
    """The active clock of a process, which stands while it is stopped, and the calls under way.

    Args:
        event_log: is told of calls that hang.
        folder: takes stacks then.
        patience: active seconds that a call may take.
        counts: what the process has counted; written once a second.
    """

    def __init__(
        self, event_log: EventLog, folder: str, patience: float, counts: Counter[str]
    ) -> None:
        self.patience = patience
        self.active = 0.0
        self.longest = 0.0
        self.counts = counts
        self._journal = event_log
        self._folder = folder
        self._last = steady()
        self._gap_ended = 0.0
        self._calls: dict[int, Call] = {}
        self._numbers = itertools.count()
        self._dumps = 0

    def start(self) -> None:
        threading.Thread(target=self._watch, name="soak-watch", daemon=True).start()

    def begin(self, what: str, held_up: list[float]) -> int:
        """Note that a call begins; its number."""
        number = next(self._numbers)
        self._calls[number] = Call(what, self.active, held_up)
        return number

    def end(self, number: int) -> None:
        """Note that it has ended, or will never."""
        call = self._calls.pop(number, None)
        if call is not None:
            self.longest = max(self.longest, self._seconds(call))

    def end_mine(self) -> None:
        """Note that no call of this thread is under way: a signal may have kept it from saying."""
        for number, call in list(self._calls.items()):
            if call.thread == threading.get_ident():
                self._calls.pop(number, None)

    def undisturbed_since(self, moment: float) -> bool:
        """Whether this process ran all the time since ``moment`` (`steady`)."""
        return self._gap_ended < moment and steady() - self._last < _FRESH

    def _watch(self) -> None:
        ticks = 0
        while True:
            time.sleep(_TICK)
            self._tick()
            ticks += 1
            if ticks % 10 == 0:
                self._journal.counts(self.counts, self.longest)
                self.look()

    def _tick(self) -> None:
        now = steady()
        if now - self._last > _FRESH:
            self._gap_ended = now
        self.active += min(now - self._last, 2 * _TICK)
        self._last = now

    def look(self) -> None:
        """Tell of calls that hang."""
        for call in list(self._calls.values()):
            if not call.told and self._seconds(call) > self.patience:
                call.told = True
                self._journal.broken(HUNG, f"{call.what}: {self._seconds(call):.0f} s")
                self.dump()

    def _seconds(self, call: Call) -> float:
        return self.active - call.began - call.held_up[0]

    def dump(self) -> None:
        """Write the stacks of all threads."""
        self._dumps += 1
        if self._dumps > 5:
            return
        with open(f"{self._folder}/stacks-{os.getpid()}-{self._dumps}.txt", "w") as file:
            faulthandler.dump_traceback(file, all_threads=True)
