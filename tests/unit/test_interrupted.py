"""A signal handler that raises at each moment of `get_token`: one after another, not at random."""

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
from support import count_traced_lines, no_jitter, token_now

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from imds_identity._core.token import Token


class Stopped(BaseException):
    """What a handler of signals raises."""


def is_a_moment(file: str, line: int) -> bool:
    """Whether a handler may raise before this line."""
    if "imds_identity" not in file and not file.endswith("threading.py"):
        return False
    # No handler runs between the end of such a block and the call that ends it, nor in `locked`
    # between its work and the lock's release.
    if file.endswith("locks.py"):
        return "work(" in linecache.getline(file, line)
    return not linecache.getline(file, line).lstrip().startswith("with ")


def raised_at(moment: int, work: Callable[[], object]) -> int:
    """Have `Stopped` raised before the line ``moment`` that ``work`` runs; how many there are."""
    return count_traced_lines(work, is_a_moment, moment, Stopped)


def test_an_exception_at_any_moment_is_its_caller_s_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imds_identity._token_cache.cache.POLL_SECONDS", 0.02)
    token_cache, of_others = TokenCache(SYSTEM_CLOCK, no_jitter), internal_threads()

    def ask(resource: object) -> Token:
        entry = token_cache.entry(Key("imds", "http://service", resource=str(resource)))
        return token_cache.get(entry, lambda: token_now(SYSTEM_CLOCK))

    for moment in range(1, raised_at(-1, lambda: ask("first")) + 1):
        with suppress(Stopped):
            raised_at(moment, functools.partial(ask, moment))
        other = threading.Thread(target=ask, args=(moment,), daemon=True)
        other.start()
        other.join(10)
        assert not other.is_alive(), moment
    ask("last")
    deadline = SYSTEM_CLOCK.now() + 5
    while internal_threads() - of_others and SYSTEM_CLOCK.now() < deadline:
        threading.Event().wait(0.01)
    assert not internal_threads() - of_others


def test_where_there_can_be_no_more_threads_the_token_is_fetched_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import _thread

    def limited(*arguments: Any) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", limited)
    token_cache = TokenCache(SYSTEM_CLOCK, no_jitter)
    assert token_cache.get(
        token_cache.entry(Key("imds", "http://service")), lambda: token_now(SYSTEM_CLOCK)
    )
