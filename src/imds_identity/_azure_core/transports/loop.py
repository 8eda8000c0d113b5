"""Run a coroutine on the caller's event loop, and wait for it in another thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from typing import TYPE_CHECKING, TypeVar, cast

from ..._http.connection import timed_out
from ..._http.exchange import ReadFailed
from ..._token_cache.flight import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from typing_extensions import Never

    from ..._platform.clock import Clock

T = TypeVar("T")

POLL = 0.2
"""Seconds between two checks of a loop."""
_GONE = 2
"""Polls after which a loop that is not running counts as dead."""
_STUCK = 10
"""Polls after which a running loop counts as blocked: its blocker may wait for this request."""
_GRACE = 1.0
"""Seconds after its deadline in which a coroutine can handle its cancellation."""


def wait_for(
    begin: Callable[[], Coroutine[object, Never, T]],
    loop: asyncio.AbstractEventLoop,
    seconds: float,
    clock: Clock,
) -> T:
    """Return the result of a coroutine that runs on the loop of another thread.

    ``begin`` returns the coroutine, which is canceled after ``seconds``, or if this stops waiting.
    It is called on the loop, so that a blocked loop leaves no coroutine that was never awaited.

    Raises:
        Interrupted: if the loop is closed, not running, or blocked.
        ReadFailed: after the deadline, or if the coroutine was canceled and the loop keeps running.
        BaseException: the coroutine's own exception.
    """
    begun: list[Coroutine[object, Never, object]] = []
    bounded = _bounded(begin, begun, seconds)
    liveness = LoopLiveness(loop)
    try:
        future = asyncio.run_coroutine_threadsafe(bounded, loop)
    except RuntimeError:  # the loop is closed
        bounded.close()
        raise Interrupted from None
    ends = clock.now() + seconds + _GRACE
    while not concurrent.futures.wait([future], POLL).done:
        is_alive = liveness.is_turning()
        if is_alive and clock.now() <= ends:
            continue
        # If the loop runs again later, it does this first.
        future.cancel()
        if loop.is_closed():
            _close(bounded, *begun)
        raise timed_out(seconds) if is_alive else Interrupted()
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
    except BaseException:  # noqa: BLE001 - it ends the loop of its thread, not this thread
        raise Interrupted from None
    if raised is not None:
        raise raised
    return cast("T", result)


async def _bounded(
    begin: Callable[[], Coroutine[object, Never, T]],
    begun: list[Coroutine[object, Never, object]],
    seconds: float,
) -> tuple[T | None, Exception | None]:
    outcome = _outcome(begin)
    begun.append(outcome)
    return await asyncio.wait_for(outcome, seconds)


async def _outcome(
    begin: Callable[[], Coroutine[object, Never, T]],
) -> tuple[T | None, Exception | None]:
    """Return the result or the exception as a value: asyncio logs exceptions never retrieved."""
    try:
        return await begin(), None
    except asyncio.TimeoutError as error:  # in Python 3.10 it is not a TimeoutError
        return None, TimeoutError(*error.args)
    except Exception as error:  # noqa: BLE001 - the waiting thread raises it
        return None, error


class LoopLiveness:
    """Whether a loop is running its callbacks."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._missed = 0
        self._beat = threading.Event()
        self._beat.set()

    def is_turning(self) -> bool:
        """Return False if no callback has run for too long; call this once per poll."""
        if self._beat.is_set():
            self._missed = 0
            self._beat.clear()
            with contextlib.suppress(RuntimeError):  # closed in the meantime
                self._loop.call_soon_threadsafe(self._beat.set)
        else:
            self._missed += 1
        return self._missed < (_STUCK if self._loop.is_running() else _GONE)

    def keeps_turning(self) -> bool:
        """Return whether the loop still runs a moment later, so it is not closing."""
        for _ in range(_GONE):
            self._beat.set()
            if not self.is_turning():
                return False
            threading.Event().wait(POLL)
        return self._beat.is_set() and not self._loop.is_closed()


def _cancelled(liveness: LoopLiveness) -> Exception:
    """Return ReadFailed if only the task was canceled, Interrupted if its loop has ended."""
    if liveness.keeps_turning():
        return ReadFailed("the request was canceled on its event loop")
    return Interrupted()


def _close(*coroutines: Coroutine[object, Never, object]) -> None:
    for coroutine in coroutines:
        # Its cleanup may fail because the loop is closed.
        with contextlib.suppress(Exception):
            coroutine.close()
