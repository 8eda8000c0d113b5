"""The faults that are set, and which of them spoils a request."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

from .fault import EVERY_CATEGORY

if TYPE_CHECKING:
    from .._clock import Clock
    from .fault import Fault


class Standing(NamedTuple):
    """How a fault that is set stands.

    Attributes:
        number: its number.
        fault: the fault.
        passed: how many matching requests it let pass.
        spoiled: how many requests it has spoiled.
        ends: when it ends by itself, in Unix seconds; None for never.
    """

    number: int
    fault: Fault
    passed: int
    spoiled: int
    ends: float | None


class _Scheduled:
    """A fault that is set, with how often it has applied."""

    def __init__(self, number: int, fault: Fault, ends: float | None) -> None:
        self.number = number
        self.fault = fault
        self.ends = ends
        self.passed = 0
        self.spoiled = 0

    def over(self, now: float) -> bool:
        times = self.fault.times
        return (times is not None and self.spoiled >= times) or (
            self.ends is not None and now >= self.ends
        )


class Faults:
    """The faults that are set. The first one that matches a request spoils it.

    Args:
        clock: ends those that last for a time.
        seed: makes the random ones repeat themselves.
    """

    def __init__(self, clock: Clock, seed: int | None = None) -> None:
        self._clock = clock
        self._seed = seed
        self._random = random.Random(seed)  # noqa: S311 - chance, not secrecy
        self._scheduled: list[_Scheduled] = []
        self._count = 0

    def add(self, fault: Fault) -> int:
        """Set a fault, behind those already set; its number."""
        ends = None if fault.seconds is None else self._clock.time() + fault.seconds
        self._count += 1
        self._scheduled.append(_Scheduled(self._count, fault, ends))
        return self._count

    def clear(self, number: int | None = None) -> None:
        """Lift one fault, or all of them."""
        self._scheduled = [
            entry for entry in self._scheduled if number is not None and entry.number != number
        ]

    def restart(self) -> None:
        """Lift every fault and let chance begin anew."""
        self.clear()
        self._random.seed(self._seed)

    def standing(self) -> list[Standing]:
        """The faults still set."""
        now = self._clock.time()
        return [
            Standing(entry.number, entry.fault, entry.passed, entry.spoiled, entry.ends)
            for entry in self._scheduled
            if not entry.over(now)
        ]

    def take(self, category: str, leg: str | None = None) -> Fault | None:
        """Take the fault that spoils this request, if any; it counts as used."""
        if not self._scheduled:
            return None
        now = self._clock.time()
        self._scheduled = [entry for entry in self._scheduled if not entry.over(now)]
        for entry in self._scheduled:
            if _matches(entry.fault, category, leg) and self._spoils(entry):
                return entry.fault
        return None

    def _spoils(self, entry: _Scheduled) -> bool:
        if entry.passed < entry.fault.after:
            entry.passed += 1
            return False
        if self._random.random() >= entry.fault.probability:
            return False
        entry.spoiled += 1
        return True


def _matches(fault: Fault, category: str, leg: str | None) -> bool:
    if fault.category not in (EVERY_CATEGORY, category):
        return False
    return fault.leg is None or fault.leg == leg
