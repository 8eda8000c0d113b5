"""The service's rate limits, which all processes of a user share.

IMDS accepts from one VM 20 requests per second and 5 at the same time for tokens, and 5 requests
per second for anything else. A request therefore acquires one of a few permits. A permit is a
lease: it is held while the request is under way, and its cooldown limits requests per second.
If the service returns 429 or 410, all processes pause until the modification time of a file.

The limits are not strict. If the shared cache cannot be used, each process limits its own requests.
A request is sent without a permit if none was free for a minute, because throttling by the service
is better than no token at all.
https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service#rate-limiting
"""

from __future__ import annotations

import weakref
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

from .._core.failure import Reason, Refused
from .._core.key import Key
from .._http.runner import MARGIN
from .._platform.fork import detect_fork, reset_in_child
from .lease import LeaseUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from .._core.source import Source
    from .._http.exchange import Random
    from .._http.messages import Response
    from .._http.runner import Heartbeat
    from .._platform.clock import Clock
    from .lease import LeaseAttempt
    from .store import SharedCache

LONGEST_PAUSE = 120.0
"""Seconds after which a process tries again, even if Retry-After is longer."""
_LONGEST_WAIT = 60.0
_DEFAULT_PAUSE = 2.0
_POLL = 0.02
_THROTTLED = (410, 429)


class Limits(NamedTuple):
    """The requests that a service accepts from one machine.

    Attributes:
        at_once: requests at the same time; None for no limit.
        per_second: requests that start per second.
    """

    at_once: int | None
    per_second: float

    @property
    def permits(self) -> int:
        """The number of permits."""
        return self.at_once or 1

    @property
    def permit_seconds(self) -> float:
        """The shortest time between two uses of one permit."""
        return self.permits / self.per_second


# A fifth less than the service accepts, because other users of the machine send requests, too.
IDENTITY_LIMITS = Limits(at_once=4, per_second=16.0)
METADATA_LIMITS = Limits(at_once=None, per_second=4.0)


def rate_limiter_for(
    shared_cache: SharedCache, source: Source, random: Random, limits: Limits = IDENTITY_LIMITS
) -> RateLimiter:
    """Return the rate limiter of the endpoint of ``source``."""
    name = shared_cache.name_of(Key(source.name, source.key_endpoint))
    key = (source.endpoint, shared_cache.clock)
    in_process = _in_process.get(key) or _in_process.setdefault(
        key, ProcessRateLimiter(shared_cache.clock, random, limits)
    )
    return RateLimiter(shared_cache, name, random, limits, in_process)


class RateLimiter:
    """Limits the requests of all of a user's processes to the endpoint ``name``.

    ``in_process`` limits the requests of this process if the directory cannot be used.
    """

    def __init__(
        self,
        shared_cache: SharedCache,
        name: str,
        random: Random,
        limits: Limits = IDENTITY_LIMITS,
        in_process: ProcessRateLimiter | None = None,
    ) -> None:
        self._shared_cache = shared_cache
        self._clock = shared_cache.clock
        self._name = name
        self._random = random
        self._limits = limits
        self._in_process = in_process or ProcessRateLimiter(self._clock, random, limits)

    @contextmanager
    def acquire(self, seconds: float, heartbeat: Heartbeat) -> Iterator[None]:
        """Wait until a request may be sent, and hold a permit during the ``with`` block.

        Raise Refused if the service's pause is too long to wait for.

        Args:
            seconds: the longest duration of the request.
            heartbeat: called with the seconds until its next call.
        """
        attempts: list[LeaseAttempt] = []
        try:
            try:
                with self._permit(attempts, seconds, heartbeat):
                    yield
            finally:
                _close(attempts)
        except BaseException:
            _close(attempts)  # again: a signal handler may have raised during the first call
            raise

    def observe(self, response: Response) -> None:
        """Make all processes pause if ``response`` is the service's own and requires that."""
        if response.status not in _THROTTLED or not response.is_metadata_error:
            return
        seconds = response.retry_after
        if seconds is None:
            seconds = _DEFAULT_PAUSE * (0.5 + self._random())
        seconds = min(seconds, LONGEST_PAUSE)
        if seconds > self.remaining_pause():  # never shorten a pause
            directory = self._shared_cache.directory
            directory.set_mtime(f"{self._name}.pause", self._clock.now() + seconds)

    def remaining_pause(self) -> float:
        """Return the remaining seconds of the pause, 0 if there is none."""
        status = self._shared_cache.directory.stat(f"{self._name}.pause")
        remaining = status.st_mtime - self._clock.now() if status else 0.0
        # A longer time is that of the wall clock: the file was created, and its time not yet set.
        return remaining if 0 < remaining <= LONGEST_PAUSE else 0.0

    def _permit(
        self, attempts: list[LeaseAttempt], seconds: float, heartbeat: Heartbeat
    ) -> AbstractContextManager[None]:
        """Take a permit; return one of this process if there is no usable directory."""
        try:
            self._acquire(attempts, seconds, heartbeat)
        except (OSError, ValueError):
            return self._in_process.acquire(seconds, heartbeat)
        return nullcontext()

    def _acquire(self, attempts: list[LeaseAttempt], seconds: float, heartbeat: Heartbeat) -> None:
        deadline = self._clock.now() + _LONGEST_WAIT
        self._wait_for_pause(deadline, heartbeat)
        while True:
            waited = self._wait_for_permit(attempts, seconds, deadline, heartbeat)
            if not waited or self.remaining_pause() <= 0:
                break
            _close(attempts)  # another process was throttled while this one waited for a permit
            self._wait_for_pause(deadline, heartbeat)
        if self._limits.at_once is None:
            _close(attempts)

    def _wait_for_pause(self, deadline: float, heartbeat: Heartbeat) -> None:
        remaining = self.remaining_pause()
        if remaining <= 0:
            return
        if self._clock.now() + remaining > deadline:
            raise Refused(
                f"throttled by the service (HTTP 429 or 410): retry in {remaining:.0f} s",
                "Another process of this user was throttled: find the one that requests tokens "
                "too often.",
                reason=Reason.THROTTLED,
                retry_after=remaining,
            )
        seconds = remaining + self._random() * _DEFAULT_PAUSE
        heartbeat(seconds + MARGIN)
        self._clock.sleep(seconds)

    def _wait_for_permit(
        self,
        attempts: list[LeaseAttempt],
        seconds: float,
        deadline: float,
        heartbeat: Heartbeat,
    ) -> bool:
        """Wait for a permit for ``seconds``, or until the deadline; return whether it waited."""
        waited = False
        permits = self._limits.permits
        first = int(self._random() * permits)
        names = [f"{self._name}-permit-{(first + n) % permits}" for n in range(permits)]
        attempts[:] = map(self._shared_cache.lease_attempt, names)
        while attempts and self._clock.now() < deadline:
            if self._take_first_available(attempts, seconds):
                break
            waited = True
            heartbeat(MARGIN)
            self._clock.sleep(_POLL * (0.5 + self._random()))
        return waited

    def _take_first_available(self, attempts: list[LeaseAttempt], seconds: float) -> bool:
        for attempt in list(attempts):
            try:
                if attempt.try_acquire(seconds, self._limits.permit_seconds):
                    return True
            except LeaseUnavailable:
                attempts.remove(attempt)
                attempt.close()
        return False


class ProcessRateLimiter:
    """Limits the requests of a process that shares no directory with others.

    There is no lock, because a signal handler or a fork could leave it locked.
    """

    def __init__(self, clock: Clock, random: Random, limits: Limits = IDENTITY_LIMITS) -> None:
        self._clock = clock
        self._random = random
        self._limits = limits
        self._holders: dict[int, object] = {}
        self._cooldowns: dict[int, float] = {}
        _process_limiters.add(self)

    @contextmanager
    def acquire(self, seconds: float, heartbeat: Heartbeat) -> Iterator[None]:  # noqa: ARG002
        """Wait until a request may be sent, and hold a permit during the ``with`` block."""
        holder, deadline = object(), self._clock.now() + _LONGEST_WAIT
        try:
            while (wait := self._take(holder)) is None and self._clock.now() < deadline:
                heartbeat(MARGIN)
                self._clock.sleep(_POLL * (0.5 + self._random()))
            if wait:
                heartbeat(wait + MARGIN)
                self._clock.sleep(wait)
            if self._limits.at_once is None:
                self._release(holder)
            yield
        finally:
            self._release(holder)

    def observe(self, response: Response) -> None:
        """Ignore the response: the retry rules of the caller make it pause."""

    def reset_after_fork(self) -> None:
        """Release the permits of the parent's threads."""
        self._holders = {}

    def _take(self, holder: object) -> float | None:
        """Take a permit, and return the seconds to wait for its cooldown; None if none is free."""
        detect_fork()
        cooldowns, permits = self._cooldowns, range(self._limits.permits)
        for number in sorted(permits, key=lambda each: cooldowns.get(each, 0.0)):
            if self._holders.setdefault(number, holder) is holder:
                now = self._clock.now()
                start = max(now, cooldowns.get(number, now))
                cooldowns[number] = start + self._limits.permit_seconds
                return start - now
        return None

    def _release(self, holder: object) -> None:
        for number, other in list(self._holders.items()):
            if other is holder:
                del self._holders[number]


_in_process: dict[tuple[str, Clock], ProcessRateLimiter] = {}
_process_limiters: weakref.WeakSet[ProcessRateLimiter] = weakref.WeakSet()


@reset_in_child
def _reset() -> None:
    for limiter in list(_process_limiters):
        limiter.reset_after_fork()


def _close(attempts: list[LeaseAttempt]) -> None:
    for attempt in attempts:
        attempt.close()
