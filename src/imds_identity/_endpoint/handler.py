"""Gets tokens for granted requests: the endpoint's only link to the token cache."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from .._core.failure import Failure, Refused
from .responses import failure_response, token_response

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.identity import Identity
    from .._core.token import Token
    from .._platform.clock import Clock
    from .._token_cache.client import TokenClient
    from .._token_cache.entry import CacheEntry
    from .responses import GrantedRequest, HttpResponse

_MAX_CLIENTS = 64
_MAX_HITS = 256


class _Hit(NamedTuple):
    """A response that is sent again until ``until`` (``Clock.tick``), while its token is current.

    As `CacheEntry.hit_until`, it lasts for a second at most: another process may have a new token.
    """

    response: HttpResponse
    until: float
    entry: CacheEntry
    token: Token


class TokenHandler:
    """Responds to granted requests with tokens.

    ``client_for`` raises ValueError if the host cannot select the identity.
    """

    def __init__(self, client_for: Callable[[Identity], TokenClient], clock: Clock) -> None:
        self._client_for = client_for
        self._clock = clock
        self._clients: dict[Identity, TokenClient] = {}
        self._hits: dict[GrantedRequest, _Hit] = {}
        self._lock = threading.Lock()

    def handle(self, granted: GrantedRequest) -> HttpResponse:
        """Return the response to a granted request."""
        try:
            client = self._client(granted.identity)
            entry = client.entry(granted.resource)
            token = client.token(entry)
        except ValueError as error:
            return failure_response(Refused(str(error), status=400))
        except Failure as failure:
            return failure_response(failure)
        until = client.token_cache.hit_until(token)
        response = token_response(granted, token, self._clock.now())
        if len(self._hits) >= _MAX_HITS:
            self._hits.clear()
        self._hits[granted] = _Hit(response, until, entry, token)
        return response

    def cached(self, granted: GrantedRequest) -> HttpResponse | None:
        """Return a recent response without waiting; None if only `handle` can respond."""
        hit = self._hits.get(granted)
        is_current = hit and hit.token is hit.entry.token and self._clock.tick() < hit.until
        return hit.response if hit and is_current else None

    def _client(self, identity: Identity) -> TokenClient:
        with self._lock:
            if identity not in self._clients:
                if len(self._clients) >= _MAX_CLIENTS:
                    self._clients.clear()
                self._clients[identity] = self._client_for(identity)
            return self._clients[identity]
