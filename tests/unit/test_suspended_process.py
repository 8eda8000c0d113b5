"""Other processes continue while one is stopped (SIGSTOP, `docker pause`) at any moment."""

from __future__ import annotations

import functools
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._http.exchange import send
from imds_identity._http.messages import REQUEST_SECONDS, Request
from imds_identity._http.runner import MARGIN, ExchangeRunner
from imds_identity._shared_cache.rate_limit import RateLimiter
from imds_identity._token_cache.cache import TokenCache
from imds_identity._token_cache.fetch import Fetch
from support import KEY, WINE, BackgroundQueue, new_token, no_jitter, shared_cache_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_identity._core.token import Token
    from imds_identity._http.exchange import Steps
    from imds_identity._http.messages import Response
    from imds_identity._http.runner import Heartbeat
    from support import FakeClock


TRACED = ("_token_cache", "_shared_cache", "_http", "files.py")
ONE_FETCH = REQUEST_SECONDS + MARGIN + 1.0


class Process:
    """A process that fetches one token by one request."""

    sent = 0

    def __init__(self, directory: Path, clock: FakeClock) -> None:
        self.shared_cache = shared_cache_in(directory, clock)
        self.token_cache = TokenCache(clock, no_jitter, BackgroundQueue())
        self.entry = self.token_cache.entry(KEY)

    def get(self) -> Token:
        fetch = Fetch(self.entry, None, self._exchange, self.shared_cache, no_jitter)
        return self.token_cache.get(self.entry, fetch)

    def _exchange(self, heartbeat: Heartbeat) -> Token:
        rate_limiter = RateLimiter(self.shared_cache, "g" * 40, no_jitter)
        return ExchangeRunner(self._send, self.shared_cache.clock, rate_limiter, heartbeat).run(
            self._steps()
        )

    def _send(self, request: Request) -> Response:
        type(self).sent += 1
        from imds_identity._http.messages import Response

        now = self.shared_cache.clock.now()
        return Response(200, {}, b"", now, now, self.shared_cache.clock.wall())

    def _steps(self) -> Steps[Token]:
        yield from send(Request("http://service", {}))
        return new_token(self.shared_cache.clock, f"token-{self.sent}")


@functools.cache
def is_traced(file: str) -> bool:
    return any(name in Path(file).parts for name in TRACED)


class SuspendedThread:
    """A thread that stops before it executes the package's line number ``moment``."""

    def __init__(self, work: Callable[[], object], moment: int) -> None:
        self.moments = 0
        self.is_over = False
        self.error: BaseException | None = None
        self._work = work
        self._moment = moment
        self._stopped = threading.Event()
        self._continue = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._stopped.wait(10)

    def _run(self) -> None:
        sys.settrace(self._trace)
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - asserted in `resume`
            self.error = error
        finally:
            sys.settrace(None)
            self.is_over = True
            self._stopped.set()

    def _trace(self, frame: Any, event: str, _: object) -> Any:
        if not is_traced(frame.f_code.co_filename):
            return None
        if event == "line":
            self.moments += 1
            if self.moments == self._moment:
                self._stopped.set()
                self._continue.wait(30)
        return self._trace

    def resume(self) -> None:
        self._continue.set()
        self._thread.join(10)
        assert self.is_over
        assert self.error is None


@pytest.mark.skipif(WINE, reason="wine does not store access times")
def test_other_processes_wait_no_longer_than_one_fetch_whenever_one_is_stopped(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced_by_earlier = 0
    for moment in range(1, 1000):
        directory = tmp_path / str(moment)
        stopped = Process(directory, clock)
        suspended = SuspendedThread(stopped.get, moment)
        started, sent = clock.now(), Process.sent
        tokens = [Process(directory, clock).get() for _ in range(2)]
        assert clock.now() - started <= ONE_FETCH, moment
        assert Process.sent - sent <= 1, moment
        clock.seconds += 1000  # its result is old when it continues
        suspended.resume()
        assert stopped.entry.token is not None
        latest = max([*tokens, stopped.entry.token], key=lambda token: token.received_at)
        started = clock.now()
        replaced_by_earlier += Process(directory, clock).get().value != latest.value
        assert clock.now() == started, moment
        if suspended.moments < moment:
            assert moment > 100
            # Only if it was stopped between the last check and the rename.
            assert replaced_by_earlier < 30
            return
    raise AssertionError("the fetch executes too many lines")


@pytest.mark.skipif(WINE, reason="wine does not store access times")
def test_process_that_is_stopped_while_it_removes_files_harms_no_other(
    tmp_path: Path, clock: FakeClock
) -> None:
    for moment in range(1, 1000):
        directory = tmp_path / str(moment)
        Process(directory, clock).get()
        clock.seconds += 100_000  # the record and the lock files are over
        suspended = SuspendedThread(shared_cache_in(directory, clock).sweep, moment)
        started, sent = clock.now(), Process.sent
        token = Process(directory, clock).get()
        assert Process(directory, clock).get() == token, moment
        assert clock.now() - started <= ONE_FETCH, moment
        assert Process.sent - sent == 1, moment
        suspended.resume()
        # It may remove the new record, which it mistakes for the old one, but never a held lock.
        assert Process(directory, clock).get().expires_at > clock.now()
        if suspended.moments < moment:
            assert moment > 50
            return
    raise AssertionError("the sweep executes too many lines")
