"""Runs the soak: ``make soak``, or ``PYTHONPATH=tests python -m soak``.

From the environment: SOAK_SECONDS (600), SOAK_PATIENCE (150, seconds that a call may take),
SOAK_WORKERS (5) and SOAK_SEED. What is needed to find a fault is kept in ``.soak``.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from .children import DIED, HUNG_CHILD
from .event_log import EventLog, Reader
from .faults import Faults
from .processes import WorkerProcesses
from .shared_state import QUIET, RUN, SOUND, SharedState, steady
from .table import ENDLESS, SILENT, STRAY, Table
from .watch import HUNG

_LASTING = 2
_KEPT = ".soak"


class Settings(NamedTuple):
    """What a run is told."""

    seconds: float
    patience: float
    workers: int
    seed: int

    @classmethod
    def from_environment(cls) -> Settings:
        told = os.environ.get
        return cls(
            seconds=float(told("SOAK_SECONDS", "600")),
            patience=float(told("SOAK_PATIENCE", "150")),
            workers=int(told("SOAK_WORKERS", "5")),
            seed=int(told("SOAK_SEED", str(random.randrange(10**6)))),
        )


class Soak:
    """One run.

    Args:
        settings: of it.
        folder: for all that is written in the course of it.
    """

    def __init__(self, settings: Settings, folder: str) -> None:
        self._settings = settings
        self._folder = folder
        self._dice = random.Random(settings.seed)
        self._board = SharedState(f"{folder}/shared_state")
        EventLog(f"{folder}/event_log")
        self._reader = Reader(f"{folder}/event_log")
        cache = f"{folder}/cache"
        self._service, environment = self._start_service()
        environment["IMDS_IDENTITY_CACHE"] = cache
        self._crew = WorkerProcesses(folder, environment, settings.patience, self._dice)
        self.table = Table()
        self._faults = Faults(self._board, self._crew, cache, self.table, self._dice)

    def run(self) -> None:
        """Do it all."""
        try:
            self._board.set_phase(RUN)
            for number in range(self._settings.workers):
                self._crew.start(lasting=number < _LASTING)
            self._disturb(steady() + self._settings.seconds)
            self._calm_down()
        finally:
            strays = self._crew.end()
            self._service.kill()
            self._service.wait()
        self._read()
        for pid in strays:
            self.table.broke(STRAY, str(pid))

    def _start_service(self) -> tuple[subprocess.Popen[bytes], dict[str, str]]:
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.upper().startswith(("AZURE_", "IDENTITY_", "IMDS_", "MSI_", "NO_PROXY"))
        }
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        with open(f"{self._folder}/said-service.txt", "wb") as said:
            service = subprocess.Popen(
                [sys.executable, "-m", "soak.service", self._folder, str(self._settings.seed)],
                env=environment, start_new_session=True, stdout=subprocess.PIPE, stderr=said,
            )  # fmt: skip
        assert service.stdout is not None
        port, trap = map(int, service.stdout.readline().split())
        proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy"), f"http://127.0.0.1:{trap}")
        return service, {
            **environment,
            **proxies,
            "AZURE_POD_IDENTITY_AUTHORITY_HOST": f"http://127.0.0.1:{port}",
        }

    def _disturb(self, until: float) -> None:
        next_second = steady()
        while (now := steady()) < until:
            time.sleep(0.05)
            self._faults.do_what_is_due()
            if now >= next_second:
                next_second = now + 1.0
                self._look_after()

    def _look_after(self) -> None:
        for member in self._crew.members:
            member.sample()
        ill = self._read()
        for member in list(self._crew.members):
            code = member.process.poll()
            if code is not None:
                self.table.broke(DIED, f"a worker, with {code}")
            elif member.silent():
                self.table.broke(SILENT, str(member.pid))
                member.dump()
            if code is not None or member.pid in ill or member.silent():
                self._crew.discard(member)
                self._crew.start(lasting=member.lasting)

    def _read(self) -> set[int]:
        """Take in what was said; who has calls that hang, and will not get well."""
        ill = set()
        heard = {}
        for line in self._reader.lines():
            pid, kind = line["pid"], line["kind"]
            heard[pid] = steady()
            if kind == "broken":
                self.table.broke(line["rule"], line["detail"])
                if line["rule"] == HUNG:
                    ill.add(pid)
            elif kind == "forked":
                self.table.counted(pid, _of_a_child(line["counts"]), 0.0)
            else:
                self.table.counted(pid, line["counts"], line["longest"])
        for member in self._crew.members:
            member.heard = heard.get(member.pid, member.heard)
        return ill

    def _calm_down(self) -> None:
        """No more faults: every call must end, then every process."""
        self._board.set_mood(SOUND)
        self._crew.let_go_on(float("inf"))
        for member in self._crew.members:
            if member.lasting:
                self.table.lived(member.pid, member.samples)
        self._board.set_phase(QUIET)
        until = steady() + 2 * self._settings.patience + 20
        while steady() < until and (self._crew.alive() or self._crew.strays()):
            time.sleep(0.2)
            self._read()
        for member in self._crew.members:
            code = member.process.poll()
            if code is None:
                member.dump()
                self.table.broke(ENDLESS, str(member.pid))
            elif code != 0:
                self.table.broke(DIED, f"a worker, with {code} at the end")
        for pid in self._crew.strays():
            self.table.broke(HUNG_CHILD, f"an orphan, {pid}")


def _of_a_child(counts: dict[str, int]) -> dict[str, int]:
    ended = {name: times for name, times in counts.items() if name.startswith("ended")}
    return {f"in forked children, {name}": times for name, times in ended.items()}


def main() -> int:
    """Run, print the table, and keep what is needed to find out why if there is no zero."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    settings = Settings.from_environment()
    print(json.dumps(settings._asdict()), flush=True)
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        soak = Soak(settings, folder)
        try:
            soak.run()
        finally:
            shutil.rmtree(f"{folder}/cache", ignore_errors=True)
            shutil.rmtree(_KEPT, ignore_errors=True)
            shutil.copytree(folder, _KEPT)
            os.unlink(f"{_KEPT}/shared_state")
            print(soak.table.text())
    return int(soak.table.failed)


if __name__ == "__main__":
    sys.exit(main())
