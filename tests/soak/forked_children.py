"""Forks at random moments, and the calls of the forked children."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import threading
from collections import Counter
from typing import TYPE_CHECKING

from .call_checker import UNDOCUMENTED, CallChecker
from .event_log import format_error
from .shared_state import monotonic
from .watch import Watch

if TYPE_CHECKING:
    from .context import Context

HUNG_CHILD = "forked children that hung"
DIED = "processes that died unexpectedly"
_MAX_CHILDREN = 2
_MAX_CALLS = 4
_DONE, _HUNG, _FAILED = 0, 1, 3


class ForkedChildren:
    """The forked children of a worker; each of their calls may take ``call_timeout`` seconds."""

    def __init__(self, call_timeout: float) -> None:
        self._call_timeout = call_timeout
        self._started: dict[int, float] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._started)

    def fork(self, context: Context) -> None:
        """Fork now; the child makes a few calls."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if len(self._started) >= _MAX_CHILDREN:
                return
            child = os.fork()
            if child == 0:
                _run_child(context, self._call_timeout)
            self._started[child] = monotonic()
            context.counts["faults: forks"] += 1
        finally:
            self._lock.release()

    def reap(self, context: Context) -> None:
        """Collect the exit statuses of children, and kill those that hang."""
        for child, started in list(self._started.items()):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended == 0 and monotonic() - started < (_MAX_CALLS + 1) * self._call_timeout:
                continue
            if ended == 0:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                status = _HUNG << 8
            del self._started[child]
            code = os.waitstatus_to_exitcode(status)
            if code == _HUNG:
                context.event_log.write_violation(HUNG_CHILD, f"{child} of {os.getpid()}")
            elif code not in (_DONE, _FAILED):
                context.event_log.write_violation(DIED, f"a forked child, with {code}")


def _run_child(context: Context, call_timeout: float) -> None:
    """Make a few calls and exit."""
    code = _FAILED
    try:
        signal.setitimer(signal.ITIMER_REAL, 0)
        counts: Counter[str] = Counter()
        watch = Watch(context.event_log, context.folder, call_timeout, counts)
        checker = CallChecker(watch, context.event_log, context.shared_state, ())
        child_context = context._replace(checker=checker, counts=counts, watch=watch)
        with open(f"{context.folder}/stacks-{os.getpid()}-child.txt", "w") as stacks:
            for number in range(context.rng.randrange(1, _MAX_CALLS + 1)):
                faulthandler.dump_traceback_later(call_timeout, exit=True, file=stacks)
                _call(child_context, number)
            faulthandler.cancel_dump_traceback_later()
        os.unlink(stacks.name)
        context.event_log.write("forked child", counts=dict(counts))
        code = _DONE
    except BaseException as error:  # noqa: BLE001 - each is a violation to report
        context.event_log.write_violation(UNDOCUMENTED, format_error(error))
    finally:
        os._exit(code)


def _call(context: Context, number: int) -> None:
    """Call on the main thread, on a new thread or on an event loop, in turn."""
    match number % 3:
        case 0:
            context.call_any()
        case 1:
            thread = threading.Thread(target=context.call_any)
            thread.start()
            thread.join()
        case _:
            asyncio.run(_call_on_loop(context))


async def _call_on_loop(context: Context) -> None:
    pooled = context.rng.choice(context.credentials.new_async())
    async with pooled.credential:
        await context.checker.call_async(
            pooled.credential, pooled.call_spec(context.rng), info=False, blocked=[0.0]
        )
