"""The system's clocks. All other modules get a clock as an argument."""

from __future__ import annotations

import functools
import sys
import time

from . import threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Clock(Protocol):
        """Time in seconds."""

        # Never set; its zero is arbitrary.
        def now(self) -> float: ...
        # The fastest clock, which may stop while a machine is suspended.
        def tick(self) -> float: ...
        # Unix time according to this machine.
        def wall(self) -> float: ...
        def sleep(self, seconds: float) -> None: ...


if sys.platform == "linux":
    # Tokens also expire while a machine is suspended: CLOCK_MONOTONIC stops then.
    _steady = functools.partial(time.clock_gettime, time.CLOCK_BOOTTIME)
elif sys.platform == "darwin":
    _steady = functools.partial(time.clock_gettime, time.CLOCK_MONOTONIC)
else:
    _steady = time.monotonic


_SLEEP_SECONDS = 0.2
"""Seconds after which a sleeping thread checks whether its interpreter is ending."""


def _sleep(seconds: float) -> None:
    """Sleep; in an internal thread, raise SystemExit if its interpreter ends in the meantime."""
    end = time.monotonic() + seconds
    while seconds > _SLEEP_SECONDS and threads.is_internal_thread():
        time.sleep(_SLEEP_SECONDS)
        threads.check_ending()
        seconds = end - time.monotonic()
    time.sleep(max(seconds, 0.0))


class SystemClock:
    """The clocks of the operating system."""

    now = staticmethod(_steady)
    tick = staticmethod(time.monotonic)
    wall = staticmethod(time.time)
    sleep = staticmethod(_sleep)


SYSTEM_CLOCK: Clock = SystemClock()
