"""Gets tokens for granted requests: the endpoint's only link to the token cache."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from .._core.failure import Failure, Refused
from .responses import failure_response, token_response

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.identity import Identity
    from .._platform.clock import Clock
    from .._token_cache.client import TokenClient
    from .responses import GrantedRequest, HttpResponse

_MAX_CLIENTS = 64


class TokenHandler:
    """Responds to granted requests with tokens.

    ``client_for`` raises ValueError if the host cannot select the identity.
    """

    def __init__(self, client_for: Callable[[Identity], TokenClient], clock: Clock) -> None:
        self._client_for = client_for
        self._clock = clock
        self._clients: dict[Identity, TokenClient] = {}
        self._lock = threading.Lock()

    def handle(self, granted: GrantedRequest) -> HttpResponse:
        """Return the response to a granted request."""
        try:
            client = self._client(granted.identity)
            token = client.token(client.entry(granted.resource))
        except ValueError as error:
            return failure_response(Refused(str(error), status=400))
        except Failure as failure:
            return failure_response(failure)
        return token_response(granted, token, self._clock.now())

    def _client(self, identity: Identity) -> TokenClient:
        with self._lock:
            if identity not in self._clients:
                if len(self._clients) >= _MAX_CLIENTS:
                    self._clients.clear()
                self._clients[identity] = self._client_for(identity)
            return self._clients[identity]
