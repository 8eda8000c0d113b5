"""One identity at one source: what every face holds, and all it knows of the engine."""

from __future__ import annotations

import sys
from functools import partial

from .._core.failure import Failure, Unavailable
from .._core.key import key_for
from .._core.token_request import TokenRequest
from .._platform.fork import fork_safe, load
from .._platform.threads import LOG_SECONDS, run_in_thread
from .flight import LONGEST_EXCHANGE
from .options import FetchTrace, is_logged
from .shared_fetch import SharedFetch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager
    from typing import Any, TypeAlias

    from .._core.identity import Identity
    from .._core.token import Token
    from .._http.runner import Heartbeat, Sender
    from .._platform.clock import Clock
    from .._shared_cache.store import SharedCache
    from .._sources.sources import TokenSource
    from .cache import TokenCache
    from .entry import CacheEntry
    from .flight import Fetch, FetchResult, Flight, OnResult
    from .options import CallOptions

_LONGEST_LOADING = 30.0

OpenSender: TypeAlias = "Callable[[Clock], AbstractContextManager[Sender]]"


class TokenClient:
    """Gets tokens for one identity from one source.

    Args:
        source: where from.
        identity: whose.
        token_cache: shared by all that should share tokens.
        shared_cache: shared with the other processes of this user, if there is one.
        call_options: how the caller wants to be served, if it matters.
        redetect: finds the source once more when the first token is asked for; None if the one
            at hand is the one that was meant.
    """

    def __init__(
        self,
        source: TokenSource,
        identity: Identity,
        token_cache: TokenCache,
        shared_cache: SharedCache | None,
        call_options: CallOptions | None = None,
        redetect: Callable[[], TokenSource] | None = None,
    ) -> None:
        self.source = source
        self.identity = identity
        self.token_cache = token_cache
        self._configured_cache = shared_cache
        self._call_options = call_options
        self._redetect = redetect

    @property
    def _shared_cache(self) -> SharedCache | None:
        return self._configured_cache if self.source.is_per_machine else None

    def entry(self, resource: str, *, cae: bool = False) -> CacheEntry:
        """The slot of this identity's token for ``resource``.

        The first call settles for good where tokens come from.

        Args:
            resource: what the token is for.
            cae: whether the caller meets claims challenges. Most sources give all the same token,
                and have one slot for both.

        Raises:
            ValueError: if the source that is found now cannot give this identity.
        """
        redetect = self._redetect  # once: another thread may be settling it, too
        if redetect is not None:
            self.source = redetect()
            self._redetect = None
        return self.token_cache.entry(key_for(self.source, self.identity, resource, cae=cae))

    def token(
        self, entry: CacheEntry, claims: str | None = None, open_sender: OpenSender | None = None
    ) -> Token:
        """The token of ``entry``, from memory or from the service.

        Args:
            entry: from `entry`.
            claims: the claims challenge that refused the token held until now.
            open_sender: sends in place of ``requests``.

        Raises:
            Failure: when there is none to be had.
        """
        self._catch_up(entry)
        fetch, on_result = self._fetcher_for(entry, claims, open_sender)
        return self.token_cache.get(entry, fetch, claims or None, on_result)

    def wait_or_fetch(
        self, entry: CacheEntry, claims: str | None, open_sender: OpenSender | None, **how: Any
    ) -> Generator[Flight, None, Token]:
        """Like `token`, but who drives it does the waiting, as for `TokenCache.wait_or_fetch`.

        Args:
            entry: as for `token`.
            claims: likewise.
            open_sender: likewise.
            how: as for `TokenCache.join_or_start`.

        Raises:
            Failure: when there is none to be had.
        """
        self._catch_up(entry)
        fetch, on_result = self._fetcher_for(entry, claims, open_sender)
        return self.token_cache.wait_or_fetch(
            entry, fetch, claims or None, on_result=on_result, **how
        )

    def _catch_up(self, entry: CacheEntry) -> None:
        """Take over what other processes have written since."""
        generation = entry.generation
        version = self._shared_cache.version(entry.key) if self._shared_cache else None
        if self._shared_cache and version is not None and version != entry.version:
            record = self._shared_cache.read(entry.key)
            entry.version = version
            if record is not None:
                self.token_cache.adopt(entry, record.token, record.challenge, generation)
            if record is not None and record.token is not None and record.token is entry.token:
                self._log_shared_token(record.token, entry.key.resource)

    def _fetcher_for(
        self, entry: CacheEntry, claims: str | None, open_sender: OpenSender | None
    ) -> tuple[Fetch, OnResult]:
        """What gets the token, and what is told of that."""
        key = entry.key
        token_request = TokenRequest(key.resource, self.identity, claims or None, bool(key.cae))
        trace = FetchTrace()
        fetch = partial(self._fetch, token_request, open_sender, trace)
        if self._shared_cache is not None:
            sharing = SharedFetch(self._shared_cache, entry, self.token_cache.random)
            fetch = partial(sharing.get, fetch, claims or None)
        return fetch, partial(self._notify, token_request.resource, trace)

    def _log_shared_token(self, token: Token, resource: str) -> None:
        if is_logged():
            on_result = load("imds_identity._token_cache.notifications").log_shared_token
            now = self.token_cache.clock.now()
            run_in_thread(
                partial(on_result, self._request_summary(resource), token, now), LOG_SECONDS
            )

    def _notify(self, resource: str, trace: FetchTrace, result: FetchResult) -> None:
        if (
            self._call_options is not None and self._call_options.on_event is not None
        ) or is_logged():
            notifications = load("imds_identity._token_cache.notifications")
            notifications.notify(
                self.source, self._request_summary(resource), self._call_options, trace, result
            )

    def _request_summary(self, resource: str) -> str:
        return f"{self.source} for {resource!r} as {self.identity}"

    def _fetch(
        self,
        token_request: TokenRequest,
        open_sender: OpenSender | None,
        trace: FetchTrace,
        heartbeat: Heartbeat | None = None,
    ) -> Token:
        trace.requested = True
        if heartbeat is not None and "imds_identity._http.transport" not in sys.modules:
            # On a machine where many programs start at once, this takes longer than a lease's
            # first term.
            heartbeat(_LONGEST_LOADING)
        with fork_safe():
            from .._http.retry_options import DEFAULT_RETRY
            from .._http.runner import ExchangeRunner
            from .._http.transport import direct_sender
            from .._shared_cache.rate_limit import rate_limiter_for
        token_cache, source, shared_cache, call_options = (
            self.token_cache,
            self.source,
            self._shared_cache,
            self._call_options,
        )
        # Where there may be no service, there is none whose limits would be worth waiting for.
        limited = None if source.is_probe else shared_cache
        rate_limiter = rate_limiter_for(limited, source, token_cache.random) if limited else None
        uses_own_transport = call_options is not None and call_options.has_transport
        try:
            source.check()
            if not uses_own_transport:
                token_cache.unavailable_endpoints.check(source.endpoint, token_cache.clock.now())
            with (open_sender or direct_sender)(token_cache.clock) as send:
                sends = trace.tracing(send) if call_options and call_options.logs_requests else send
                retry_options = (call_options and call_options.retry_options) or DEFAULT_RETRY
                runner = ExchangeRunner(
                    sends,
                    token_cache.clock,
                    rate_limiter,
                    heartbeat,
                    token_cache.random,
                    LONGEST_EXCHANGE,
                    retry_options,
                )
                token = source.fetch(token_request, runner)
            return token.as_answer(token_cache.clock.now()) if token_request.claims else token
        except Failure as failure:
            failure.request_summary = self._request_summary(token_request.resource)
            is_unavailable = isinstance(failure, Unavailable) and failure.status is None
            if is_unavailable and not uses_own_transport and source.is_probe:
                token_cache.unavailable_endpoints.note(
                    source.endpoint, failure, token_cache.clock.now()
                )
            raise
