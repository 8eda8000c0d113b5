"""A worker process: threads, event loops, forked children and signals that all request tokens.

Run as ``python -m soak.worker FOLDER SEED CALL_TIMEOUT KIND``; KIND is ``interrupted`` (signal
handlers raise on the main thread) or ``locked-logging`` (log handlers hold their lock).
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
from .call_checker import CallChecker
from .context import Context, TokenRequestingHandler
from .credentials import CredentialPool
from .event_log import EventLog
from .forked_children import ForkedChildren
from .service import end_with_parent
from .shared_state import SharedState
from .watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_THREADS = 3
THREADS_LEFT = "internal threads running at the end"
FILES_LEFT_OPEN = "sockets and lock files open at the end"


class SignalInterrupt(BaseException):
    """An interrupt like KeyboardInterrupt."""


class SoftInterrupt(Exception):
    """An interrupt like the soft time limits of task queues."""


class LateInterrupt(TimeoutError):
    """An interrupt like the common timeout recipes with signal.alarm."""


INTERRUPTS = (SignalInterrupt, SoftInterrupt, LateInterrupt)


class Worker:
    """A worker; signal handlers raise on its main thread if ``interrupted``."""

    def __init__(self, context: Context, *, interrupted: bool) -> None:
        self._context = context
        self._interrupted = interrupted
        self._alarm_rang = True

    def run(self) -> None:
        """Request tokens until the soak drains, then report what is left over."""
        context = self._context
        context.watch.start()
        threads = [loop_lifetimes.start(context), loop_lifetimes.start(context)]
        for _ in range(_THREADS):
            threads.append(
                threading.Thread(target=self._run_thread, name="soak-calls", daemon=True)
            )
            threads[-1].start()
        signal.signal(signal.SIGALRM, self._interrupt)
        while context.shared_state.running:
            if self._interrupted:
                self._call_until_interrupted()
            self._fork_sometimes()
            context.children.reap(context)
            self._report_errors(context.call_any)
            time.sleep(context.rng.uniform(0, 0.05))
        self._end(threads)

    def _run_thread(self) -> None:
        context = self._context
        while context.shared_state.running:
            self._report_errors(context.call_any)
            time.sleep(context.rng.uniform(0, 0.04))
            self._fork_sometimes()
            if context.rng.random() < 0.0005:
                context.counts["faults: clear_cache()"] += 1
                self._report_errors(clear_cache)

    def _fork_sometimes(self) -> None:
        if self._context.rng.random() < 0.01:
            self._context.children.fork(self._context)

    def _report_errors(self, function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - each is a violation to report
            self._context.checker.report_undocumented(error)

    def _call_until_interrupted(self) -> None:
        """Request tokens until a signal handler raises at a random moment."""
        self._alarm_rang = False
        try:
            signal.setitimer(signal.ITIMER_REAL, self._context.rng.uniform(0.0001, 0.2))
            while not self._alarm_rang:
                self._context.call_any(main=True)
        except INTERRUPTS:
            self._context.counts["faults: signal handlers that interrupted a call"] += 1
        except BaseException as error:  # noqa: BLE001 - each is a violation to report
            self._context.checker.report_undocumented(error)
        finally:
            self._context.watch.end_calls_of_this_thread()

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._alarm_rang:
            return
        self._alarm_rang = True
        self._context.counts["faults: signal handlers that raised"] += 1
        raise self._context.rng.choice(INTERRUPTS)

    def _end(self, threads: list[threading.Thread]) -> None:
        context = self._context
        deadline = context.watch.active + context.watch.call_timeout
        for thread in threads:
            thread.join(max(0.0, deadline - context.watch.active))
        while len(context.children) or (internal_threads() and context.watch.active < deadline):
            context.children.reap(context)
            time.sleep(0.1)
        for ident in internal_threads():
            context.event_log.write_violation(THREADS_LEFT, f"thread {ident}")
            context.watch.dump_stacks()
        for pooled in context.credentials.sync:
            pooled.credential.close()
        # Threads that still run were reported as hanging; their files are open for that reason.
        if not any(thread.is_alive() for thread in threads):
            self._report_open_files(deadline)
        context.event_log.write_counts(context.counts, context.watch.longest)

    def _report_open_files(self, deadline: float) -> None:
        # Threads of abandoned loops may still be sending a request.
        while (names := _open_files()) and self._context.watch.active < deadline:
            gc.collect()
            time.sleep(0.1)
        for name in names:
            self._context.event_log.write_violation(FILES_LEFT_OPEN, name)


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


def _set_exception_hooks(context: Context) -> None:
    def thread_hook(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            context.checker.report_undocumented(args.exc_value)

    def unraisable_hook(args: Any) -> None:
        if not isinstance(args.exc_value, INTERRUPTS) and not sys.is_finalizing():
            context.checker.report_undocumented(args.exc_value)

    threading.excepthook = thread_hook
    sys.unraisablehook = unraisable_hook
    logging.raiseExceptions = True


def main(folder: str, seed: int, call_timeout: float, kind: str) -> None:
    """Run a worker."""
    end_with_parent()
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    rng = random.Random(seed)
    shared_state = SharedState(f"{folder}/shared_state")
    event_log = EventLog(f"{folder}/event_log")
    SystemClock.wall = staticmethod(shared_state.machine_time)
    counts: Counter[str] = Counter()
    watch = Watch(event_log, folder, call_timeout, counts)
    checker = CallChecker(watch, event_log, shared_state, INTERRUPTS)
    children = ForkedChildren(call_timeout)
    credentials = CredentialPool(os.environ["IMDS_IDENTITY_CACHE"], rng)
    context = Context(
        folder, shared_state, event_log, counts, watch, checker, credentials, children, rng
    )
    _set_exception_hooks(context)
    logger = logging.getLogger("imds_identity")
    logger.addHandler(TokenRequestingHandler(context, locked=kind == "locked-logging"))
    logger.propagate = False
    Worker(context, interrupted=kind == "interrupted").run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4])
