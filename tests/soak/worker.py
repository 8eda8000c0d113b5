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

from . import loop_lifetimes
from .calls import Calls
from .children import Children
from .context import CallingBack, Context
from .credentials import CredentialPool
from .event_log import EventLog
from .service import end_with_parent
from .shared_state import SharedState
from .watch import Watch

if TYPE_CHECKING:
    from types import FrameType

_THREADS = 3
LEFT_OVER = "threads of the package left over at the end"
LEFT_OPEN = "sockets and locks left open at the end"


class SignalInterrupt(BaseException):
    """Like KeyboardInterrupt."""


class SoftInterrupt(Exception):
    """Like the soft time limits of task queues."""


class LateInterrupt(TimeoutError):
    """Like the time-outs of signal.alarm in many a recipe."""


INTERRUPTS = (SignalInterrupt, SoftInterrupt, LateInterrupt)


class Worker:
    """The process.

    Args:
        context: all that its actors share.
        rung: whether signals that raise hit the main thread.
    """

    def __init__(self, context: Context, *, rung: bool) -> None:
        self._scene = context
        self._rung = rung
        self._has_rung = True

    def run(self) -> None:
        """Ask until the soak ends, then tell what is left."""
        context = self._scene
        context.watch.start()
        threads = [loop_lifetimes.start(context), loop_lifetimes.start(context)]
        for _ in range(_THREADS):
            threads.append(threading.Thread(target=self._ask, name="soak-asks", daemon=True))
            threads[-1].start()
        signal.signal(signal.SIGALRM, self._ring)
        while context.shared_state.running:
            if self._rung:
                self._be_rung()
            self._fork_sometimes()
            context.children.reap(context)
            self._quietly(context.ask_one)
            time.sleep(context.dice.uniform(0, 0.05))
        self._end(threads)

    def _ask(self) -> None:
        context = self._scene
        while context.shared_state.running:
            self._quietly(context.ask_one)
            time.sleep(context.dice.uniform(0, 0.04))
            self._fork_sometimes()
            if context.dice.random() < 0.0005:
                context.counts["faults: clear_cache()"] += 1
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
        except INTERRUPTS:
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
        raise self._scene.dice.choice(INTERRUPTS)

    def _end(self, threads: list[threading.Thread]) -> None:
        context = self._scene
        deadline = context.watch.active + context.watch.patience
        for thread in threads:
            thread.join(max(0.0, deadline - context.watch.active))
        while len(context.children) or (internal_threads() and context.watch.active < deadline):
            context.children.reap(context)
            time.sleep(0.1)
        for ident in internal_threads():
            context.event_log.broken(LEFT_OVER, f"thread {ident}")
            context.watch.dump()
        for held in context.credentials.sync:
            held.credential.close()
        # What still hangs has been told already, and may keep what it likes.
        if not any(thread.is_alive() for thread in threads):
            self._tell_what_is_open(deadline)
        context.event_log.counts(context.counts, context.watch.longest)

    def _tell_what_is_open(self, deadline: float) -> None:
        # Threads of loops that were closed in the middle may still be at a request.
        while (found := _open_files()) and self._scene.watch.active < deadline:
            gc.collect()
            time.sleep(0.1)
        for name in found:
            self._scene.event_log.broken(LEFT_OPEN, name)


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


def _set_hooks(context: Context) -> None:
    def thread_failed(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            context.calls.foreign(args.exc_value)

    def ignored(args: Any) -> None:
        if not isinstance(args.exc_value, INTERRUPTS) and not sys.is_finalizing():
            context.calls.foreign(args.exc_value)

    threading.excepthook = thread_failed
    sys.unraisablehook = ignored
    logging.raiseExceptions = True


def main(folder: str, seed: int, patience: float, kind: str) -> None:
    """Be a worker."""
    end_with_parent()
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    dice, shared_state, event_log = (
        random.Random(seed),
        SharedState(f"{folder}/shared_state"),
        EventLog(f"{folder}/event_log"),
    )
    SystemClock.wall = staticmethod(shared_state.machine_wall)
    counts: Counter[str] = Counter()
    watch = Watch(event_log, folder, patience, counts)
    calls = Calls(watch, event_log, shared_state, INTERRUPTS)
    children = Children(patience)
    credentials = CredentialPool(os.environ["IMDS_IDENTITY_CACHE"], dice)
    context = Context(
        folder, shared_state, event_log, counts, watch, calls, credentials, children, dice
    )
    _set_hooks(context)
    logger = logging.getLogger("imds_identity")
    logger.addHandler(CallingBack(context, locked=kind == "logged"))
    logger.propagate = False
    Worker(context, rung=kind == "rung").run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4])
