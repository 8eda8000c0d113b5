"""A coroutine on somebody else's event loop, waited for by the engine's thread, with an end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ..._http.bounded import timed_out
from ..._http.exchange import ReadFailed
from ..._token_cache.flight import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ..._platform.clock import Clock

T = TypeVar("T")

POLL = 0.2
"""Seconds after which a loop is looked at again."""
_GONE = 2
"""Polls that a loop which does not run is given to run again."""
_STUCK = 10
"""Polls that a running loop is given to turn: whoever blocks it may be waiting for this request."""
_GRACE = 1.0
"""Seconds past its deadline that a coroutine is given to notice that it was cancelled."""


def wait_for(
    begin: Callable[[], Coroutine[Any, Any, T]],
    loop: asyncio.AbstractEventLoop,
    seconds: float,
    clock: Clock,
) -> T:
    """What a coroutine returns, run on ``loop``, which is not this thread's.

    Args:
        begin: gives the coroutine, which is cancelled if its end is not waited for. It is called on
            the loop: one that is blocked for too long never has a coroutine to complain about.
        loop: runs it.
        seconds: its deadline.
        clock: times it.

    Raises:
        Interrupted: if the loop is closed, does not run, or does not turn.
        ReadFailed: past the deadline, or if the work was cancelled and the loop goes on.
        BaseException: what the coroutine raises.
    """
    begun: list[Coroutine[Any, Any, Any]] = []
    bounded = _bounded(begin, begun, seconds)
    liveness = LoopLiveness(loop)
    try:
        future = asyncio.run_coroutine_threadsafe(bounded, loop)
    except RuntimeError:  # the loop is closed
        bounded.close()
        raise Interrupted from None
    ends = clock.now() + seconds + _GRACE
    while not concurrent.futures.wait([future], POLL).done:
        turns = liveness.is_turning()
        if turns and clock.now() <= ends:
            continue
        # Should a loop that has stopped ever turn again, this is the first thing that it does.
        future.cancel()
        if loop.is_closed():
            _close(bounded, *begun)
        raise timed_out(seconds) if turns else Interrupted()
    return _result(future, liveness, seconds)


def _result(
    future: concurrent.futures.Future[tuple[T | None, Exception | None]],
    liveness: LoopLiveness,
    seconds: float,
) -> T:
    try:
        result, raised = future.result()
    except concurrent.futures.CancelledError:
        raise _cancelled(liveness) from None
    except asyncio.TimeoutError:
        raise timed_out(seconds) from None
    except BaseException:  # noqa: BLE001 - what ends the interpreter ends its loop, not this thread
        raise Interrupted from None
    if raised is not None:
        raise raised
    return cast("T", result)


async def _bounded(
    begin: Callable[[], Coroutine[Any, Any, T]],
    begun: list[Coroutine[Any, Any, Any]],
    seconds: float,
) -> tuple[T | None, Exception | None]:
    outcome = _outcome(begin, begun)
    begun.append(outcome)
    return await asyncio.wait_for(outcome, seconds)


async def _outcome(
    begin: Callable[[], Coroutine[Any, Any, T]], begun: list[Coroutine[Any, Any, Any]]
) -> tuple[T | None, Exception | None]:
    """What comes of a coroutine, as a value.

    If nobody waits any more, asyncio would log an exception that nobody takes.
    """
    work = begin()
    begun.append(work)
    try:
        return await work, None
    except asyncio.TimeoutError as error:  # up to Python 3.10 it is no TimeoutError
        return None, TimeoutError(*error.args)
    except Exception as error:  # noqa: BLE001 - raised again by who waits
        return None, error


class LoopLiveness:
    """Whether a loop turns."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._missed = 0
        self._beat = threading.Event()
        self._beat.set()

    def is_turning(self) -> bool:
        """Looked at once in a poll: False when it has not turned for too long."""
        if self._beat.is_set():
            self._missed = 0
            self._beat.clear()
            with contextlib.suppress(RuntimeError):  # closed in the meantime
                self._loop.call_soon_threadsafe(self._beat.set)
        else:
            self._missed += 1
        return self._missed < (_STUCK if self._loop.is_running() else _GONE)

    def keeps_turning(self) -> bool:
        """Whether it still turns a moment later: one that ends does so for a while, too."""
        for _ in range(_GONE):
            self._beat.set()
            if not self.is_turning():
                return False
            threading.Event().wait(POLL)
        return self._beat.is_set() and not self._loop.is_closed()


def _cancelled(liveness: LoopLiveness) -> Exception:
    """A loop that ends cancels all that runs on it; anybody else may cancel a single task."""
    if liveness.keeps_turning():
        return ReadFailed("the request was cancelled on its event loop")
    return Interrupted()


def _close(*coroutines: Coroutine[Any, Any, Any]) -> None:
    for coroutine in coroutines:
        # What was under way may find its loop closed when it puts its things away.
        with contextlib.suppress(Exception):
            coroutine.close()
