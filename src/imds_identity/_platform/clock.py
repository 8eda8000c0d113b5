"""Time, and the only caller of the time module; everything else is handed a clock."""

from __future__ import annotations

import functools
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Clock(Protocol):
        """What the engine needs of time, in seconds."""

        def now(self) -> float:
            """Seconds on a clock that never steps; its zero means nothing."""
            ...

        def tick(self) -> float:
            """Seconds on the cheapest clock, which may stand still in a suspended machine."""
            ...

        def wall(self) -> float:
            """Unix time as this machine believes it to be."""
            ...

        def sleep(self, seconds: float) -> None:
            """Wait."""
            ...


if sys.platform == "linux":
    # Unlike CLOCK_MONOTONIC it goes on while a machine is suspended, as tokens do.
    _steady = functools.partial(time.clock_gettime, time.CLOCK_BOOTTIME)
elif sys.platform == "darwin":
    _steady = functools.partial(time.clock_gettime, time.CLOCK_MONOTONIC)
else:
    _steady = time.monotonic


class SystemClock:
    """The machine's own clocks."""

    now = staticmethod(_steady)
    tick = staticmethod(time.monotonic)
    wall = staticmethod(time.time)
    sleep = staticmethod(time.sleep)


SYSTEM_CLOCK: Clock = SystemClock()
