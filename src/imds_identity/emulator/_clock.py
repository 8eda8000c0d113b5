"""Clocks: the emulator's time for everything that expires, runs or is limited."""

from __future__ import annotations

import datetime as dt
import re
import threading
import time
from typing import Protocol, runtime_checkable

_YEAR_9000 = 221_845_392_000  # in Unix seconds; certificates and dates cannot be much later


@runtime_checkable
class Clock(Protocol):
    """A source of time for the emulator."""

    def time(self) -> float:
        """Return the time in Unix seconds."""


class SystemClock:
    """The machine's clock."""

    def time(self) -> float:
        """Return the time in Unix seconds."""
        return time.time()


class ManualClock:
    """A clock that moves only when a test advances it.

    Args:
        start: the initial time in Unix seconds; by default the machine's time.
    """

    def __init__(self, start: float | None = None) -> None:
        self._now = time.time() if start is None else start
        self._lock = threading.Lock()

    def time(self) -> float:
        """Return the time in Unix seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the time forward.

        Args:
            seconds: how far; a negative number moves the time back.
        """
        with self._lock:
            self._now += seconds


class ScaledClock:
    """A clock that starts at the machine's time and runs ``factor`` times as fast.

    Args:
        factor: emulated seconds per real second; above zero.

    Raises:
        ValueError: if the factor is zero or negative.
    """

    def __init__(self, factor: float) -> None:
        if not factor > 0:
            raise ValueError(f"A clock's factor must be above zero, not {factor}.")
        self._factor = factor
        self._start = time.time()
        self._zero = time.monotonic()

    def time(self) -> float:
        """Return the time in Unix seconds."""
        return self._start + (time.monotonic() - self._zero) * self._factor


class AdjustableClock:
    """A clock that follows another one, and can be moved and stopped.

    Args:
        base: the clock to follow.
    """

    def __init__(self, base: Clock) -> None:
        self._base = base
        self._offset = 0.0
        self._stopped_at: float | None = None  # by the base

    def time(self) -> float:
        """Return the time in Unix seconds."""
        stopped_at = self._stopped_at
        return self._offset + (self._base.time() if stopped_at is None else stopped_at)

    @property
    def is_stopped(self) -> bool:
        """Whether only `advance` moves it."""
        return self._stopped_at is not None

    def advance(self, seconds: float) -> None:
        """Move the time forward, or back by a negative number; ValueError if it is too far."""
        self.check(seconds)
        self._offset += seconds

    def check(self, seconds: float) -> None:
        """Raise ValueError if the time cannot be moved that far."""
        if not 0 <= self.time() + seconds < _YEAR_9000:
            raise ValueError("The clock must be between the years 1970 and 9000.")

    def stop(self, *, stopped: bool = True) -> None:
        """Stop the clock, or let it run again from the time that it shows."""
        if stopped is not self.is_stopped:
            now = self.time()
            self._stopped_at = self._base.time() if stopped else None
            self._offset += now - self.time()

    def reset(self) -> None:
        """Follow the other clock again."""
        self._stopped_at, self._offset = None, 0.0


def parse_time(text: str) -> float:
    """Parse a time such as 2027-01-01T00:00:00Z, by default in UTC; ValueError for other texts."""
    found = dt.datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text))
    return (found if found.tzinfo else found.replace(tzinfo=dt.timezone.utc)).timestamp()


def parse_clock(text: str) -> AdjustableClock:
    """Parse the value of ``--clock``; ValueError if it is neither an offset nor a time."""
    clock = AdjustableClock(SystemClock())
    start = text.removesuffix(",stopped")
    clock.stop(stopped=start != text)
    try:
        is_offset = re.fullmatch(r"[+-]\d+(\.\d+)?", start)
        clock.advance(float(start) if is_offset else parse_time(start) - clock.time())
    except ValueError:
        raise ValueError(
            f"clock must be a time, such as 2027-01-01T00:00:00Z, or an offset in seconds, such as "
            f"+3600 or -60, and may end with ,stopped; not {text!r}."
        ) from None
    return clock
