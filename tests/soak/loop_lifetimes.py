"""Event loops, one after another: tasks are cancelled, loops are stopped in the middle."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .shared_state import steady

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from .context import Context
    from .credentials import PooledCredential

_TASKS = 5
_LONGEST_ERA = 6.0
_LONGEST_PAUSE = 15.0
_ENDINGS = ("all tasks done", "all tasks cancelled", "closed in the middle", "stopped for a while")
# What asyncio says of tasks and transports that the soak itself left behind.
_OUR_DOING = ("was destroyed but it is pending", "Unclosed c")


def live(context: Context) -> None:
    """One loop after another, until the soak ends."""
    while context.shared_state.running:
        try:
            LoopLifetime(context).live()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
            context.calls.foreign(error)
        gc.collect()


class LoopLifetime:
    """The life of one event loop.

    Args:
        context: to live in.
    """

    def __init__(self, context: Context) -> None:
        self._scene = context
        self._dice = context.dice
        self._held_up = [0.0]
        self._over = self._abandoned = False
        self._cancelled: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._complained)
        self._stock = context.credentials.asyncs()
        self._tasks: list[asyncio.Task[Any]] = []

    def live(self) -> None:
        self._tasks = [self._loop.create_task(self._ask_again_and_again()) for _ in range(_TASKS)]
        self._tasks.append(self._loop.create_task(self._cancel_now_and_then()))
        self._run(self._dice.uniform(0.3, _LONGEST_ERA))
        ending = self._dice.choice(_ENDINGS)
        self._scene.counts[f"faults: loops, {ending}"] += 1
        if ending == "stopped for a while":
            self._stand_still()
        if ending == "closed in the middle":
            self._abandon()
        else:
            self._finish(cancel=ending == "all tasks cancelled")
        self._loop.close()

    def _run(self, seconds: float) -> None:
        self._loop.call_later(seconds, self._loop.stop)
        self._loop.run_forever()

    def _stand_still(self) -> None:
        """As a notebook's loop between two cells; threads may wait for what it was sending."""
        until = steady() + self._dice.uniform(0.1, _LONGEST_PAUSE)
        with self._held_up_here():
            while steady() < until and self._scene.shared_state.running:
                self._scene.ask_one()
                time.sleep(0.05)
        self._run(0.2)

    @contextmanager
    def _held_up_here(self) -> Iterator[None]:
        """The loop does not run in the meantime, which is no fault of those who wait on it."""
        before, began = self._held_up[0], self._scene.watch.active
        self._held_up[0] = float("inf")
        try:
            yield
        finally:
            self._held_up[0] = before + self._scene.watch.active - began + 0.001

    def _finish(self, *, cancel: bool) -> None:
        self._over = True
        if cancel:
            for task in self._tasks:
                self._cancel(task)
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        self._loop.run_until_complete(self._close_transports())

    def _abandon(self) -> None:
        self._over = self._abandoned = True
        self._held_up[0] = float("inf")

    async def _close_transports(self) -> None:
        for held in self._stock:
            await held.credential.close()

    async def _ask_again_and_again(self) -> None:
        while not self._over:
            try:
                await self._ask()
                await asyncio.sleep(self._dice.uniform(0, 0.03))
            except asyncio.CancelledError as error:
                self._expected(error)
                if self._over:
                    return

    async def _ask(self) -> None:
        held = self._dice.choice(self._stock)
        asked = self._judged(held)
        way = self._dice.random()
        if way < 0.02:
            self._scene.counts["calls: sync, on a loop's own thread"] += 1
            with self._held_up_here():
                self._scene.ask_one()
        elif way < 0.2:
            await self._timed_out(asked)
            return
        await asked

    async def _judged(self, held: PooledCredential) -> None:
        ask, info = held.ask(self._dice), self._dice.random() < 0.5
        asynchronous = self._scene.calls.asynchronous
        facts = await asynchronous(held.credential, ask, info=info, held_up=self._held_up)
        challenge = self._scene.calls.challenge(ask, facts)
        if challenge is not None:
            await asynchronous(held.credential, challenge, info=info, held_up=self._held_up)

    async def _timed_out(self, asked: Awaitable[None]) -> None:
        try:
            await asyncio.wait_for(asked, self._dice.uniform(0.001, 1.0))
        except asyncio.TimeoutError:
            self._scene.counts["faults: time-outs of wait_for"] += 1

    async def _cancel_now_and_then(self) -> None:
        while not self._over:
            await asyncio.sleep(self._dice.uniform(0.02, 0.4))
            self._cancel(self._dice.choice(self._tasks[:_TASKS]))

    def _cancel(self, task: asyncio.Task[Any]) -> None:
        if task.done() or task in self._cancelled:
            return
        self._cancelled.add(task)
        task.cancel()
        self._scene.counts["faults: tasks cancelled"] += 1

    def _expected(self, error: asyncio.CancelledError) -> None:
        task = asyncio.current_task()
        if task not in self._cancelled:
            self._scene.calls.foreign(error)
        self._cancelled.discard(task)

    def _complained(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error, message = context.get("exception"), str(context.get("message"))
        if any(words in message for words in _OUR_DOING):
            return
        if self._abandoned or (error is None and self._over):
            return
        self._scene.calls.foreign(error or RuntimeError(message))


def start(context: Context) -> threading.Thread:
    """Live in a thread."""
    thread = threading.Thread(target=live, args=(context,), name="soak-loops", daemon=True)
    thread.start()
    return thread
