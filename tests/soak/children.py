"""Forks in the middle of it all, and what the children do."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import threading
from collections import Counter
from typing import TYPE_CHECKING

from .calls import Calls
from .event_log import told
from .shared_state import steady
from .watch import Watch

if TYPE_CHECKING:
    from .context import Context

HUNG_CHILD = "forked children that hung"
DIED = "processes that died by themselves"
_AT_ONCE = 2
_QUESTIONS = 4
_FINE, _HUNG, _FAILED = 0, 1, 3


class Children:
    """The children that a worker has forked.

    Args:
        patience: seconds that one question of a child may take.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._alive: dict[int, float] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._alive)

    def fork(self, context: Context) -> None:
        """Fork here and now; the child asks a few questions of its own."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if len(self._alive) >= _AT_ONCE:
                return
            child = os.fork()
            if child == 0:
                _live(context, self._patience)
            self._alive[child] = steady()
            context.counts["faults: forks"] += 1
        finally:
            self._lock.release()

    def reap(self, context: Context) -> None:
        """Look after those that have ended."""
        for child, born in list(self._alive.items()):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended == 0 and steady() - born < (_QUESTIONS + 1) * self._patience:
                continue
            if ended == 0:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                status = _HUNG << 8
            del self._alive[child]
            code = os.waitstatus_to_exitcode(status)
            if code == _HUNG:
                context.event_log.broken(HUNG_CHILD, f"{child} of {os.getpid()}")
            elif code not in (_FINE, _FAILED):
                context.event_log.broken(DIED, f"a forked child, with {code}")


def _live(context: Context, patience: float) -> None:
    """What a child does with its life."""
    code = _FAILED
    try:
        signal.setitimer(signal.ITIMER_REAL, 0)
        counts: Counter[str] = Counter()
        watch = Watch(context.event_log, context.folder, patience, counts)
        calls = Calls(watch, context.event_log, context.shared_state, ())
        with open(f"{context.folder}/stacks-{os.getpid()}-child.txt", "w") as stacks:
            for question in range(context.dice.randrange(1, _QUESTIONS + 1)):
                faulthandler.dump_traceback_later(patience, exit=True, file=stacks)
                _ask(context._replace(calls=calls, counts=counts, watch=watch), question)
            faulthandler.cancel_dump_traceback_later()
        os.unlink(stacks.name)
        context.event_log.write("forked", counts=dict(counts))
        code = _FINE
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
        context.event_log.broken("foreign exceptions", told(error))
    finally:
        os._exit(code)


def _ask(context: Context, question: int) -> None:
    way = question % 3
    if way == 0:
        context.ask_one()
    elif way == 1:
        thread = threading.Thread(target=context.ask_one)
        thread.start()
        thread.join()
    else:
        asyncio.run(_ask_on_a_loop(context))


async def _ask_on_a_loop(context: Context) -> None:
    held = context.dice.choice(context.credentials.asyncs())
    async with held.credential:
        await context.calls.asynchronous(
            held.credential, held.ask(context.dice), info=False, held_up=[0.0]
        )
