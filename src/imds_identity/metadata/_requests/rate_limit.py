"""The service's limit within one process, for where processes share no directory."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..._http.messages import Response
    from ..._http.runner import Heartbeat
    from ..._platform.clock import Clock

_MOST_REMEMBERED = 64


class Pace:
    """Lets so many requests begin in a second, and no more.

    Time is cut into intervals, each of which one request may take. There is no lock: a fork or a
    signal handler could leave one locked.

    Args:
        clock: the time.
        per_second: how many requests may begin in a second.
    """

    def __init__(self, clock: Clock, per_second: float) -> None:
        self._clock = clock
        self._interval = 1 / per_second
        self._takers: dict[int, object] = {}

    @contextmanager
    def acquire(self, seconds: float, heartbeat: Heartbeat) -> Iterator[None]:
        """Wait until a request may begin.

        Args:
            seconds: how long it takes at the most.
            heartbeat: is told how long nothing may be heard of the caller.
        """
        now = self._clock.now()
        wait = self._taken(int(now / self._interval)) * self._interval - now
        if wait > 0:
            heartbeat(wait + seconds)
            self._clock.sleep(wait)
        yield

    def observe(self, response: Response) -> None:
        """Nothing: the caller's own retry rules make it pause."""

    def _taken(self, present: int) -> int:
        """The first interval from ``present`` on that nobody had taken."""
        taker, number = object(), present
        while self._takers.setdefault(number, taker) is not taker:
            number += 1
        if len(self._takers) > _MOST_REMEMBERED:
            for past in [each for each in list(self._takers) if each < present]:
                self._takers.pop(past, None)
        return number
