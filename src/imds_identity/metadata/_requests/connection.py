"""How a client reaches the metadata service: its address, its limits, and who runs exchanges."""

from __future__ import annotations

import os
import random
import threading
from typing import TYPE_CHECKING, TypeVar

from ..._core.failure import Failure, sanitize
from ..._core.source import ARC, IMDS, Source
from ..._platform.clock import SYSTEM_CLOCK
from ..._platform.fork import fork_safe
from ..._platform.locks import locked
from ..._shared_cache.location import shared_cache_for
from ..._shared_cache.rate_limit import METADATA_LIMITS, rate_limiter_for
from ..._sources.registry import detect
from ..errors import MetadataError, error_from, may_pass
from .rate_limit import Pace

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._http.exchange import Steps
    from ..._http.runner import RateLimiter
    from ..._platform.clock import Clock

D = TypeVar("D")
T = TypeVar("T")

LONGEST_EXCHANGE = 100.0
"""Seconds for what is not said otherwise: an update may take 70."""
_PAUSE = 1.0


class Connection:
    """One service, as all clients of it in this process share it.

    Attributes:
        base: its address, such as ``http://169.254.169.254``.
        host: its name, if that differs.
        is_arc: whether it is an Azure Arc agent's.
        clock: the time.

    Args:
        endpoint: its address; this machine's service by default.

    Raises:
        ValueError: if that is no address, or the environment's setting of the cache is none.
    """

    def __init__(self, endpoint: str | None = None) -> None:
        source = _source(endpoint)
        self.is_arc = source.name == ARC
        self.base, self.host = source.endpoint, ""
        if self.is_arc:
            # By address: the name may lead to ::1 as well, where anybody may listen.
            self.base = self.base.replace("://localhost", "://127.0.0.1", 1)
            self.host = source.endpoint.partition("://")[2]
        self.clock: Clock = SYSTEM_CLOCK
        self._rate_limiter = _rate_limiter(source)

    def run(self, steps: Steps[T], seconds: float = LONGEST_EXCHANGE) -> T:
        """What an exchange gives.

        Args:
            steps: the exchange.
            seconds: how long it may take, with all its requests and pauses.

        Raises:
            MetadataError: as it fails.
        """
        with fork_safe():
            from ..._http.runner import ExchangeRunner
            from ..._http.transport import direct_sender

        with direct_sender(self.clock) as send:
            runner = ExchangeRunner(send, self.clock, self._rate_limiter, seconds=seconds)
            return self.read(runner.run, steps)

    def read(self, read: Callable[[D], T], document: D) -> T:
        """What ``read`` makes of ``document``.

        Raises:
            MetadataError: as it fails.
        """
        try:
            return read(document)
        except Failure as failure:
            failure.request_summary = failure.request_summary or sanitize(self.base)
            reason = failure
        # Not inside the handler: an exception's context holds frames, and those hold documents.
        raise error_from(reason)


class OneAtATime:
    """A lock that nobody holds in a child that was forked while another thread held it."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._lock = threading.RLock()

    def do(self, work: Callable[[], T]) -> T:
        """What ``work`` returns, once nobody else is at it."""
        if self._process != os.getpid():
            self._process, self._lock = os.getpid(), threading.RLock()
        return locked(self._lock, work)


def wait_for(ask: Callable[[float], T], seconds: float, clock: Clock) -> T:
    """What ``ask`` gives, asked once a second until it does.

    Args:
        ask: is told how many seconds it has.
        seconds: for how long to wait.
        clock: the time.

    Raises:
        MetadataError: as it was last, or if it says what waiting will not change.
    """
    deadline = clock.now() + seconds
    while True:
        due = clock.now() + _PAUSE
        try:
            return ask(max(deadline - clock.now(), _PAUSE))
        except MetadataError as error:
            if due >= deadline or not may_pass(error):
                raise
        clock.sleep(max(0.0, due - clock.now()))


def _source(endpoint: str | None) -> Source:
    """Where the service is, and whether it is Azure Arc's."""
    if endpoint is not None:
        if not isinstance(endpoint, str):
            raise ValueError(f"endpoint must be an http or https URL, not {endpoint!r}")
        source = Source(IMDS, endpoint.rstrip("/"))
    else:
        found = detect()
        found = found if found.is_per_machine else detect(IMDS)
        source = Source(found.name, found.endpoint.partition("/metadata/")[0], found.variable)
    if not source.endpoint.startswith(("http://", "https://")):
        what = source.variable or "endpoint"
        raise ValueError(f"{what} must be an http or https URL, not {sanitize(source.endpoint)!r}")
    return source


def _rate_limiter(source: Source) -> RateLimiter:
    """What keeps the limit of all that are not tokens, which have one of their own."""
    shared_cache = shared_cache_for()
    if shared_cache is None or not shared_cache.usable():
        return _pace(source.endpoint)
    others = Source(source.name, f"{source.endpoint}/metadata")
    return rate_limiter_for(shared_cache, others, random.random, METADATA_LIMITS)


def _pace(endpoint: str) -> Pace:
    # Not a cached function, which threads that begin together would each call.
    return _paces.setdefault(endpoint, Pace(SYSTEM_CLOCK, METADATA_LIMITS.per_second))


_paces: dict[str, Pace] = {}
