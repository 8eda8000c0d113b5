"""One identity at one source: what every face holds, and all it knows of the engine."""

from __future__ import annotations

import functools
import random as random_module
from typing import TYPE_CHECKING, TypeAlias

from .._core.clock import SYSTEM_CLOCK
from .._core.failure import Failure
from .._core.key import key_for
from .._machine.choice import OFF, chosen, known_machines, machine_at
from .._sources.detect import ARC, IMDS, cache_setting
from .broker import Broker
from .sharing import Sharing, glance

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

    from .._core.clock import Clock
    from .._core.identity import Identity
    from .._core.token import Token
    from .._core.token_request import TokenRequest
    from .._machine.gate import Gate
    from .._machine.store import MachineCache
    from .._sources.detect import Source
    from .._sources.msal_hosts import MsalHost
    from .._wire.channel import Expect, Sender
    from .._wire.exchange import Steps
    from .broker import Slot

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
        machine: shared with the other processes of this user, if there is one.
    """

    def __init__(
        self,
        source: Source,
        identity: Identity,
        broker: Broker | None = None,
        machine: MachineCache | None = None,
    ) -> None:
        self.source = source
        self.identity = identity
        self.broker = broker or process_broker()
        # The other hosts' tokens are an app's and not a machine's.
        self._machine = machine if source.name in (IMDS, ARC) else None
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
        if token := self._glance(slot, claims):
            return token
        return self.broker.get(slot, self._fetcher(slot, claims, open_sender), claims or None)

    def launch(
        self, slot: Slot, claims: str | None = None, open_sender: OpenSender | None = None
    ) -> Token | Future[Token]:
        """Like `token`, but gives a future where that would wait."""
        if token := self._glance(slot, claims):
            return token
        return self.broker.launch(slot, self._fetcher(slot, claims, open_sender), claims or None)

    def _glance(self, slot: Slot, claims: str | None) -> Token | None:
        """What another process has left for this one, which has nothing yet: no lock, no thread."""
        if slot.token is not None or self._machine is None or claims:
            return None
        token = glance(self._machine, slot.key)
        if token is not None:
            self.broker.adopt(slot, token)
        return token

    def _fetcher(
        self, slot: Slot, claims: str | None, open_sender: OpenSender | None
    ) -> Callable[[], Token]:
        from .._core.token_request import TokenRequest

        wanted = TokenRequest(slot.key.resource, self.identity, claims)
        fetch = functools.partial(self._fetch, wanted, open_sender)
        if self._machine is None:
            return fetch
        sharing = Sharing(self._machine, slot, self.broker.random)
        return functools.partial(sharing.get, fetch, claims)

    def _fetch(
        self, wanted: TokenRequest, open_sender: OpenSender | None, expect: Expect | None = None
    ) -> Token:
        try:
            self.source.check()
            if self.source.name in (IMDS, ARC):
                return self._exchange(wanted, open_sender, expect)
            return self._host().fetch(wanted)
        except Failure as failure:
            failure.asked = f"{self.source} for {wanted.resource!r} as {self.identity}"
            raise

    def _exchange(
        self, wanted: TokenRequest, open_sender: OpenSender | None, expect: Expect | None
    ) -> Token:
        from .._wire.channel import Channel

        steps = self._steps(wanted)
        clock = self.broker.clock
        with (open_sender or _requests_sender())(clock) as send:
            return Channel(send, clock, self.source.path, self._gate()).run(steps, expect)

    def _gate(self) -> Gate | None:
        if self._machine is None:
            return None
        from .._machine.gate import gate_for

        return gate_for(self._machine, self.source, self.broker.random)

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


def machine_cache(
    named: str | os.PathLike[str] | None = None, *, private: bool = False
) -> MachineCache | None:
    """Where this user's processes share tokens.

    Args:
        named: a directory, or ``off``; by default what the environment says, else one in memory.
        private: whether nothing is shared unless it is ``named``.

    Returns:
        The one cache of that directory in this process, or None.

    Raises:
        ValueError: for a setting that is not understood.
    """
    if named == "":
        raise ValueError("cache is a directory or 'off'; leave it out for the default")
    setting, runtime_directory = cache_setting()
    if named is not None:
        choice = chosen(named, "cache")
    else:
        choice = OFF if private else chosen(setting, "IMDS_IDENTITY_CACHE")
    return None if choice == OFF else machine_at(choice, runtime_directory, SYSTEM_CLOCK)


def forget_everything() -> None:
    """Forget what this process holds, and what it shares with others."""
    process_broker().clear()
    for machine in known_machines():
        machine.clear()


def _requests_sender() -> OpenSender:
    from .._wire.sender import requests_sender

    return requests_sender
