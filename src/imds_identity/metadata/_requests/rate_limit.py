"""The service's rate limit within one process, for processes that share no directory."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..._http.messages import Response
    from ..._http.runner import Heartbeat
    from ..._platform.clock import Clock

_MAX_RESERVATIONS = 64


class ProcessRateLimiter:
    """Limits how many requests of this process start in a second.

    Time is divided into intervals, and each request reserves one. There is no lock, because a fork
    or a signal handler could leave it locked.
    """

    def __init__(self, clock: Clock, per_second: float) -> None:
        self._clock = clock
        self._interval = 1 / per_second
        self._reservations: dict[int, object] = {}

    @contextmanager
    def acquire(self, seconds: float, heartbeat: Heartbeat) -> Iterator[None]:
        """Wait until a request may start; ``heartbeat`` receives the seconds until it has ended."""
        now = self._clock.now()
        wait = self._reserve(int(now / self._interval)) * self._interval - now
        if wait > 0:
            heartbeat(wait + seconds)
            self._clock.sleep(wait)
        yield

    def observe(self, response: Response) -> None:
        """Ignore the response: the retry rules of the caller make it pause."""

    def _reserve(self, current: int) -> int:
        """Reserve the first free interval from ``current`` on, and return its number."""
        owner, number = object(), current
        while self._reservations.setdefault(number, owner) is not owner:
            number += 1
        if len(self._reservations) > _MAX_RESERVATIONS:
            for past in [each for each in list(self._reservations) if each < current]:
                self._reservations.pop(past, None)
        return number
