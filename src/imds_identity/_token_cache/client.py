"""The token client of credentials and commands: one identity at one source."""

from __future__ import annotations

import functools

from .._core.key import key_for
from .._core.token_request import TokenRequest
from .._platform.imports import run_imports
from .._platform.log import is_logged
from .._platform.threads import start_thread
from .fetch import Fetch
from .flight import LONGEST_FETCH
from .notifications import log_shared_token
from .token_exchange import TokenExchange, preload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    from .._core.identity import Identity
    from .._core.token import Token
    from .._shared_cache.store import SharedCache
    from .._sources.host import TokenSource
    from .cache import TokenCache
    from .entry import CacheEntry
    from .flight import Flight
    from .options import CallOptions
    from .token_exchange import OpenSender


class TokenClient:
    """Returns tokens for one identity from one source.

    ``redetect`` finds the source again at the first request; it is None if ``source`` is final.
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
        self.call_options = call_options
        self.is_preloaded = False
        self._configured_cache = shared_cache
        self._redetect = redetect

    @property
    def shared_cache(self) -> SharedCache | None:
        """The shared cache; None if tokens are not shared, as on app platforms."""
        return self._configured_cache if self.source.is_per_machine else None

    @property
    def _queue_seconds(self) -> float:
        """The longest wait for a thread that fetches: the caller's timeout, if there is one."""
        retry_options = self.call_options and self.call_options.retry_options
        return (retry_options and retry_options.seconds) or LONGEST_FETCH

    def preload(self) -> None:
        """Import everything that a fetch needs."""
        scheme = self.source.endpoint.partition(":")[0]
        run_imports((self.source.name, scheme, bool(self.shared_cache)), self._import_modules)
        self.is_preloaded = True

    def _preload_in_background(self) -> None:
        """Import what a refresh needs: this program keeps running, and may be upgraded."""
        self.is_preloaded = True
        try:
            start_thread(self._preload_again)
        except RuntimeError:
            self.is_preloaded = False

    def _preload_again(self) -> None:
        try:
            self.preload()
        except Exception:  # noqa: BLE001 - the fetch tries it again, and reports the error
            self.is_preloaded = False

    def _import_modules(self) -> None:
        preload()
        self.source.preload()
        if self.shared_cache:
            self.shared_cache.preload()

    def entry(self, resource: str, *, cae: bool = False) -> CacheEntry:
        """Return the cache entry for ``resource``; the first call determines the source.

        With ``cae``, the caller handles claims challenges. Most sources issue the same token in
        both cases, and have one entry for both.

        Raises:
            ValueError: if the source that is found now does not support this identity.
        """
        redetect = self._redetect  # read once: another thread may be doing the same
        if redetect is not None:
            self.source = redetect()
            if self.is_preloaded:
                self._preload_again()
            self._redetect = None
        return self.token_cache.entry(key_for(self.source, self.identity, resource, cae=cae))

    def token(
        self, entry: CacheEntry, claims: str | None = None, open_sender: OpenSender | None = None
    ) -> Token:
        """Return the token of ``entry``, from memory, from another process or from the service.

        Raises:
            Failure: if no token is available.
        """
        self._adopt_shared_token(entry)
        exchange, fetch = self._fetch(entry, claims, open_sender)
        # The flight may hang, or the lease that it waits for may belong to a stopped process.
        look = functools.partial(self._adopt_shared_token, entry)
        seconds = self._queue_seconds
        return self.token_cache.get(entry, fetch, claims, exchange.notify, look, seconds)

    def flights(
        self,
        entry: CacheEntry,
        claims: str | None,
        open_sender: OpenSender | None,
        **options: Any,
    ) -> Generator[Flight, None, Token]:
        """Like `token`, but the caller waits for each flight, as for `TokenCache.flights`."""
        self._adopt_shared_token(entry)
        exchange, fetch = self._fetch(entry, claims, open_sender)
        options["on_result"] = exchange.notify
        return self.token_cache.flights(entry, fetch, claims, self._queue_seconds, **options)

    def _fetch(
        self, entry: CacheEntry, claims: str | None, open_sender: OpenSender | None
    ) -> tuple[TokenExchange, Fetch]:
        exchange = self._exchange(entry, claims, open_sender)
        random = self.token_cache.random
        return exchange, Fetch(entry, claims, exchange, self.shared_cache, random)

    def _exchange(
        self, entry: CacheEntry, claims: str | None, open_sender: OpenSender | None
    ) -> TokenExchange:
        key = entry.key
        return TokenExchange(
            self.source,
            TokenRequest(
                key.resource, self.identity, claims, bool(key.cae), entry.token if claims else None
            ),
            self.token_cache,
            self.shared_cache,
            self.call_options,
            open_sender,
            None if self.is_preloaded else self.preload,
        )

    def _adopt_shared_token(self, entry: CacheEntry) -> None:
        """Adopt the record that another process has written since the last call."""
        shared_cache, generation = self.shared_cache, entry.generation
        version = shared_cache.version(entry.key) if shared_cache else None
        if shared_cache is None or version is None or version == entry.version:
            if not self.is_preloaded and entry.token is not None:
                self._preload_in_background()
            return
        record = shared_cache.read(entry.key)
        entry.version = version
        if record is None:
            return
        self.token_cache.adopt(entry, record.token, record.challenge, generation)
        if record.token is not None and record.token is entry.token and is_logged():
            summary = self._exchange(entry, None, None).trace.summary
            log_shared_token(summary, record.token, self.token_cache.clock.now())
