"""The rate limits of a VM: requests per second, and concurrent requests."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from .fault import OTHER_SERVICES

if TYPE_CHECKING:
    from .._clock import Clock

_IDENTITY_PER_SECOND = 20
_IDENTITY_CONCURRENT = 5
_OTHERS_PER_SECOND = 5


class Limits:
    """Counts requests against the limits of a VM."""

    def __init__(self, clock: Clock, *, enabled: bool) -> None:
        self.enabled = enabled
        self._clock = clock
        self._identity: deque[float] = deque()
        self._others: deque[float] = deque()
        self._concurrent = 0

    def admit(self, category: str) -> bool:
        """Count a request and return whether it is within the limits."""
        if not self.enabled or category in OTHER_SERVICES:
            return True
        if category == "identity":
            if self._concurrent >= _IDENTITY_CONCURRENT:
                return False
            return self._count(self._identity, _IDENTITY_PER_SECOND)
        return self._count(self._others, _OTHERS_PER_SECOND)

    def begin(self, category: str) -> None:
        """Record that the response to an admitted request is under way."""
        if category == "identity":
            self._concurrent += 1

    def end(self, category: str) -> None:
        """Record that a response was sent or given up."""
        if category == "identity":
            self._concurrent -= 1

    def reset(self) -> None:
        """Forget the requests of the last second."""
        self._identity.clear()
        self._others.clear()

    def _count(self, recent: deque[float], limit: int) -> bool:
        now = self._clock.time()
        while recent and not now - 1.0 < recent[0] <= now:
            recent.popleft()
        if len(recent) >= limit:
            return False
        recent.append(now)
        return True
