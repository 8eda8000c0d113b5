"""Where granted requests are served: what the endpoint knows of the engine."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from .._core.failure import Failure, Refused
from .responses import failed, granted

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.identity import Identity
    from .._platform.clock import Clock
    from .._token_cache.client import TokenClient
    from .responses import Answer, Wanted

_MOST_IDENTITIES = 64


class Desk:
    """Gives tokens.

    Args:
        client_of: makes what gets an identity's tokens; a ValueError says that there are none.
        clock: tells what is left of a token.
    """

    def __init__(self, client_of: Callable[[Identity], TokenClient], clock: Clock) -> None:
        self._provider_of = client_of
        self._clock = clock
        self._clients: dict[Identity, TokenClient] = {}
        self._lock = threading.Lock()

    def give(self, wanted: Wanted) -> Answer:
        """The answer to a request that is granted."""
        try:
            client = self._client(wanted.identity)
            token = client.token(client.entry(wanted.resource))
        except ValueError as error:
            return failed(Refused(str(error), status=400))
        except Failure as failure:
            return failed(failure)
        return granted(wanted, token, self._clock.now())

    def _client(self, identity: Identity) -> TokenClient:
        with self._lock:
            if identity not in self._clients:
                if len(self._clients) >= _MOST_IDENTITIES:
                    self._clients.clear()
                self._clients[identity] = self._provider_of(identity)
            return self._clients[identity]
