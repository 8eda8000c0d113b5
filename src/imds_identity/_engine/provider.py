"""One identity at one source: what every face holds, and all it knows of the engine."""

from __future__ import annotations

import functools
import random as random_module
from typing import TYPE_CHECKING, TypeAlias

from .._cache.key import key_for
from .._sources.detect import ARC, IMDS
from .broker import Broker
from .clock import SYSTEM_CLOCK
from .drive import drive
from .failure import Failure
from .request import TokenRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

    from .._sources.detect import Source
    from .._sources.msal_hosts import MsalHost
    from .broker import Slot
    from .clock import Clock
    from .drive import Sender
    from .exchange import Steps
    from .identity import Identity
    from .token import Token

OpenSender: TypeAlias = "Callable[[Clock], AbstractContextManager[Sender]]"


@functools.cache
def process_broker() -> Broker:
    """The one broker of this process."""
    return Broker(SYSTEM_CLOCK, random_module.random)


class Provider:
    """Gets tokens for one identity from one source.

    Args:
        source: where from.
        identity: whose.
        broker: shared by all that should share tokens; by default the whole process.
    """

    def __init__(self, source: Source, identity: Identity, broker: Broker | None = None) -> None:
        self.source = source
        self.identity = identity
        self.broker = broker or process_broker()
        self._msal_host: MsalHost | None = None

    def slot(self, resource: str) -> Slot:
        """The slot of this identity's token for ``resource``."""
        return self.broker.slot(key_for(self.source, self.identity, resource))

    def token(
        self, slot: Slot, claims: str | None = None, open_sender: OpenSender | None = None
    ) -> Token:
        """The token of ``slot``, from memory or from the service.

        Args:
            slot: from `slot`.
            claims: the claims challenge that refused the token held until now.
            open_sender: sends in place of ``requests``.

        Raises:
            Failure: when there is none to be had.
        """
        return self.broker.get(slot, self._fetcher(slot, claims, open_sender), claims or None)

    def launch(
        self, slot: Slot, claims: str | None = None, open_sender: OpenSender | None = None
    ) -> Token | Future[Token]:
        """Like `token`, but gives a future where that would wait."""
        return self.broker.launch(slot, self._fetcher(slot, claims, open_sender), claims or None)

    def _fetcher(
        self, slot: Slot, claims: str | None, open_sender: OpenSender | None
    ) -> Callable[[], Token]:
        wanted = TokenRequest(slot.key.resource, self.identity, claims)
        return functools.partial(self._fetch, wanted, open_sender)

    def _fetch(self, wanted: TokenRequest, open_sender: OpenSender | None) -> Token:
        try:
            self.source.check()
            if self.source.name in (IMDS, ARC):
                return self._exchange(wanted, open_sender)
            return self._host().fetch(wanted)
        except Failure as failure:
            failure.asked = f"{self.source} for {wanted.resource!r} as {self.identity}"
            raise

    def _exchange(self, wanted: TokenRequest, open_sender: OpenSender | None) -> Token:
        steps = self._steps(wanted)
        clock = self.broker.clock
        with (open_sender or _requests_sender())(clock) as send:
            return drive(steps, send, clock, self.source.path)

    def _steps(self, wanted: TokenRequest) -> Steps[Token]:
        if self.source.name == ARC:
            from .._sources.arc import exchange
        else:
            from .._sources.imds import exchange
        return exchange(self.source.endpoint, wanted, self.broker.random)

    def _host(self) -> MsalHost:
        if self._msal_host is None:
            from .._sources.msal_hosts import MsalHost

            self._msal_host = MsalHost(self.source, self.broker.clock, self.broker.random)
        return self._msal_host


def _requests_sender() -> OpenSender:
    from .sender import requests_sender

    return requests_sender
