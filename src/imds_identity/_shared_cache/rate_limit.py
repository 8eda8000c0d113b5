"""The service's limits, kept by the machine and not by each process.

IMDS takes 20 requests a second and 5 at once for tokens from a VM, and 5 a second of every other
kind, whoever sends them. So a request waits for one of a few lanes, each of which starts so many a
second at the most, and a pause that the service asks of one process (429, 410) is kept by all.
https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service#rate-limiting
"""

from __future__ import annotations

from contextlib import contextmanager

from .._core.failure import Reason, Refused
from .._core.key import Key
from .._http.retry import retry_after
from .._http.runner import MARGIN
from .._platform.named_tuple import NamedTuple
from .lease import LeaseUnavailable
from .open_directory import Untrusted
from .store import set_mtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._core.source import Source
    from .._http.exchange import Random, Response
    from .._http.runner import Heartbeat
    from .lease import Lease, LeaseAttempt
    from .store import SharedCache

LONGEST_PAUSE = 120.0
"""Seconds: whatever a service asks for, somebody looks whether it is well again after that."""
_LONGEST_WAIT = 60.0
_UNNAMED_PAUSE = 2.0
_POLL = 0.02
_PAUSING = (410, 429)


class Limits(NamedTuple):
    """What a service takes from one machine.

    Attributes:
        at_once: requests under way at once, if that is limited.
        per_second: requests that begin in a second.
    """

    at_once: int | None
    per_second: float

    @property
    def permits(self) -> int:
        """How many lanes there are."""
        return self.at_once or 1

    @property
    def permit_seconds(self) -> float:
        """Seconds between the beginnings of two requests in one lane."""
        return self.permits / self.per_second


# A fifth less than the service takes: other users of the machine ask it, too.
IDENTITY_LIMITS = Limits(at_once=4, per_second=16.0)
METADATA_LIMITS = Limits(at_once=None, per_second=4.0)


def rate_limiter_for(
    shared_cache: SharedCache, source: Source, random: Random, limits: Limits = IDENTITY_LIMITS
) -> RateLimiter:
    """The gate before ``source``'s endpoint."""
    name = shared_cache.name_of(Key(source.name, source.endpoint))
    return RateLimiter(shared_cache, name, random, limits)


class RateLimiter:
    """What every request of this user's processes to one endpoint goes through.

    Args:
        shared_cache: where the processes meet.
        name: of the endpoint.
        random: spreads those who waited for the same moment.
        limits: what the endpoint takes.
    """

    def __init__(
        self, shared_cache: SharedCache, name: str, random: Random, limits: Limits = IDENTITY_LIMITS
    ) -> None:
        self._shared_cache = shared_cache
        self._clock = shared_cache.clock
        self._name = name
        self._random = random
        self._limits = limits

    @contextmanager
    def acquire(self, seconds: float, heartbeat: Heartbeat) -> Iterator[None]:
        """Wait until a request may be under way, and hold its lane while it is.

        Args:
            seconds: how long the request takes at the most.
            heartbeat: is told for how many seconds nothing may be heard of the caller.

        Raises:
            Refused: if the service wants to be left alone for longer than one can wait.
        """
        lease_attempts: list[LeaseAttempt] = []
        try:
            try:
                self._acquire(lease_attempts, seconds, heartbeat)
                yield
            finally:
                _close(lease_attempts)
        except BaseException:
            _close(lease_attempts)  # once more: a signal handler may have raised within the first
            raise

    def observe(self, response: Response) -> None:
        """Have all processes pause, if the service itself asks for that in ``response``."""
        if response.status not in _PAUSING or not response.is_metadata_error:
            return
        wanted = retry_after(response)
        seconds = _UNNAMED_PAUSE * (0.5 + self._random()) if wanted is None else wanted
        seconds = min(seconds, LONGEST_PAUSE)
        if seconds > self.remaining_pause():  # a pause only grows while it lasts
            moment = self._clock.now() + seconds
            set_mtime(self._shared_cache.directory, f"{self._name}.pause", moment)

    def _acquire(
        self, lease_attempts: list[LeaseAttempt], seconds: float, heartbeat: Heartbeat
    ) -> None:
        """Have a lane held by one of ``lease_attempts``, or go without."""
        deadline = self._clock.now() + _LONGEST_WAIT
        self._wait_out_pause(deadline, heartbeat)
        while True:
            permit = self._permit(lease_attempts, deadline, heartbeat)
            if self.remaining_pause() <= 0:
                break
            _close(lease_attempts)
            self._wait_out_pause(deadline, heartbeat)  # another was told to rest while we waited
        if permit is not None:
            permit.cooldown(self._limits.permit_seconds)
            permit.extend(seconds)
        if self._limits.at_once is None:
            _close(lease_attempts)

    def remaining_pause(self) -> float:
        """Seconds of the pause that are left, 0 if nobody is to rest."""
        status = self._shared_cache.directory.stat(f"{self._name}.pause")
        remaining_pause = status.st_mtime - self._clock.now() if status else 0.0
        # A moment far ahead is the wall clock's: the file was made and not noted yet.
        return remaining_pause if 0 < remaining_pause <= LONGEST_PAUSE else 0.0

    def _wait_out_pause(self, deadline: float, heartbeat: Heartbeat) -> None:
        """Wait for the end of a pause."""
        remaining_pause = self.remaining_pause()
        if remaining_pause <= 0:
            return
        if self._clock.now() + remaining_pause > deadline:
            raise Refused(
                f"the service asked this machine to rest, for {remaining_pause:.0f} s more",
                "Another process was throttled; find what asks so often.",
                reason=Reason.THROTTLED,
                retry_after=remaining_pause,
            )
        # On top of it, or all who waited would start in the same moment.
        seconds = remaining_pause + self._random() * _UNNAMED_PAUSE
        heartbeat(seconds + MARGIN)
        self._clock.sleep(seconds)

    def _permit(
        self, lease_attempts: list[LeaseAttempt], deadline: float, heartbeat: Heartbeat
    ) -> Lease | None:
        """A lane of our own, or None where there is none to be had."""
        first, permits = int(self._random() * self._limits.permits), self._limits.permits
        order = ((first + number) % permits for number in range(permits))
        lease_attempts[:] = [
            self._shared_cache.lease_attempt(f"{self._name}-lane-{number}") for number in order
        ]
        try:
            while lease_attempts and self._clock.now() < deadline:
                if permit := _first_available(lease_attempts):
                    return permit
                heartbeat(MARGIN)
                self._clock.sleep(_POLL * (0.5 + self._random()))
        except (OSError, ValueError, Untrusted):  # without a directory limits are kept by luck
            pass
        return None


def _first_available(lease_attempts: list[LeaseAttempt]) -> Lease | None:
    """The first lease that can be had; claims with nobody to wait for are dropped."""
    for lease_attempt in list(lease_attempts):
        try:
            if permit := lease_attempt.attempt():
                return permit
        except LeaseUnavailable:
            lease_attempts.remove(lease_attempt)
            lease_attempt.close()
    return None


def _close(lease_attempts: list[LeaseAttempt]) -> None:
    for lease_attempt in lease_attempts:
        lease_attempt.close()
