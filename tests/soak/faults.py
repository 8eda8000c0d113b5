"""What is done to the workers, the clocks, the service and the shared directory from outside."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from .shared_state import CALM, GONE, OUTAGE, RESOURCES, ROUGH, steady

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from .processes import WorkerProcesses
    from .shared_state import SharedState
    from .table import Table

_MOODS = {
    CALM: ("calm", 8.0, 25.0),
    ROUGH: ("rough", 5.0, 20.0),
    OUTAGE: ("failing in one way", 3.0, 30.0),
    GONE: ("gone", 1.0, 20.0),
}
_NEXT_MOODS = (CALM, CALM, CALM, ROUGH, OUTAGE, GONE)
_DAY = 86400.0


class Fault(NamedTuple):
    """Something that is done again and again.

    Attributes:
        every: seconds between two, on average.
        do: does it.
    """

    every: float
    do: Callable[[], None]


class Faults:
    """All of them.

    Args:
        shared_state: carries clocks, moods and revocations.
        processes: is stopped and killed.
        cache: the directory that the workers share.
        table: counts what was tried.
        dice: choose.
    """

    def __init__(
        self,
        shared_state: SharedState,
        processes: WorkerProcesses,
        cache: str,
        table: Table,
        dice: random.Random,
    ) -> None:
        self._board = shared_state
        self._crew = processes
        self._cache = cache
        self._table = table
        self._dice = dice
        self._mood_until = 0.0
        faults = (
            Fault(3.0, self._stop_one),
            Fault(90.0, self._freeze_one),
            Fault(5.0, self._kill_one),
            Fault(7.0, self._set_machine_clock),
            Fault(20.0, self._set_service_clock),
            Fault(2.0, self._revoke_one),
            Fault(45.0, self._remove_directory),
            Fault(10.0, self._damage_entry),
        )
        self._due = {fault: self._next(fault) for fault in faults}

    def do_what_is_due(self) -> None:
        """Call this often."""
        now = steady()
        self._change_mood(now)
        self._crew.let_go_on(now)
        for fault, moment in self._due.items():
            if now >= moment:
                fault.do()
                self._due[fault] = self._next(fault)

    def _next(self, fault: Fault) -> float:
        return steady() + self._dice.expovariate(1 / fault.every)

    def _tried(self, what: str) -> None:
        self._table.tried(f"faults: {what}")

    def _change_mood(self, now: float) -> None:
        if now < self._mood_until:
            return
        mood = self._dice.choice(_NEXT_MOODS)
        name, shortest, longest = _MOODS[mood]
        self._mood_until = now + self._dice.uniform(shortest, longest)
        self._board.set_mood(mood)
        self._tried(f"the service was {name}")

    def _stop_one(self) -> None:
        self._stop(self._dice.choice((0.1, 0.5, 2.0, 8.0, 20.0)) * self._dice.uniform(0.5, 1.0))

    def _freeze_one(self) -> None:
        self._stop(self._dice.uniform(20.0, 90.0))

    def _stop(self, seconds: float) -> None:
        running = self._crew.running()
        if len(running) <= len(self._crew.members) // 2:
            return
        self._dice.choice(running).stop(seconds)
        self._tried("SIGSTOP, for less than 20 s" if seconds < 20 else "SIGSTOP, for 20 to 90 s")

    def _kill_one(self) -> None:
        mortal = [member for member in self._crew.members if not member.lasting]
        if mortal:
            self._crew.discard(self._dice.choice(mortal))
            self._crew.start(lasting=False)
            self._tried("kill -9")

    def _set_machine_clock(self) -> None:
        self._board.set_machine_offset(self._jump())
        self._tried("this machine's clock was set")

    def _set_service_clock(self) -> None:
        self._board.set_service_offset(self._jump())
        self._tried("the service's clock was set")

    def _jump(self) -> float:
        furthest = self._dice.choice((0.0, 1.5, 10.0, 300.0, 3600.0, 30 * _DAY))
        return self._dice.uniform(-furthest, furthest)

    def _revoke_one(self) -> None:
        self._board.revoke(self._dice.choice(RESOURCES))
        self._tried("all tokens of a resource were revoked")

    def _remove_directory(self) -> None:
        shutil.rmtree(self._cache, ignore_errors=True)
        self._tried("the shared directory was removed")

    def _damage_entry(self) -> None:
        with suppress(OSError, IndexError):
            name = self._dice.choice(os.listdir(self._cache))
            with open(f"{self._cache}/{name}", "r+b") as file:
                file.truncate(self._dice.randrange(400))
            self._tried("a shared file was cut short")
