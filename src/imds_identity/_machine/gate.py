"""The service's limits, kept by the machine and not by each process.

IMDS takes 20 requests a second and 5 at once from a VM, whoever sends them. So no more than 4 are
under way at once, each of 4 lanes starts one every quarter of a second at the most, and a pause
that the service asks of one process (429, 410) is kept by all.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from .._core.failure import Refused
from .._core.key import Key
from .._wire.retry import retry_after
from . import flock

if TYPE_CHECKING:
    from .._core.clock import Clock
    from .._sources.detect import Source
    from .._wire.drive import Sender
    from .._wire.exchange import Random, Request, Response
    from .store import MachineCache

_LANES = 4
_LANE_SECONDS = 0.25
_LONGEST_WAIT = 60.0
_UNNAMED_PAUSE = 2.0
_POLL = 0.02
_PAUSING = (410, 429)


def gate_for(machine: MachineCache, source: Source, random: Random) -> Gate:
    """The gate before ``source``'s endpoint."""
    return Gate(machine, machine.name_of(Key(source.name, source.endpoint)), machine.clock, random)


class Gate:
    """What every request of this user's processes to one endpoint goes through.

    Args:
        machine: where the processes meet.
        name: of the endpoint.
        clock: the time.
        random: spreads those who waited for the same moment.
    """

    def __init__(self, machine: MachineCache, name: str, clock: Clock, random: Random) -> None:
        self._machine = machine
        self._name = name
        self._clock = clock
        self._random = random

    def around(self, send: Sender) -> Sender:
        """``send``, as the machine as a whole may send."""

        def gated(request: Request) -> Response:
            self._wait_for_the_end_of_a_pause()
            response = self._in_a_lane(send, request)
            if response.status in _PAUSING:
                self._pause(retry_after(response))
            return response

        return gated

    def _wait_for_the_end_of_a_pause(self) -> None:
        remaining = self._until("pause") - self._clock.now()
        if remaining > _LONGEST_WAIT:
            raise Refused(
                f"the service asked this machine to rest, for {remaining:.0f} s more",
                "Another process was throttled; find what asks so often.",
                retry_after=remaining,
            )
        if remaining > 0:
            # On top of it, or all who waited would start in the same moment.
            self._clock.sleep(remaining + self._random() * _UNNAMED_PAUSE)

    def _pause(self, wanted: float | None) -> None:
        seconds = _UNNAMED_PAUSE * (0.5 + self._random()) if wanted is None else wanted
        with suppress(OSError):  # in a full directory the limits are kept by luck
            descriptor = flock.touch(self._path("pause"))
            _note(descriptor, self._clock.now() + seconds)
            os.close(descriptor)

    def _in_a_lane(self, send: Sender, request: Request) -> Response:
        lane = self._lane()
        try:
            return send(request)
        finally:
            if lane is not None:
                flock.give_back(lane)

    def _lane(self) -> int | None:
        """A lane of our own, or None where there are none to be had."""
        if not flock.AVAILABLE or not self._machine.usable():
            return None
        deadline = self._clock.now() + _LONGEST_WAIT
        first = int(self._random() * _LANES)
        while self._clock.now() < deadline:
            for step in range(_LANES):
                try:
                    lane = self._free(f"lane-{(first + step) % _LANES}")
                except OSError:
                    return None
                if lane is not None:
                    return lane
            self._clock.sleep(_POLL * (0.5 + self._random()))
        return None

    def _free(self, lane: str) -> int | None:
        """A lane that nobody is in, and whose last request is long enough ago."""
        if self._until(lane) > self._clock.now():
            return None
        descriptor = flock.take(self._path(lane))
        if descriptor is None:
            return None
        if self._until(lane) > self._clock.now():  # somebody was quicker
            flock.give_back(descriptor)
            return None
        _note(descriptor, self._clock.now() + _LANE_SECONDS)
        return descriptor

    def _until(self, what: str) -> float:
        """The moment that was noted of ``what``: a file's time of change says it."""
        try:
            moment = os.lstat(self._path(what)).st_mtime
        except OSError:
            return 0.0
        # A moment far ahead is the wall clock's: the file was made and not noted yet.
        return moment if moment < self._clock.now() + 24 * 3600 else 0.0

    def _path(self, what: str) -> str:
        return os.path.join(self._machine.directory, f"{self._name}-{what}.lock")


def _note(descriptor: int, moment: float) -> None:
    with suppress(OSError):
        os.utime(descriptor, (moment, moment))
