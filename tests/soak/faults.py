"""Faults from outside: in the workers, the clocks, the service and the shared cache."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from .shared_state import DOWN, FLAKY, MOSTLY_HEALTHY, OUTAGE, RESOURCES, monotonic

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from .processes import WorkerProcesses
    from .report import Report
    from .shared_state import SharedState


class ServiceMode(NamedTuple):
    """A mode of the service: its name in the report, and bounds of its duration in seconds."""

    name: str
    shortest: float
    longest: float


_MODES = {
    MOSTLY_HEALTHY: ServiceMode("mostly healthy", 8.0, 25.0),
    FLAKY: ServiceMode("flaky", 5.0, 20.0),
    OUTAGE: ServiceMode("failing in one way", 3.0, 30.0),
    DOWN: ServiceMode("down", 1.0, 20.0),
}
_MODE_CHOICES = (MOSTLY_HEALTHY, MOSTLY_HEALTHY, MOSTLY_HEALTHY, FLAKY, OUTAGE, DOWN)
_DAY = 86400.0


class Fault(NamedTuple):
    """A fault that is injected repeatedly.

    Attributes:
        interval: the mean seconds between two injections.
        inject: injects it.
    """

    interval: float
    inject: Callable[[], None]


class Faults:
    """All faults, each on its own random schedule."""

    def __init__(
        self,
        shared_state: SharedState,
        workers: WorkerProcesses,
        cache: str,
        report: Report,
        rng: random.Random,
    ) -> None:
        self._shared_state = shared_state
        self._workers = workers
        self._cache = cache
        self._report = report
        self._rng = rng
        self._mode_until = 0.0
        faults = (
            Fault(3.0, self._stop_briefly),
            Fault(90.0, self._stop_for_long),
            Fault(5.0, self._kill_worker),
            Fault(7.0, self._set_machine_clock),
            Fault(20.0, self._set_service_clock),
            Fault(2.0, self._revoke_tokens),
            Fault(45.0, self._remove_cache),
            Fault(10.0, self._truncate_cache_file),
        )
        self._due = {fault: self._next_time(fault) for fault in faults}

    def inject_due(self) -> None:
        """Inject all faults that are due."""
        now = monotonic()
        self._change_service_mode(now)
        self._workers.resume_due(now)
        for fault, due in self._due.items():
            if now >= due:
                fault.inject()
                self._due[fault] = self._next_time(fault)

    def _next_time(self, fault: Fault) -> float:
        return monotonic() + self._rng.expovariate(1 / fault.interval)

    def _count(self, fault: str) -> None:
        self._report.count(f"faults: {fault}")

    def _change_service_mode(self, now: float) -> None:
        if now < self._mode_until:
            return
        mode = self._rng.choice(_MODE_CHOICES)
        name, shortest, longest = _MODES[mode]
        self._mode_until = now + self._rng.uniform(shortest, longest)
        self._shared_state.set_service_mode(mode)
        self._count(f"service {name}")

    def _stop_briefly(self) -> None:
        self._stop(self._rng.choice((0.1, 0.5, 2.0, 8.0, 20.0)) * self._rng.uniform(0.5, 1.0))

    def _stop_for_long(self) -> None:
        self._stop(self._rng.uniform(20.0, 90.0))

    def _stop(self, seconds: float) -> None:
        running = self._workers.running()
        if len(running) <= len(self._workers.members) // 2:
            return
        self._rng.choice(running).stop(seconds)
        self._count("SIGSTOP, for less than 20 s" if seconds < 20 else "SIGSTOP, for 20 to 90 s")

    def _kill_worker(self) -> None:
        candidates = [worker for worker in self._workers.members if not worker.long_lived]
        if candidates:
            self._workers.discard(self._rng.choice(candidates))
            self._workers.start(long_lived=False)
            self._count("kill -9")

    def _set_machine_clock(self) -> None:
        self._shared_state.set_machine_offset(self._clock_offset())
        self._count("machine clock set")

    def _set_service_clock(self) -> None:
        self._shared_state.set_service_offset(self._clock_offset())
        self._count("service clock set")

    def _clock_offset(self) -> float:
        furthest = self._rng.choice((0.0, 1.5, 10.0, 300.0, 3600.0, 30 * _DAY))
        return self._rng.uniform(-furthest, furthest)

    def _revoke_tokens(self) -> None:
        self._shared_state.revoke(self._rng.choice(RESOURCES))
        self._count("all tokens of a resource revoked")

    def _remove_cache(self) -> None:
        shutil.rmtree(self._cache, ignore_errors=True)
        self._count("shared cache directory removed")

    def _truncate_cache_file(self) -> None:
        with suppress(OSError, IndexError):
            name = self._rng.choice(os.listdir(self._cache))
            with open(f"{self._cache}/{name}", "r+b") as file:
                file.truncate(self._rng.randrange(400))
            self._count("shared cache file truncated")
