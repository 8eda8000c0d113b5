"""The emulator's time: everything that expires, runs or is limited asks one of these."""

from __future__ import annotations

import threading
import time
from typing import Protocol, runtime_checkable


@runtime_checkable
class Clock(Protocol):
    """What tells the emulator the time."""

    def time(self) -> float:
        """The time in Unix seconds."""


class SystemClock:
    """The machine's own time."""

    def time(self) -> float:
        """The time in Unix seconds."""
        return time.time()


class ManualClock:
    """Time that moves only when a test moves it.

    Args:
        start: its first answer, in Unix seconds; the machine's time when
            left out.
    """

    def __init__(self, start: float | None = None) -> None:
        self._now = time.time() if start is None else start
        self._lock = threading.Lock()

    def time(self) -> float:
        """The time in Unix seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the time on.

        Args:
            seconds: how far; negative moves it back.
        """
        with self._lock:
            self._now += seconds


class ScaledClock:
    """The machine's time, sped up: starts at the present and runs ``factor`` times as fast.

    Args:
        factor: emulated seconds in one real second; above zero.

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
        """The time in Unix seconds."""
        return self._start + (time.monotonic() - self._zero) * self._factor
