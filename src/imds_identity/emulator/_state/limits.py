"""The limits that each VM has: requests in a second, and requests at once."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._clock import Clock

_IDENTITY_PER_SECOND = 20
_IDENTITY_AT_ONCE = 5
_OTHERS_PER_SECOND = 5
_UNLIMITED = frozenset({"certificates", "key-vault", "openid"})


class Limits:
    """Counts requests against the limits per VM.

    Managed identity: 20 requests in any second and 5 at once. All other metadata categories
    together: 5 requests in any second.

    Args:
        clock: the time.
        enabled: whether anything is ever refused.
    """

    def __init__(self, clock: Clock, *, enabled: bool) -> None:
        self.enabled = enabled
        self._clock = clock
        self._identity: deque[float] = deque()
        self._others: deque[float] = deque()
        self._at_once = 0

    def admit(self, category: str) -> bool:
        """Count a request; whether it is within the limits."""
        if not self.enabled or category in _UNLIMITED:
            return True
        if category == "identity":
            if self._at_once >= _IDENTITY_AT_ONCE:
                return False
            return self._within(self._identity, _IDENTITY_PER_SECOND)
        return self._within(self._others, _OTHERS_PER_SECOND)

    def begin(self, category: str) -> None:
        """Note that an admitted request is being answered."""
        if category == "identity":
            self._at_once += 1

    def end(self, category: str) -> None:
        """Note that it was answered, or given up."""
        if category == "identity":
            self._at_once -= 1

    def forget(self) -> None:
        """Forget the requests of the last second."""
        self._identity.clear()
        self._others.clear()

    def _within(self, recent: deque[float], most: int) -> bool:
        now = self._clock.time()
        while recent and not now - 1.0 < recent[0] <= now:
            recent.popleft()
        if len(recent) >= most:
            return False
        recent.append(now)
        return True
