"""Run the soak test: ``make soak``, or ``PYTHONPATH=tests python -m soak``.

Environment variables: SOAK_SECONDS (600), SOAK_CALL_TIMEOUT (150, seconds that a call may take),
SOAK_WORKERS (5) and SOAK_SEED. The run leaves its logs and stack traces in ``.soak``.
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

from .event_log import EventLog, Reader
from .faults import Faults
from .forked_children import DIED, HUNG_CHILD
from .processes import WorkerProcesses
from .report import NOT_ENDED, SILENT, STRAY, Report
from .shared_state import DRAINING, HEALTHY, RUNNING, SharedState, monotonic
from .watch import HUNG

_LONG_LIVED_WORKERS = 2
_RESULTS = ".soak"


class Settings(NamedTuple):
    """The settings of a run."""

    seconds: float
    call_timeout: float
    workers: int
    seed: int

    @classmethod
    def from_environment(cls) -> Settings:
        get = os.environ.get
        return cls(
            seconds=float(get("SOAK_SECONDS", "600")),
            call_timeout=float(get("SOAK_CALL_TIMEOUT", "150")),
            workers=int(get("SOAK_WORKERS", "5")),
            seed=int(get("SOAK_SEED", str(random.randrange(10**6)))),
        )


class Soak:
    """One run; all its files are in ``folder``."""

    def __init__(self, settings: Settings, folder: str) -> None:
        self._settings = settings
        self._folder = folder
        self._rng = random.Random(settings.seed)
        self._shared_state = SharedState(f"{folder}/shared_state")
        EventLog(f"{folder}/event_log")
        self._reader = Reader(f"{folder}/event_log")
        cache = f"{folder}/cache"
        self._service, environment = self._start_service()
        environment["IMDS_IDENTITY_CACHE"] = cache
        self._workers = WorkerProcesses(folder, environment, settings.call_timeout, self._rng)
        self.report = Report()
        self._faults = Faults(self._shared_state, self._workers, cache, self.report, self._rng)

    def run(self) -> None:
        """Start the workers, inject faults, drain, and fill the report."""
        try:
            self._shared_state.set_phase(RUNNING)
            for number in range(self._settings.workers):
                self._workers.start(long_lived=number < _LONG_LIVED_WORKERS)
            self._inject_faults(monotonic() + self._settings.seconds)
            self._drain()
        finally:
            strays = self._workers.kill_all()
            self._service.kill()
            self._service.wait()
        self._read_events()
        for pid in strays:
            self.report.add_violation(STRAY, str(pid))

    def _start_service(self) -> tuple[subprocess.Popen[bytes], dict[str, str]]:
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.upper().startswith(("AZURE_", "IDENTITY_", "IMDS_", "MSI_", "NO_PROXY"))
        }
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        with open(f"{self._folder}/stderr-service.txt", "wb") as stderr:
            service = subprocess.Popen(
                [sys.executable, "-m", "soak.service", self._folder, str(self._settings.seed)],
                env=environment, start_new_session=True, stdout=subprocess.PIPE, stderr=stderr,
            )  # fmt: skip
        assert service.stdout is not None
        port, trap = map(int, service.stdout.readline().split())
        proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy"), f"http://127.0.0.1:{trap}")
        return service, {
            **environment,
            **proxies,
            "AZURE_POD_IDENTITY_AUTHORITY_HOST": f"http://127.0.0.1:{port}",
        }

    def _inject_faults(self, until: float) -> None:
        next_check = monotonic()
        while (now := monotonic()) < until:
            time.sleep(0.05)
            self._faults.inject_due()
            if now >= next_check:
                next_check = now + 1.0
                self._check_workers()

    def _check_workers(self) -> None:
        """Sample all workers, and replace those that died, fell silent or hang."""
        for worker in self._workers.members:
            worker.sample()
        hanging = self._read_events()
        for worker in list(self._workers.members):
            code = worker.process.poll()
            if code is not None:
                self.report.add_violation(DIED, f"a worker, with {code}")
            elif worker.is_silent():
                self.report.add_violation(SILENT, str(worker.pid))
                worker.dump_stacks()
            if code is not None or worker.pid in hanging or worker.is_silent():
                self._workers.discard(worker)
                self._workers.start(long_lived=worker.long_lived)

    def _read_events(self) -> set[int]:
        """Add new events to the report; return the processes in which a call hangs."""
        hanging = set()
        last_event = {}
        for event in self._reader.events():
            pid, kind = event["pid"], event["kind"]
            last_event[pid] = monotonic()
            if kind == "violation":
                self.report.add_violation(event["rule"], event["detail"])
                if event["rule"] == HUNG:
                    hanging.add(pid)
            elif kind == "forked child":
                self.report.set_counts(pid, _child_counts(event["counts"]), 0.0)
            else:
                self.report.set_counts(pid, event["counts"], event["longest"])
        for worker in self._workers.members:
            worker.last_event = last_event.get(worker.pid, worker.last_event)
        return hanging

    def _drain(self) -> None:
        """Inject no more faults; every call must end, then every process."""
        self._shared_state.set_service_mode(HEALTHY)
        self._workers.resume_due(float("inf"))
        for worker in self._workers.members:
            if worker.long_lived:
                self.report.check_growth(worker.pid, worker.samples)
        self._shared_state.set_phase(DRAINING)
        until = monotonic() + 2 * self._settings.call_timeout + 20
        while monotonic() < until and (self._workers.alive() or self._workers.strays()):
            time.sleep(0.2)
            self._read_events()
        for worker in self._workers.members:
            code = worker.process.poll()
            if code is None:
                worker.dump_stacks()
                self.report.add_violation(NOT_ENDED, str(worker.pid))
            elif code != 0:
                self.report.add_violation(DIED, f"a worker, with {code} at the end")
        for pid in self._workers.strays():
            self.report.add_violation(HUNG_CHILD, f"an orphan, {pid}")


def _child_counts(counts: dict[str, int]) -> dict[str, int]:
    results = {name: times for name, times in counts.items() if name.startswith("result")}
    return {f"in forked children, {name}": times for name, times in results.items()}


def main() -> int:
    """Run the soak, print the report, and keep the files of the run."""
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
            shutil.rmtree(_RESULTS, ignore_errors=True)
            shutil.copytree(folder, _RESULTS)
            os.unlink(f"{_RESULTS}/shared_state")
            print(soak.report.text())
    return int(soak.report.failed)


if __name__ == "__main__":
    sys.exit(main())
