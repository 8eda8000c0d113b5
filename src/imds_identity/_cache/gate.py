"""The service's limits, kept by the machine and not by each process.

IMDS takes 20 requests a second and 5 at once from a VM, whoever sends them. So no more than 4 are
under way at once, each of 4 lanes starts one every quarter of a second at the most, and a pause
that the service asks of one process (429, 410) is kept by all.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from .._engine.failure import Refused
from .._engine.retry import retry_after
from .key import Key

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator

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
_OPEN = os.O_RDWR | os.O_CREAT | sum(getattr(os, n, 0) for n in ("O_NOFOLLOW", "O_CLOEXEC"))


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
        while self._machine.usable() and self._clock.now() < deadline:
            for lane in (f"lane-{(first + step) % _LANES}" for step in range(_LANES)):
                if self._until(lane) > self._clock.now():
                    continue
                with _held(self._path(lane)) as held:
                    if held and self._until(lane) <= self._clock.now():
                        self._note(lane, self._clock.now() + _LANE_SECONDS)
                        return send(request)
            self._clock.sleep(_POLL * (0.5 + self._random()))
        return send(request)

    def _until(self, what: str) -> float:
        """The moment that was noted of ``what``: a file's time of change says it."""
        try:
            moment = os.lstat(self._path(what)).st_mtime
        except OSError:
            return 0.0
        # A moment far ahead is the wall clock's: the file was made and not noted yet.
        return moment if moment < self._clock.now() + 24 * 3600 else 0.0

    def _note(self, what: str, moment: float) -> None:
        with suppress(OSError):  # in a full directory the limits are kept by luck
            os.close(os.open(self._path(what), _OPEN, 0o600))
            os.utime(self._path(what), (moment, moment), follow_symlinks=False)

    def _path(self, what: str) -> str:
        return os.path.join(self._machine.directory, f"{self._name}-{what}.lock")


@contextmanager
def _held(path: str) -> Iterator[bool]:
    """Whether nobody else has this lane, which is ours for a request if so.

    A lane is taken before every request of every process, and is never waited for: flock itself
    does that in a hundredth of the time that filelock takes for what is not needed here.
    """
    try:
        descriptor = os.open(path, _OPEN, 0o600)
    except OSError:
        yield True  # in a full directory there are no lanes
        return
    try:
        yield _locked(descriptor)
    finally:
        # A child that was forked in between has the descriptor, too: closing is not enough.
        _unlocked(descriptor)
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks
    return True


def _unlocked(descriptor: int) -> None:
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
