"""A signal handler raises before each line of `get_token`, one line after another."""

from __future__ import annotations

import functools
import linecache
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from imds_identity._core.key import Key
from imds_identity._platform.clock import SYSTEM_CLOCK
from imds_identity._platform.threads import internal_threads
from imds_identity._token_cache.cache import TokenCache
from support import count_traced_lines, new_token, no_jitter

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from imds_identity._core.token import Token


class Stopped(BaseException):
    """The exception that the signal handler raises."""


def can_be_interrupted(file: str, line: int) -> bool:
    """Return whether a signal handler can raise before this line."""
    if "imds_identity" not in file and not file.endswith("threading.py"):
        return False
    # CPython runs no handler between the end of a ``with`` block and ``__exit__``, nor in `locked`
    # between ``work`` and the release of the lock.
    if file.endswith("locks.py"):
        return "work(" in linecache.getline(file, line)
    return not linecache.getline(file, line).lstrip().startswith("with ")


def interrupt_at(number: int, work: Callable[[], object]) -> int:
    """Raise `Stopped` before the line ``number`` that ``work`` runs; return the number of lines."""
    return count_traced_lines(work, can_be_interrupted, number, Stopped)


def test_interrupted_call_does_not_affect_other_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imds_identity._token_cache.cache.POLL_SECONDS", 0.02)
    token_cache, other_threads = TokenCache(SYSTEM_CLOCK, no_jitter), internal_threads()

    def get_token(resource: object) -> Token:
        entry = token_cache.entry(Key("imds", "http://service", resource=str(resource)))
        return token_cache.get(entry, lambda: new_token(SYSTEM_CLOCK))

    for number in range(1, interrupt_at(-1, lambda: get_token("first")) + 1):
        with suppress(Stopped):
            interrupt_at(number, functools.partial(get_token, number))
        other = threading.Thread(target=get_token, args=(number,), daemon=True)
        other.start()
        other.join(10)
        assert not other.is_alive(), number
    get_token("last")
    deadline = SYSTEM_CLOCK.now() + 5
    while internal_threads() - other_threads and SYSTEM_CLOCK.now() < deadline:
        threading.Event().wait(0.01)
    assert not internal_threads() - other_threads


def test_token_is_fetched_if_no_thread_can_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import _thread

    def fail_to_start(*arguments: Any) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", fail_to_start)
    token_cache = TokenCache(SYSTEM_CLOCK, no_jitter)
    assert token_cache.get(
        token_cache.entry(Key("imds", "http://service")), lambda: new_token(SYSTEM_CLOCK)
    )
