"""The service's limits, kept by the machine and not by each process.

IMDS takes 20 requests a second and 5 at once from a VM, whoever sends them. So no more than 4 are
under way at once, each of 4 lanes starts one every quarter of a second at the most, and a pause
that the service asks of one process (429, 410) is kept by all.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from .._engine.failure import Refused
from .._engine.retry import retry_after
from .key import Key
from .machine import replace_file

if TYPE_CHECKING:
    from .._engine.clock import Clock
    from .._engine.drive import Sender
    from .._engine.exchange import Random, Request, Response
    from .._sources.detect import Source
    from .machine import MachineCache

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
        self._note("pause", self._clock.now() + seconds)

    def _in_a_lane(self, send: Sender, request: Request) -> Response:
        deadline = self._clock.now() + _LONGEST_WAIT
        first = int(self._random() * _LANES)
        while self._clock.now() < deadline:
            for lane in ((first + step) % _LANES for step in range(_LANES)):
                with self._machine.locked(self._file(f"lane-{lane}"), 0) as held:
                    if held and self._until(f"lane-{lane}") <= self._clock.now():
                        self._note(f"lane-{lane}", self._clock.now() + _LANE_SECONDS)
                        return send(request)
            if not self._machine.usable():
                break
            self._clock.sleep(_POLL * (0.5 + self._random()))
        return send(request)

    def _until(self, what: str) -> float:
        content = self._machine.content(self._path(what))
        try:
            moment = float(content or 0)
        except ValueError:
            return 0.0
        # A moment far ahead is of another boot, or garbage.
        return moment if moment < self._clock.now() + 24 * 3600 else 0.0

    def _note(self, what: str, moment: float) -> None:
        with suppress(OSError):  # in a full directory the limits are kept by luck
            replace_file(self._path(what), f"{moment:.6f}".encode())

    def _file(self, what: str) -> str:
        return f"{self._name}-{what}"

    def _path(self, what: str) -> str:
        return os.path.join(self._machine.directory, self._file(what))
