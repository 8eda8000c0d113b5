"""The worker processes, as the process that starts, stops and kills them sees them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from . import growth
from .shared_state import monotonic

if TYPE_CHECKING:
    import random

_SILENT_SECONDS = 30.0


class WorkerProcess:
    """A worker process.

    Attributes:
        long_lived: whether it is never killed, so that it must not grow.
        stopped_until: when it resumes (`monotonic`), or 0 if it is not stopped.
        last_event: when its last event was read (`monotonic`).
    """

    def __init__(self, process: subprocess.Popen[bytes], *, long_lived: bool) -> None:
        self.process = process
        self.pid = process.pid
        self.long_lived = long_lived
        self.stopped_until = 0.0
        self.last_event = monotonic()
        self.samples: list[growth.Sample] = []

    def stop(self, seconds: float) -> None:
        self.stopped_until = monotonic() + seconds
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        self.stopped_until = 0.0
        self.last_event = monotonic()
        os.kill(self.pid, signal.SIGCONT)

    def dump_stacks(self) -> None:
        """Make it write the stacks of all its threads to its stderr."""
        os.kill(self.pid, signal.SIGUSR2)
        time.sleep(0.5)

    def is_silent(self) -> bool:
        """Return whether it runs but has written no event for too long."""
        return not self.stopped_until and monotonic() - self.last_event > _SILENT_SECONDS

    def sample(self) -> None:
        if not self.stopped_until and (sample := growth.sample_process(self.pid)) is not None:
            self.samples.append(sample)


class WorkerProcesses:
    """The current worker processes; ``environment`` must contain the path ``folder``."""

    def __init__(
        self, folder: str, environment: dict[str, str], call_timeout: float, rng: random.Random
    ) -> None:
        self._folder = folder
        self._environment = environment
        self._call_timeout = call_timeout
        self._rng = rng
        self._started = 0
        self.members: list[WorkerProcess] = []

    def start(self, *, long_lived: bool) -> WorkerProcess:
        """Start a worker in a new session."""
        kind = "interrupted" if self._started % 2 else "locked-logging"
        seed = str(self._rng.randrange(2**32))
        with open(f"{self._folder}/output-{self._started}.txt", "wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "soak.worker",
                 self._folder, seed, str(self._call_timeout), kind],
                env=self._environment, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        self._started += 1
        self.members.append(WorkerProcess(process, long_lived=long_lived))
        return self.members[-1]

    def running(self) -> list[WorkerProcess]:
        """Return the workers that are not stopped."""
        return [worker for worker in self.members if not worker.stopped_until]

    def alive(self) -> list[WorkerProcess]:
        """Return the workers that have not ended."""
        return [worker for worker in self.members if worker.process.poll() is None]

    def resume_due(self, now: float) -> None:
        """Resume the workers that were stopped until ``now`` (`monotonic`) or earlier."""
        for worker in self.members:
            if worker.stopped_until and now >= worker.stopped_until:
                worker.resume()

    def discard(self, worker: WorkerProcess) -> None:
        """Kill a worker with SIGKILL."""
        worker.process.kill()
        worker.process.wait()
        self.members.remove(worker)

    def strays(self) -> list[int]:
        """Return forked children that outlived their workers: their environment has the folder."""
        own = {worker.pid for worker in self.members}
        mark = self._folder.encode()
        return [pid for pid in _all_processes() if pid not in own and mark in _environment(pid)]

    def kill_all(self) -> list[int]:
        """Kill all workers and strays; return the strays."""
        for worker in list(self.members):
            self.discard(worker)
        strays = self.strays()
        for pid in strays:
            os.kill(pid, signal.SIGKILL)
        return strays


def _all_processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _environment(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read()
    except OSError:
        return b""
