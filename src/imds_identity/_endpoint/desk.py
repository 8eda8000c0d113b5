"""Where granted requests are served: what the endpoint knows of the engine."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from .._core.failure import Failure, Refused
from .answers import failed, granted

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.identity import Identity
    from .._engine.provider import Provider
    from .._runtime.clock import Clock
    from .answers import Answer, Wanted

_MOST_IDENTITIES = 64


class Desk:
    """Gives tokens.

    Args:
        provider_of: makes what gets an identity's tokens; a ValueError says that there are none.
        clock: tells what is left of a token.
    """

    def __init__(self, provider_of: Callable[[Identity], Provider], clock: Clock) -> None:
        self._provider_of = provider_of
        self._clock = clock
        self._providers: dict[Identity, Provider] = {}
        self._lock = threading.Lock()

    def give(self, wanted: Wanted) -> Answer:
        """The answer to a request that is granted."""
        try:
            provider = self._provider(wanted.identity)
            token = provider.token(provider.slot(wanted.resource))
        except ValueError as error:
            return failed(Refused(str(error), status=400))
        except Failure as failure:
            return failed(failure)
        return granted(wanted, token, self._clock.now())

    def _provider(self, identity: Identity) -> Provider:
        with self._lock:
            if identity not in self._providers:
                if len(self._providers) >= _MOST_IDENTITIES:
                    self._providers.clear()
                self._providers[identity] = self._provider_of(identity)
            return self._providers[identity]
