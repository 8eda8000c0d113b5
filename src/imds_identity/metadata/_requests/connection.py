"""Access to the metadata service: its endpoint, its rate limit, and the execution of exchanges."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeVar

from ..._core.failure import Failure
from ..._core.source import ARC, IMDS, Source, shown_url
from ..._http.retry_options import RetryOptions
from ..._http.runner import ExchangeRunner
from ..._http.transport import direct_sender
from ..._platform.clock import SYSTEM_CLOCK
from ..._shared_cache.location import shared_cache_for
from ..._shared_cache.namespace import other_network
from ..._shared_cache.rate_limit import METADATA_LIMITS, ProcessRateLimiter, rate_limiter_for
from ..._sources.registry import detect
from ..errors import MetadataError, error_from, is_transient

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._http.exchange import Steps
    from ..._http.runner import RateLimiter
    from ..._platform.clock import Clock

D = TypeVar("D")
T = TypeVar("T")

EXCHANGE_SECONDS = 100.0  # with retries: an update of the service may take 70 s
_POLL_SECONDS = 1.0


class MetadataConnection:
    """Sends the requests of a client; all clients of a process share the rate limit.

    ``host`` is the Host header, if it differs from the address in the URL ``base``.
    """

    def __init__(self, endpoint: str | None = None) -> None:
        source = _source(endpoint)
        self.is_arc = source.name == ARC
        self.base, self.host = source.endpoint, ""
        if self.is_arc:
            # By address: the name may also resolve to ::1, where any process may listen.
            self.base = self.base.replace("://localhost", "://127.0.0.1", 1)
            self.host = source.endpoint.partition("://")[2]
        self.clock: Clock = SYSTEM_CLOCK
        self._source = source
        self._shared_cache = shared_cache_for()

    def run(
        self,
        steps: Steps[T],
        seconds: float = EXCHANGE_SECONDS,
        timeout: float | None = None,
    ) -> T:
        """Return the result of an exchange.

        It may take ``seconds`` with its retries; the caller's ``timeout`` replaces them, and ends
        requests in progress, too.
        """
        seconds = seconds if timeout is None else timeout
        options = RetryOptions(seconds=timeout)
        with direct_sender(self.clock) as send:
            limiter = self._rate_limiter()
            runner = ExchangeRunner(
                send, self.clock, limiter, seconds=seconds, retry_options=options
            )
            return self.convert(runner.run, steps)

    def _rate_limiter(self) -> RateLimiter:
        """Return the limiter for metadata requests; token requests have a separate limit.

        The constructor does not create it, because that accesses files: it may run in the thread of
        an event loop.
        """
        shared_cache = self._shared_cache and self._shared_cache.in_network(other_network())
        source = self._source
        if shared_cache is None or not shared_cache.usable():
            # Not functools.cache: threads that start together would each get another limiter.
            limiter = ProcessRateLimiter(SYSTEM_CLOCK, random.random, METADATA_LIMITS)
            return _process_limiters.setdefault(source.endpoint, limiter)
        metadata = Source(source.name, f"{source.endpoint}/metadata")
        return rate_limiter_for(shared_cache, metadata, random.random, METADATA_LIMITS)

    def convert(self, function: Callable[[D], T], value: D) -> T:
        """Return ``function(value)``; a Failure becomes a MetadataError."""
        try:
            return function(value)
        except Failure as failure:
            failure.request_summary = failure.request_summary or shown_url(self.base)
            reason = failure
        # Outside the handler: the context of an exception holds frames with whole documents.
        raise error_from(reason)


def poll_until_available(attempt: Callable[[float], T], seconds: float, clock: Clock) -> T:
    """Call ``attempt`` once a second with its timeout until it succeeds or fails permanently."""
    deadline = clock.now() + seconds
    while True:
        due = clock.now() + _POLL_SECONDS
        try:
            return attempt(max(deadline - clock.now(), _POLL_SECONDS))
        except MetadataError as error:
            if due >= deadline or not is_transient(error):
                raise
        clock.sleep(max(0.0, due - clock.now()))


def _source(endpoint: str | None) -> Source:
    """Return the metadata service: that of ``endpoint``, or else this machine's."""
    if endpoint is not None:
        if not isinstance(endpoint, str):
            raise ValueError(f"endpoint must be an http or https URL, not {endpoint!r}")
        source = Source(IMDS, endpoint.rstrip("/"))
    else:
        found = detect()
        found = found if found.is_per_machine else detect(IMDS)
        source = Source(found.name, found.endpoint.partition("/metadata/")[0], found.variable)
    if not source.endpoint.startswith(("http://", "https://")):
        name = source.variable or "endpoint"
        raise ValueError(f"{name} must be an http or https URL, not {source.shown_endpoint!r}")
    return source


_process_limiters: dict[str, ProcessRateLimiter] = {}
