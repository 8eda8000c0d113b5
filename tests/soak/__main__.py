"""Runs the soak: ``make soak``, or ``PYTHONPATH=tests python -m soak``.

From the environment: SOAK_SECONDS (600), SOAK_PATIENCE (150, seconds that a call may take),
SOAK_WORKERS (5), SOAK_SEED, SOAK_KEEP (.soak, where what is needed to find a fault is kept).
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
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from .board import CALM, GONE, OUTAGE, QUIET, RESOURCES, ROUGH, RUN, SOUND, Board, steady
from .children import DIED, HUNG_CHILD
from .crew import Crew
from .journal import Journal, Reader
from .table import ENDLESS, SILENT, STRAY, Table
from .watch import HUNG

if TYPE_CHECKING:
    from collections.abc import Callable

    from .crew import Member

_LASTING = 2
_MOODS = (CALM, CALM, CALM, ROUGH, OUTAGE, GONE)
_MOOD_SECONDS = {CALM: (8.0, 25.0), ROUGH: (5.0, 20.0), OUTAGE: (3.0, 30.0), GONE: (1.0, 20.0)}
_DAY = 86400.0


class Settings(NamedTuple):
    """What a run is told."""

    seconds: float
    patience: float
    workers: int
    seed: int
    keep: str

    @classmethod
    def from_environment(cls) -> Settings:
        told = os.environ.get
        return cls(
            seconds=float(told("SOAK_SECONDS", "600")),
            patience=float(told("SOAK_PATIENCE", "150")),
            workers=int(told("SOAK_WORKERS", "5")),
            seed=int(told("SOAK_SEED", str(random.randrange(10**6)))),
            keep=told("SOAK_KEEP", ".soak"),
        )


class Fault(NamedTuple):
    """Something that is done again and again.

    Attributes:
        every: seconds between two, on average.
        do: does it.
    """

    every: float
    do: Callable[[], None]


class Soak:
    """One run.

    Args:
        settings: of it.
        folder: for all that is written in the course of it.
    """

    def __init__(self, settings: Settings, folder: str) -> None:
        self._settings = settings
        self._folder = folder
        self._cache = f"{folder}/cache"
        self._dice = random.Random(settings.seed)
        self._board = Board(f"{folder}/board")
        Journal(f"{folder}/journal")
        self._reader = Reader(f"{folder}/journal")
        self._service, environment = self._start_service()
        self._crew = Crew(folder, environment, settings.patience, self._dice)
        self._mood_until = 0.0
        self.table = Table()
        self._faults = (
            Fault(3.0, self._stop_one),
            Fault(90.0, self._freeze_one),
            Fault(5.0, self._kill_one),
            Fault(7.0, self._set_machine_clock),
            Fault(20.0, self._set_service_clock),
            Fault(2.0, self._revoke_one),
            Fault(45.0, self._remove_directory),
            Fault(10.0, self._damage_entry),
        )

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
            "IMDS_IDENTITY_CACHE": self._cache,
        }

    def _disturb(self, until: float) -> None:
        due = {fault: steady() + self._wait(fault) for fault in self._faults}
        next_second = steady()
        while (now := steady()) < until:
            time.sleep(0.05)
            self._change_mood(now)
            self._let_go_on(now)
            for fault, moment in due.items():
                if now >= moment:
                    fault.do()
                    due[fault] = now + self._wait(fault)
            if now >= next_second:
                next_second = now + 1.0
                self._look_after()

    def _wait(self, fault: Fault) -> float:
        return self._dice.expovariate(1 / fault.every)

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
                self._dump(member)
            if code is not None or member.pid in ill or member.silent():
                self._crew.discard(member)
                self._crew.start(lasting=member.lasting)

    def _dump(self, member: Member) -> None:
        os.kill(member.pid, signal.SIGUSR2)
        time.sleep(0.5)

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
        self._let_go_on(float("inf"))
        for member in self._crew.members:
            if member.lasting:
                self.table.lived(member.pid, member.samples)
        self._board.set_phase(QUIET)
        until = steady() + 2 * self._settings.patience + 20
        while steady() < until and (self._alive() or self._crew.strays()):
            time.sleep(0.2)
            self._read()
        for member in self._crew.members:
            code = member.process.poll()
            if code is None:
                self._dump(member)
                self.table.broke(ENDLESS, str(member.pid))
            elif code != 0:
                self.table.broke(DIED, f"a worker, with {code} at the end")
        for pid in self._crew.strays():
            self.table.broke(HUNG_CHILD, f"an orphan, {pid}")

    def _alive(self) -> list[Member]:
        return [member for member in self._crew.members if member.process.poll() is None]

    # Faults.

    def _change_mood(self, now: float) -> None:
        if now < self._mood_until:
            return
        mood = self._dice.choice(_MOODS)
        self._mood_until = now + self._dice.uniform(*_MOOD_SECONDS[mood])
        self._board.set_mood(mood)
        names = {CALM: "calm", ROUGH: "rough", OUTAGE: "failing", GONE: "gone"}
        self.table.tried(f"faults: service, {names[mood]}")

    def _let_go_on(self, now: float) -> None:
        for member in self._crew.members:
            if member.stopped_until and now >= member.stopped_until:
                member.go_on()

    def _stop_one(self) -> None:
        self._stop(self._dice.choice((0.1, 0.5, 2.0, 8.0, 20.0)) * self._dice.uniform(0.5, 1.0))

    def _freeze_one(self) -> None:
        self._stop(self._dice.uniform(20.0, 60.0))
        self.table.tried("faults: SIGSTOP, for 20 s to a minute")

    def _stop(self, seconds: float) -> None:
        running = [member for member in self._crew.members if not member.stopped_until]
        if len(running) <= len(self._crew.members) // 2:
            return
        self._dice.choice(running).stop(seconds)
        self.table.tried("faults: SIGSTOP")

    def _kill_one(self) -> None:
        mortal = [member for member in self._crew.members if not member.lasting]
        if mortal:
            self._crew.discard(self._dice.choice(mortal))
            self._crew.start(lasting=False)
            self.table.tried("faults: kill -9")

    def _set_machine_clock(self) -> None:
        self._board.set_machine_offset(self._jump())
        self.table.tried("faults: this machine's clock was set")

    def _set_service_clock(self) -> None:
        self._board.set_service_offset(self._jump())
        self.table.tried("faults: the service's clock was set")

    def _jump(self) -> float:
        furthest = self._dice.choice((0.0, 1.5, 10.0, 300.0, 3600.0, 30 * _DAY))
        return self._dice.uniform(-furthest, furthest)

    def _revoke_one(self) -> None:
        self._board.revoke(self._dice.choice(RESOURCES))
        self.table.tried("faults: revocations")

    def _remove_directory(self) -> None:
        shutil.rmtree(self._cache, ignore_errors=True)
        self.table.tried("faults: the shared directory was removed")

    def _damage_entry(self) -> None:
        with suppress(OSError, IndexError):
            name = self._dice.choice(os.listdir(self._cache))
            with open(f"{self._cache}/{name}", "r+b") as file:
                file.truncate(self._dice.randrange(400))
            self.table.tried("faults: a shared file was cut short")


def _of_a_child(counts: dict[str, int]) -> dict[str, int]:
    ended = {name: times for name, times in counts.items() if name.startswith("ended")}
    return {f"in forked children, {name}": times for name, times in ended.items()}


def main() -> int:
    """Run, print the table, and keep what is needed to find out why if there is no zero."""
    settings = Settings.from_environment()
    print(json.dumps(settings._asdict()), flush=True)
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        soak = Soak(settings, folder)
        try:
            soak.run()
        finally:
            shutil.rmtree(f"{folder}/cache", ignore_errors=True)
            shutil.rmtree(settings.keep, ignore_errors=True)
            shutil.copytree(folder, settings.keep)
            os.unlink(f"{settings.keep}/board")
            print(soak.table.text())
    return int(soak.table.failed)


if __name__ == "__main__":
    sys.exit(main())
