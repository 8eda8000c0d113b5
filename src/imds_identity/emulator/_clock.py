"""Clocks: the emulator's time for everything that expires, runs or is limited."""

from __future__ import annotations

import threading
import time
from typing import Protocol, runtime_checkable


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
