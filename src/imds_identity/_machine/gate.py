"""The service's limits, kept by the machine and not by each process.

IMDS takes 20 requests a second and 5 at once for tokens from a VM, and 5 a second of every other
kind, whoever sends them. So a request waits for one of a few lanes, each of which starts so many a
second at the most, and a pause that the service asks of one process (429, 410) is kept by all.
https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service#rate-limiting
"""

from __future__ import annotations

from contextlib import contextmanager

from .._core.failure import Refused
from .._core.key import Key
from .._runtime.named import NamedTuple
from .._wire.channel import MARGIN
from .._wire.retry import retry_after
from .held import Untrusted
from .lease import AllOverdue
from .store import note_moment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._core.source import Source
    from .._wire.channel import Expect
    from .._wire.exchange import Random, Response
    from .lease import Claim, Lease
    from .store import MachineCache

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
    def lanes(self) -> int:
        """How many lanes there are."""
        return self.at_once or 1

    @property
    def lane_seconds(self) -> float:
        """Seconds between the beginnings of two requests in one lane."""
        return self.lanes / self.per_second


# A fifth less than the service takes: other users of the machine ask it, too.
IDENTITY_LIMITS = Limits(at_once=4, per_second=16.0)
METADATA_LIMITS = Limits(at_once=None, per_second=4.0)


def gate_for(
    machine: MachineCache, source: Source, random: Random, limits: Limits = IDENTITY_LIMITS
) -> Gate:
    """The gate before ``source``'s endpoint."""
    name = machine.name_of(Key(source.name, source.endpoint))
    return Gate(machine, name, random, limits)


class Gate:
    """What every request of this user's processes to one endpoint goes through.

    Args:
        machine: where the processes meet.
        name: of the endpoint.
        random: spreads those who waited for the same moment.
        limits: what the endpoint takes.
    """

    def __init__(
        self, machine: MachineCache, name: str, random: Random, limits: Limits = IDENTITY_LIMITS
    ) -> None:
        self._machine = machine
        self._clock = machine.clock
        self._name = name
        self._random = random
        self._limits = limits

    @contextmanager
    def admitted(self, seconds: float, expect: Expect) -> Iterator[None]:
        """Wait until a request may be under way, and hold its lane while it is.

        Args:
            seconds: how long the request takes at the most.
            expect: is told for how many seconds nothing may be heard of the caller.

        Raises:
            Refused: if the service wants to be left alone for longer than one can wait.
        """
        claims: list[Claim] = []
        try:
            try:
                self._admit(claims, seconds, expect)
                yield
            finally:
                _close(claims)
        except BaseException:
            _close(claims)  # once more: a signal handler may have raised within the first
            raise

    def heed(self, response: Response) -> None:
        """Have all processes pause, if the service itself asks for that in ``response``."""
        if response.status not in _PAUSING or not response.is_a_metadata_error:
            return
        wanted = retry_after(response)
        seconds = _UNNAMED_PAUSE * (0.5 + self._random()) if wanted is None else wanted
        seconds = min(seconds, LONGEST_PAUSE)
        if seconds > self.remaining():  # a pause only grows while it lasts
            moment = self._clock.now() + seconds
            note_moment(self._machine.directory, f"{self._name}.pause", moment)

    def _admit(self, claims: list[Claim], seconds: float, expect: Expect) -> None:
        """Have a lane held by one of ``claims``, or go without."""
        deadline = self._clock.now() + _LONGEST_WAIT
        self._sit_out(deadline, expect)
        while True:
            lane = self._lane(claims, deadline, expect)
            if self.remaining() <= 0:
                break
            _close(claims)
            self._sit_out(deadline, expect)  # another was told to rest while we waited
        if lane is not None:
            lane.rest(self._limits.lane_seconds)
            lane.extend(seconds)
        if self._limits.at_once is None:
            _close(claims)

    def remaining(self) -> float:
        """Seconds of the pause that are left, 0 if nobody is to rest."""
        status = self._machine.directory.stat(f"{self._name}.pause")
        remaining = status.st_mtime - self._clock.now() if status else 0.0
        # A moment far ahead is the wall clock's: the file was made and not noted yet.
        return remaining if 0 < remaining <= LONGEST_PAUSE else 0.0

    def _sit_out(self, deadline: float, expect: Expect) -> None:
        """Wait for the end of a pause."""
        remaining = self.remaining()
        if remaining <= 0:
            return
        if self._clock.now() + remaining > deadline:
            raise Refused(
                f"the service asked this machine to rest, for {remaining:.0f} s more",
                "Another process was throttled; find what asks so often.",
                retry_after=remaining,
            )
        # On top of it, or all who waited would start in the same moment.
        seconds = remaining + self._random() * _UNNAMED_PAUSE
        expect(seconds + MARGIN)
        self._clock.sleep(seconds)

    def _lane(self, claims: list[Claim], deadline: float, expect: Expect) -> Lease | None:
        """A lane of our own, or None where there is none to be had."""
        first, lanes = int(self._random() * self._limits.lanes), self._limits.lanes
        order = ((first + number) % lanes for number in range(lanes))
        claims[:] = [self._machine.claim(f"{self._name}-lane-{number}") for number in order]
        try:
            while claims and self._clock.now() < deadline:
                if lane := _first_free(claims):
                    return lane
                expect(MARGIN)
                self._clock.sleep(_POLL * (0.5 + self._random()))
        except (OSError, ValueError, Untrusted):  # without a directory limits are kept by luck
            pass
        return None


def _first_free(claims: list[Claim]) -> Lease | None:
    """The first lease that can be had; claims with nobody to wait for are dropped."""
    for claim in list(claims):
        try:
            if lane := claim.attempt():
                return lane
        except AllOverdue:
            claims.remove(claim)
            claim.close()
    return None


def _close(claims: list[Claim]) -> None:
    for claim in claims:
        claim.close()
