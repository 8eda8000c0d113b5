"""One process of many: threads, loops, forks and signals, all of which ask for tokens.

Run as ``python -m soak.worker FOLDER SEED PATIENCE KIND``; KIND is ``rung`` or ``logged``.
"""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from imds_identity import clear_cache
from imds_identity._platform.clock import SystemClock
from imds_identity._platform.threads import internal_threads

from . import eras
from .board import Board
from .calls import Calls
from .children import Children
from .journal import Journal
from .scene import CallingBack, Scene
from .service import end_with_parent
from .stock import Stock
from .watch import Watch

if TYPE_CHECKING:
    from types import FrameType

_THREADS = 3
LEFT_OVER = "threads of the package left over at the end"
LEFT_OPEN = "sockets and locks left open at the end"


class Bell(BaseException):
    """Like KeyboardInterrupt."""


class Chime(Exception):
    """Like the soft time limits of task queues."""


class Late(TimeoutError):
    """Like the time-outs of signal.alarm in many a recipe."""


RINGS = (Bell, Chime, Late)


class Worker:
    """The process.

    Args:
        scene: all that its actors share.
        rung: whether signals that raise hit the main thread.
    """

    def __init__(self, scene: Scene, *, rung: bool) -> None:
        self._scene = scene
        self._rung = rung
        self._has_rung = True

    def run(self) -> None:
        """Ask until the soak ends, then tell what is left."""
        scene = self._scene
        scene.watch.start()
        threads = [eras.start(scene), eras.start(scene)]
        for _ in range(_THREADS):
            threads.append(threading.Thread(target=self._ask, name="soak-asks", daemon=True))
            threads[-1].start()
        signal.signal(signal.SIGALRM, self._ring)
        while scene.board.running:
            if self._rung:
                self._be_rung()
            self._fork_sometimes()
            scene.children.reap(scene)
            self._quietly(scene.ask_one)
            time.sleep(scene.dice.uniform(0, 0.05))
        self._end(threads)

    def _ask(self) -> None:
        scene = self._scene
        while scene.board.running:
            self._quietly(scene.ask_one)
            time.sleep(scene.dice.uniform(0, 0.04))
            self._fork_sometimes()
            if scene.dice.random() < 0.0005:
                scene.counts["faults: clear_cache()"] += 1
                self._quietly(clear_cache)

    def _fork_sometimes(self) -> None:
        if self._scene.dice.random() < 0.01:
            self._scene.children.fork(self._scene)

    def _quietly(self, what: Any) -> None:
        try:
            what()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
            self._scene.calls.foreign(error)

    def _be_rung(self) -> None:
        """Ask until a signal's handler raises, at whatever moment that is."""
        self._has_rung = False
        try:
            signal.setitimer(signal.ITIMER_REAL, self._scene.dice.uniform(0.0001, 0.2))
            while not self._has_rung:
                self._scene.ask_one(main=True)
        except RINGS:
            self._scene.counts["faults: signals that raised out of a call"] += 1
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
            self._scene.calls.foreign(error)
        finally:
            self._scene.watch.end_mine()

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if self._has_rung:
            return
        self._has_rung = True
        self._scene.counts["faults: signals that raised"] += 1
        raise self._scene.dice.choice(RINGS)

    def _end(self, threads: list[threading.Thread]) -> None:
        scene = self._scene
        deadline = scene.watch.active + scene.watch.patience
        for thread in threads:
            thread.join(max(0.0, deadline - scene.watch.active))
        while len(scene.children) or (internal_threads() and scene.watch.active < deadline):
            scene.children.reap(scene)
            time.sleep(0.1)
        for ident in internal_threads():
            scene.journal.broken(LEFT_OVER, f"thread {ident}")
            scene.watch.dump()
        for held in scene.stock.sync:
            held.credential.close()
        # What still hangs has been told already, and may keep what it likes.
        if not any(thread.is_alive() for thread in threads):
            self._tell_what_is_open(deadline)
        scene.journal.counts(scene.counts, scene.watch.longest)

    def _tell_what_is_open(self, deadline: float) -> None:
        # Threads of loops that were closed in the middle may still be at a request.
        while (found := _open_files()) and self._scene.watch.active < deadline:
            gc.collect()
            time.sleep(0.1)
        for name in found:
            self._scene.journal.broken(LEFT_OPEN, name)


def _open_files() -> list[str]:
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue
        if name.startswith("socket:") or name.endswith(".lock"):
            found.append(os.path.basename(name))
    return found


def _set_hooks(scene: Scene) -> None:
    def thread_failed(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            scene.calls.foreign(args.exc_value)

    def ignored(args: Any) -> None:
        if not isinstance(args.exc_value, RINGS) and not sys.is_finalizing():
            scene.calls.foreign(args.exc_value)

    threading.excepthook = thread_failed
    sys.unraisablehook = ignored
    logging.raiseExceptions = True


def main(folder: str, seed: int, patience: float, kind: str) -> None:
    """Be a worker."""
    end_with_parent()
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    dice, board, journal = (
        random.Random(seed),
        Board(f"{folder}/board"),
        Journal(f"{folder}/journal"),
    )
    SystemClock.wall = staticmethod(board.machine_wall)
    counts: Counter[str] = Counter()
    watch = Watch(journal, folder, patience, counts)
    calls = Calls(watch, journal, board, RINGS)
    children = Children(patience)
    stock = Stock(os.environ["IMDS_IDENTITY_CACHE"], dice)
    scene = Scene(folder, board, journal, counts, watch, calls, stock, children, dice)
    _set_hooks(scene)
    logger = logging.getLogger("imds_identity")
    logger.addHandler(CallingBack(scene, locked=kind == "logged"))
    logger.propagate = False
    Worker(scene, rung=kind == "rung").run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4])
