"""The token client of credentials and commands: one identity at one source."""

from __future__ import annotations

import functools

from .._core.claims import issued_after
from .._core.freshness import State, decide
from .._core.key import key_for
from .._core.token_request import TokenRequest
from .._platform.imports import run_imports
from .._platform.log import is_logged
from .._platform.threads import start_thread, wait_before_uwsgi_fork
from .._shared_cache.namespace import other_network
from .cache import TokenCache
from .fetch import Fetch
from .flight import LONGEST_FETCH
from .notifications import log_shared_token
from .token_exchange import TokenExchange, preload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from .._core.identity import Identity
    from .._core.key import Key
    from .._core.token import Token
    from .._shared_cache.store import SharedCache
    from .._sources.host import TokenSource
    from .entry import CacheEntry
    from .flight import Flight
    from .options import CallOptions, FetchTrace
    from .token_exchange import OpenSender


_MOST_NETWORKS = 16
"""Other network namespaces whose tokens are kept."""


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
        self.source: TokenSource = source
        self.identity = identity
        self.token_cache = token_cache
        self.call_options = call_options
        self.is_preloaded: bool = False
        self._configured_cache = shared_cache
        self._redetect = redetect

    @property
    def shared_cache(self) -> SharedCache | None:
        """The shared cache; None if tokens are not shared, as on app platforms."""
        return self._configured_cache if self.source.is_shared else None

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
        """Import what a refresh needs now: an upgrade may replace the modules later."""
        self.is_preloaded = True
        try:
            start_thread(self._try_preload)
        except RuntimeError:
            self.is_preloaded = False

    def _try_preload(self) -> None:
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

        Raise ValueError if the source that is found now does not support this identity.

        With ``cae``, the caller handles claims challenges. Most sources issue the same token in
        both cases, and have one entry for both.
        """
        redetect = self._redetect  # read once: another thread may be doing the same
        if redetect is not None:
            self.source = redetect()
            if self.is_preloaded:
                self._try_preload()
            self._redetect = None
        token_cache = _in_network(self.token_cache, other_network())
        return token_cache.entry(key_for(self.source, self.identity, resource, cae=cae))

    def with_source(self, source: TokenSource, identity: Identity) -> TokenClient:
        """Return a client with the same caches and options for another source."""
        return TokenClient(
            source, identity, self.token_cache, self._configured_cache, self.call_options
        )

    def key(self, resource: str) -> Key:
        """Return the cache key of the token for ``resource``."""
        return self.entry(resource).key

    def token_for(self, resource: str, open_sender: OpenSender) -> Token:
        """Like `token`, for a resource."""
        return self.token(self.entry(resource), None, open_sender)

    def token(
        self, entry: CacheEntry, claims: str | None = None, open_sender: OpenSender | None = None
    ) -> Token:
        """Return the token of ``entry``, from memory, from another process or from the service.

        Raise Failure if no token is available.
        """
        exchange, fetch, shared_tokens = self._fetch(entry, claims, open_sender, may_wait=True)
        token_cache = _in_network(self.token_cache, entry.network)
        # The flight may hang, or the lease that it waits for may belong to a stopped process.
        look = functools.partial(shared_tokens.look, entry) if shared_tokens else None
        seconds = self._queue_seconds
        try:
            return token_cache.get(entry, fetch, claims, exchange.notify, look, seconds)
        finally:
            wait_before_uwsgi_fork()

    def fresh_token(self, entry: CacheEntry) -> Token:
        """Request a new token for ``entry``, although this or another process has one.

        Raise Failure if no token is available.
        """
        # Services skip their caches after a claims challenge only. Another process's token could
        # answer it: the service's clock may be ahead, or that process has the same claims.
        claims = issued_after(self.token_cache.clock.wall(), entry.token)
        exchange, fetch, _ = self._fetch(entry, claims, None, may_wait=False)
        fetch.is_fresh = True
        return _in_network(self.token_cache, entry.network).get(
            entry, fetch, claims, exchange.notify, queue_seconds=self._queue_seconds
        )

    def flights(
        self,
        entry: CacheEntry,
        claims: str | None,
        open_sender: OpenSender | None,
        **options: object,
    ) -> Generator[Flight, None, Token]:
        """Like `token`, but the caller waits for each flight, as for `TokenCache.flights`.

        The calling thread, which may run an event loop, does not access files.
        """
        exchange, fetch, shared_tokens = self._fetch(entry, claims, open_sender, may_wait=False)
        token_cache = _in_network(self.token_cache, entry.network)
        look = functools.partial(shared_tokens.adopt_soon, entry) if shared_tokens else None
        options["on_result"] = exchange.notify
        return token_cache.flights(entry, fetch, claims, look, self._queue_seconds, **options)

    def _fetch(
        self,
        entry: CacheEntry,
        claims: str | None,
        open_sender: OpenSender | None,
        *,
        may_wait: bool,
    ) -> tuple[TokenExchange, Fetch, _SharedTokens | None]:
        """Return a fetch of the token, after looking for another process's token."""
        if not self.is_preloaded and entry.token is not None:
            self._preload_in_background()
        token_cache = _in_network(self.token_cache, entry.network)
        shared_cache = self.shared_cache and self.shared_cache.in_network(entry.network)
        key = entry.key
        exchange = TokenExchange(
            self.source,
            TokenRequest(
                key.resource, self.identity, claims, bool(key.cae), entry.token if claims else None
            ),
            token_cache,
            shared_cache,
            self.call_options,
            open_sender,
            None if self.is_preloaded else self.preload,
        )
        fetch = Fetch(entry, claims, exchange, shared_cache, token_cache.random)
        if shared_cache is None:
            return exchange, fetch, None
        shared_tokens = _SharedTokens(shared_cache, token_cache, exchange.trace)
        fetch.looks_first = shared_tokens.look_up(entry, claims, may_wait=may_wait)
        return exchange, fetch, shared_tokens


class _SharedTokens:
    """The records of a shared cache, as a source of tokens for a token cache.

    ``trace`` describes the request in log messages.
    """

    def __init__(
        self, shared_cache: SharedCache, token_cache: TokenCache, trace: FetchTrace
    ) -> None:
        self._shared_cache = shared_cache
        self._token_cache = token_cache
        self._trace = trace

    def look_up(self, entry: CacheEntry, claims: str | None, *, may_wait: bool) -> bool:
        """Adopt another process's token; return whether the fetch must do that instead.

        The caller waits for files only if ``may_wait``, and not for a directory that may hang: many
        callers at once would each need a thread.
        """
        is_valid = decide(entry.token, self._token_cache.clock.now()) is not State.EXPIRED
        if may_wait and not self._shared_cache.directory.may_hang:
            self.adopt(entry)
        elif is_valid and not claims:
            self.adopt_soon(entry)
        else:
            return True
        return False

    def look(self, entry: CacheEntry) -> None:
        """Call `adopt`, in the background if the directory may hang."""
        if self._shared_cache.directory.may_hang:
            self.adopt_soon(entry)
        else:
            self.adopt(entry)

    def adopt_soon(self, entry: CacheEntry) -> None:
        """Call `adopt` in the background."""
        self._token_cache.checks.add(entry.key, lambda: self.adopt(entry))

    def adopt(self, entry: CacheEntry) -> None:
        """Adopt the record that another process has written since the last call."""
        generation, version = entry.generation, self._shared_cache.version(entry.key)
        if version is None or version == entry.version:
            return
        record = self._shared_cache.read(entry.key)
        entry.version = version
        if record is None:
            return
        self._token_cache.adopt(entry, record.token, record.challenge, generation)
        if record.token is not None and record.token is entry.token and is_logged():
            log_shared_token(self._trace.summary, record.token, self._token_cache.clock.now())


def _in_network(token_cache: TokenCache, network: str) -> TokenCache:
    """Return the token cache for a network namespace of `other_network`."""
    if not network:
        return token_cache
    other_networks = token_cache.other_networks
    found = other_networks.get(network)
    if found is None:
        # A hit does not check the namespace, so a process in several namespaces must not have hits.
        token_cache.disable_hits()
        for oldest in list(other_networks)[: 1 - _MOST_NETWORKS]:
            other_networks.pop(oldest, None)
        new = TokenCache(token_cache.clock, token_cache.random, token_cache.start)
        new.network = network
        new.disable_hits()
        found = other_networks.setdefault(network, new)
    return found
