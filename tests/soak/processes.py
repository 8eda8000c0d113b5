"""The worker processes as who runs them sees them, and the faults that come from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from . import growth
from .shared_state import steady

if TYPE_CHECKING:
    import random

_SILENT = 30.0


class Member:
    """A worker process.

    Attributes:
        lasting: whether it is never killed, and must not grow.
        stopped_until: when it goes on (`steady`), or 0 if it is not stopped.
        heard: when it last said something (`steady`).
    """

    def __init__(self, process: subprocess.Popen[bytes], *, lasting: bool) -> None:
        self.process = process
        self.pid = process.pid
        self.lasting = lasting
        self.stopped_until = 0.0
        self.heard = steady()
        self.samples: list[growth.Sample] = []

    def stop(self, seconds: float) -> None:
        self.stopped_until = steady() + seconds
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        self.stopped_until = 0.0
        self.heard = steady()
        os.kill(self.pid, signal.SIGCONT)

    def dump(self) -> None:
        """Let it write the stacks of its threads to where it writes errors."""
        os.kill(self.pid, signal.SIGUSR2)
        time.sleep(0.5)

    def silent(self) -> bool:
        """Whether it should have said something and has not."""
        return not self.stopped_until and steady() - self.heard > _SILENT

    def sample(self) -> None:
        if not self.stopped_until and (seen := growth.look(self.pid)) is not None:
            self.samples.append(seen)


class WorkerProcesses:
    """All worker processes, those of the past included.

    Args:
        folder: of the soak.
        environment: of the workers; it names the folder.
        patience: seconds that a call may take.
        dice: seeds each worker.
    """

    def __init__(
        self, folder: str, environment: dict[str, str], patience: float, dice: random.Random
    ) -> None:
        self._folder = folder
        self._environment = environment
        self._patience = patience
        self._dice = dice
        self._started = 0
        self.members: list[Member] = []

    def start(self, *, lasting: bool) -> Member:
        """One more worker, in a session of its own."""
        kind = "rung" if self._started % 2 else "logged"
        seed = str(self._dice.randrange(2**32))
        with open(f"{self._folder}/said-{self._started}.txt", "wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "soak.worker",
                 self._folder, seed, str(self._patience), kind],
                env=self._environment, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            )  # fmt: skip
        self._started += 1
        self.members.append(Member(process, lasting=lasting))
        return self.members[-1]

    def running(self) -> list[Member]:
        """Those that are not stopped."""
        return [member for member in self.members if not member.stopped_until]

    def alive(self) -> list[Member]:
        """Those that have not ended."""
        return [member for member in self.members if member.process.poll() is None]

    def let_go_on(self, now: float) -> None:
        """Continue those whose time has come (`steady`)."""
        for member in self.members:
            if member.stopped_until and now >= member.stopped_until:
                member.go_on()

    def discard(self, member: Member) -> None:
        """Kill a worker, as kill -9 does."""
        member.process.kill()
        member.process.wait()
        self.members.remove(member)

    def strays(self) -> list[int]:
        """Forked children that outlive their workers: the soak's folder is in their environment."""
        own = {member.pid for member in self.members}
        mark = self._folder.encode()
        return [pid for pid in _all() if pid not in own and mark in _environment(pid)]

    def end(self) -> list[int]:
        """Kill all that is left; the strays among it."""
        for member in list(self.members):
            self.discard(member)
        strays = self.strays()
        for pid in strays:
            os.kill(pid, signal.SIGKILL)
        return strays


def _all() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _environment(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read()
    except OSError:
        return b""
