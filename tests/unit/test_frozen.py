"""A process that is stopped (SIGSTOP, `docker pause`) at any moment, and those that go on."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._http.exchange import REQUEST_SECONDS, Request, send
from imds_identity._http.runner import MARGIN, ExchangeRunner
from imds_identity._shared_cache.rate_limit import RateLimiter
from imds_identity._token_cache.cache import TokenCache
from imds_identity._token_cache.fetch import Fetch
from support import KEY, WINE, BackgroundQueue, no_jitter, shared_cache_in, token_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_identity._core.token import Token
    from imds_identity._http.exchange import Response, Steps
    from imds_identity._http.runner import Heartbeat
    from support import FakeClock


PACKAGES = ("_token_cache", "_shared_cache", "_http", "files.py")
ONE_FETCH = REQUEST_SECONDS + MARGIN + 1.0


class Process:
    """A process of the machine that asks for one token, by one request."""

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
        from imds_identity._http.exchange import Response

        now = self.shared_cache.clock.now()
        return Response(200, {}, b"", now, now, self.shared_cache.clock.wall())

    def _steps(self) -> Steps[Token]:
        yield from send(Request("http://service", {}))
        return token_now(self.shared_cache.clock, f"token-{self.sent}")


class Frozen:
    """Work that stops before the line ``moment`` of ours that it runs, until it is let go."""

    def __init__(self, work: Callable[[], object], moment: int) -> None:
        self.moments = 0
        self.is_over = False
        self.error: BaseException | None = None
        self._work = work
        self._moment = moment
        self._stands = threading.Event()
        self._go = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._stands.wait(10)

    def _run(self) -> None:
        sys.settrace(self._trace)
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error
        finally:
            sys.settrace(None)
            self.is_over = True
            self._stands.set()

    def _trace(self, frame: Any, event: str, _: object) -> Any:
        if not any(room in Path(frame.f_code.co_filename).parts for room in PACKAGES):
            return None
        if event == "line":
            self.moments += 1
            if self.moments == self._moment:
                self._stands.set()
                self._go.wait(30)
        return self._trace

    def let_go(self) -> None:
        self._go.set()
        self._thread.join(10)
        assert self.is_over
        assert self.error is None


@pytest.mark.skipif(WINE, reason="wine keeps no time of access")
def test_whenever_one_process_is_stopped_nobody_waits_longer_than_one_fetch(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Files have the time of this machine, and what is being written is not to be swept away.
    monkeypatch.setattr("imds_identity._shared_cache.store._DRAFT_SECONDS", 1e12)
    replaced_by_an_earlier = 0
    for moment in range(1, 1000):
        directory = tmp_path / str(moment)
        stopped = Process(directory, clock)
        frozen = Frozen(stopped.get, moment)
        started, sent = clock.now(), Process.sent
        tokens = [Process(directory, clock).get() for _ in range(2)]
        assert clock.now() - started <= ONE_FETCH, moment
        assert Process.sent - sent <= 1, moment
        clock.seconds += 1000  # what it knows is of long ago by then
        frozen.let_go()
        assert stopped.entry.token is not None
        latest = max([*tokens, stopped.entry.token], key=lambda token: token.received_at)
        started = clock.now()
        replaced_by_an_earlier += Process(directory, clock).get().value != latest.value
        assert clock.now() == started, moment
        if frozen.moments < moment:
            assert moment > 100
            # Only between the last look and the renaming, which comes next.
            assert replaced_by_an_earlier < 30
            return
    raise AssertionError("it never came to an end")
