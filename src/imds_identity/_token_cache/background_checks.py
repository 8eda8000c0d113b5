"""Checks in the background whether other processes have newer tokens: no caller waits for files."""

from __future__ import annotations

from .._platform.locks import BriefLock
from .._platform.threads import mark_thread
from .entry import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.key import Key
    from .._platform.clock import Clock
    from .flight import Start

_LONGEST_CHECK = 60.0
"""Seconds for one check; if it takes longer, another thread may be started."""


class BackgroundChecks:
    """Runs checks, one for each key, in one thread that ends when none is left."""

    def __init__(self, clock: Clock, start: Start) -> None:
        self._clock = clock
        self._start = start
        self._lock = BriefLock()
        self.reset()

    def reset(self) -> None:
        """Forget the thread and its checks, which a forked child does not have."""
        self._waiting: dict[Key, Callable[[], object]] = {}
        self._busy_until = NEVER

    def add(self, key: Key, check: Callable[[], object]) -> None:
        """Run ``check`` soon, unless one for ``key`` is waiting or no thread can be started."""
        if self._lock.run(self._add, key, check):
            try:
                self._start(self._run, blocks=False)
            except RuntimeError:
                self._busy_until = NEVER  # the next call tries it again

    def _run(self) -> None:
        mark_thread(ending=True)
        while check := self._lock.run(self._take):
            check()

    def _add(self, key: Key, check: Callable[[], object]) -> bool:
        """Return whether a thread has to be started."""
        self._waiting.setdefault(key, check)
        now = self._clock.now()
        is_idle = now >= self._busy_until
        if is_idle:
            self._busy_until = now + _LONGEST_CHECK
        return is_idle

    def _take(self) -> Callable[[], object] | None:
        for key in self._waiting:
            self._busy_until = self._clock.now() + _LONGEST_CHECK
            return self._waiting.pop(key)
        self._busy_until = NEVER
        return None
