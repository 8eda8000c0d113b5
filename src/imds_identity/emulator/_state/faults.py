"""The list of active faults, and the choice of the one that applies to a request."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .fault import EVERY_CATEGORY

if TYPE_CHECKING:
    from .._clock import Clock
    from .fault import Fault


@dataclass(slots=True)
class ActiveFault:
    """A fault that is set, with its counters."""

    number: int
    fault: Fault
    ends: float | None = None  # in Unix seconds
    skipped: int = 0  # matching requests that it has let pass
    applied: int = 0

    def is_over(self, now: float) -> bool:
        """Return whether the fault will never apply again."""
        times = self.fault.times
        used_up = times is not None and self.applied >= times
        return used_up or (self.ends is not None and now >= self.ends)


class Faults:
    """The active faults; the first one that matches a request applies to it."""

    def __init__(self, clock: Clock, seed: int | None = None) -> None:
        self._clock = clock
        self._seed = seed
        self._random = random.Random(seed)  # noqa: S311 - not used for secrets
        self._faults: list[ActiveFault] = []
        self._count = 0

    def add(self, fault: Fault) -> int:
        """Append a fault and return its number."""
        ends = None if fault.seconds is None else self._clock.time() + fault.seconds
        self._count += 1
        self._faults.append(ActiveFault(self._count, fault, ends))
        return self._count

    def clear(self, number: int | None = None) -> None:
        """Remove one fault, or all."""
        self._faults = [
            active for active in self._faults if number is not None and active.number != number
        ]

    def reset(self) -> None:
        """Remove all faults and seed the random numbers again."""
        self.clear()
        self._random.seed(self._seed)

    def active(self) -> list[ActiveFault]:
        """Return the faults that may still apply."""
        now = self._clock.time()
        self._faults = [active for active in self._faults if not active.is_over(now)]
        return self._faults

    def match(self, category: str, leg: str | None = None) -> Fault | None:
        """Return the fault that applies to a request, if any, and count it as applied."""
        for active in self.active():
            if _matches(active.fault, category, leg) and self._applies(active):
                return active.fault
        return None

    def _applies(self, active: ActiveFault) -> bool:
        if active.skipped < active.fault.after:
            active.skipped += 1
            return False
        if self._random.random() >= active.fault.probability:
            return False
        active.applied += 1
        return True


def _matches(fault: Fault, category: str, leg: str | None) -> bool:
    return fault.category in (EVERY_CATEGORY, category) and fault.leg in (None, leg)
