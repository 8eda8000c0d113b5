"""Event loops, one after another: tasks are canceled, and loops are stopped or abandoned."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .shared_state import monotonic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from .context import Context
    from .credentials import PooledCredential

_TASKS = 5
_MAX_RUN_SECONDS = 6.0
_MAX_STOPPED_SECONDS = 15.0
_ENDINGS = (
    "all tasks done",
    "all tasks canceled",
    "closed with tasks running",
    "stopped for a time",
)
# asyncio's messages about tasks and transports that the soak itself abandoned.
_EXPECTED_MESSAGES = ("was destroyed but it is pending", "Unclosed c")


def run_loops(context: Context) -> None:
    """Run one loop after another until the soak drains."""
    while context.shared_state.running:
        try:
            LoopLifetime(context).run()
        except BaseException as error:  # noqa: BLE001 - each is a violation to report
            context.checker.report_undocumented(error)
        gc.collect()


class LoopLifetime:
    """The lifetime of one event loop, with tasks that request tokens and get canceled."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._rng = context.rng
        self._blocked = [0.0]
        self._ending = self._abandoned = False
        self._canceled: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._handle_loop_error)
        self._credentials = context.credentials.new_async()
        self._tasks: list[asyncio.Task[Any]] = []

    def run(self) -> None:
        """Run the loop for a random time, then end it in a random way."""
        self._tasks = [self._loop.create_task(self._call_repeatedly()) for _ in range(_TASKS)]
        self._tasks.append(self._loop.create_task(self._cancel_repeatedly()))
        self._run_for(self._rng.uniform(0.3, _MAX_RUN_SECONDS))
        ending = self._rng.choice(_ENDINGS)
        self._context.counts[f"faults: event loops, {ending}"] += 1
        if ending == "stopped for a time":
            self._stop_for_a_time()
        if ending == "closed with tasks running":
            self._abandon()
        else:
            self._finish(cancel=ending == "all tasks canceled")
        self._loop.close()

    def _run_for(self, seconds: float) -> None:
        self._loop.call_later(seconds, self._loop.stop)
        self._loop.run_forever()

    def _stop_for_a_time(self) -> None:
        """Stop as a notebook's loop between two cells; threads may wait for its fetches."""
        until = monotonic() + self._rng.uniform(0.1, _MAX_STOPPED_SECONDS)
        with self._loop_blocked():
            while monotonic() < until and self._context.shared_state.running:
                self._context.call_any()
                time.sleep(0.05)
        self._run_for(0.2)

    @contextmanager
    def _loop_blocked(self) -> Iterator[None]:
        """Exclude this time from the durations of the loop's calls: the soak itself blocks it."""
        before, began = self._blocked[0], self._context.watch.active
        self._blocked[0] = float("inf")
        try:
            yield
        finally:
            self._blocked[0] = before + self._context.watch.active - began + 0.001

    def _finish(self, *, cancel: bool) -> None:
        self._ending = True
        if cancel:
            for task in self._tasks:
                self._cancel(task)
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        self._loop.run_until_complete(self._close_credentials())

    def _abandon(self) -> None:
        self._ending = self._abandoned = True
        self._blocked[0] = float("inf")

    async def _close_credentials(self) -> None:
        for pooled in self._credentials:
            await pooled.credential.close()

    async def _call_repeatedly(self) -> None:
        while not self._ending:
            try:
                await self._call()
                await asyncio.sleep(self._rng.uniform(0, 0.03))
            except asyncio.CancelledError as error:
                self._check_cancellation(error)
                if self._ending:
                    return

    async def _call(self) -> None:
        call = self._call_and_meet_challenge(self._rng.choice(self._credentials))
        kind = self._rng.random()
        if kind < 0.02:
            self._context.counts["calls: sync, on the thread of an event loop"] += 1
            with self._loop_blocked():
                self._context.call_any()
        elif kind < 0.2:
            await self._with_timeout(call)
            return
        await call

    async def _call_and_meet_challenge(self, pooled: PooledCredential) -> None:
        spec, info = pooled.call_spec(self._rng), self._rng.random() < 0.5
        call_async = self._context.checker.call_async
        issued = await call_async(pooled.credential, spec, info=info, blocked=self._blocked)
        challenge = self._context.checker.challenge(spec, issued)
        if challenge is not None:
            await call_async(pooled.credential, challenge, info=info, blocked=self._blocked)

    async def _with_timeout(self, call: Awaitable[None]) -> None:
        try:
            await asyncio.wait_for(call, self._rng.uniform(0.001, 1.0))
        except asyncio.TimeoutError:
            self._context.counts["faults: asyncio.wait_for timed out"] += 1

    async def _cancel_repeatedly(self) -> None:
        while not self._ending:
            await asyncio.sleep(self._rng.uniform(0.02, 0.4))
            self._cancel(self._rng.choice(self._tasks[:_TASKS]))

    def _cancel(self, task: asyncio.Task[Any]) -> None:
        if task.done() or task in self._canceled:
            return
        self._canceled.add(task)
        task.cancel()
        self._context.counts["faults: tasks canceled"] += 1

    def _check_cancellation(self, error: asyncio.CancelledError) -> None:
        task = asyncio.current_task()
        if task not in self._canceled:
            self._context.checker.report_undocumented(error)
        self._canceled.discard(task)

    def _handle_loop_error(
        self, _: asyncio.AbstractEventLoop, loop_context: dict[str, Any]
    ) -> None:
        error, message = loop_context.get("exception"), str(loop_context.get("message"))
        if any(expected in message for expected in _EXPECTED_MESSAGES):
            return
        if self._abandoned or (error is None and self._ending):
            return
        self._context.checker.report_undocumented(error or RuntimeError(message))


def start(context: Context) -> threading.Thread:
    """Run loops in a new thread."""
    thread = threading.Thread(target=run_loops, args=(context,), name="soak-loops", daemon=True)
    thread.start()
    return thread
