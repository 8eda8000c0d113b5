"""One identity at one source: what every face holds, and all it knows of the engine."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from .._core.failure import Failure
from .._core.fork import whole
from .._core.key import key_for
from .._core.token_request import TokenRequest
from .._sources.detect import ARC, IMDS
from .sharing import Sharing

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from .._core.clock import Clock
    from .._core.identity import Identity
    from .._core.token import Token
    from .._machine.gate import Gate
    from .._machine.store import MachineCache
    from .._sources.detect import Source
    from .._sources.msal_hosts import MsalHost
    from .._wire.channel import Expect, Sender
    from .._wire.exchange import Steps
    from .broker import Broker
    from .flight import Fetch, Flight
    from .slot import Slot

OpenSender: TypeAlias = "Callable[[Clock], AbstractContextManager[Sender]]"


class Provider:
    """Gets tokens for one identity from one source.

    Args:
        source: where from.
        identity: whose.
        broker: shared by all that should share tokens.
        machine: shared with the other processes of this user, if there is one.
    """

    def __init__(
        self, source: Source, identity: Identity, broker: Broker, machine: MachineCache | None
    ) -> None:
        self.source = source
        self.identity = identity
        self.broker = broker
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
        held = self._catch_up(slot)
        return self.broker.get(slot, self._fetcher(slot, claims, open_sender), claims or None, held)

    def launch(
        self,
        slot: Slot,
        claims: str | None = None,
        open_sender: OpenSender | None = None,
        *,
        needs: int = 0,
        caller: object = None,
    ) -> Token | Flight:
        """Like `token`, but gives a flight where that would wait.

        Args:
            slot: as for `token`.
            claims: likewise.
            open_sender: likewise.
            needs: the thread whose event loop ``open_sender`` needs, if it needs one.
            caller: what tells the caller from others, if not its thread.

        Raises:
            Failure: when there was none to be had a moment ago.
        """
        held = self._catch_up(slot)
        return self.broker.launch(
            slot,
            self._fetcher(slot, claims, open_sender),
            claims or None,
            held,
            needs=needs,
            caller=caller,
        )

    def _catch_up(self, slot: Slot) -> Token | None:
        """Take over what other processes have written since; the token held until now."""
        held = slot.token
        stamp = self._machine.stamp(slot.key) if self._machine else None
        if self._machine and stamp is not None and stamp != slot.stamp:
            entry = self._machine.read(slot.key)
            slot.stamp = stamp
            if entry is not None:
                self.broker.adopt(slot, entry.token, entry.challenge)
        return held

    def _fetcher(self, slot: Slot, claims: str | None, open_sender: OpenSender | None) -> Fetch:
        wanted = TokenRequest(slot.key.resource, self.identity, claims or None)
        fetch = partial(self._fetch, wanted, open_sender)
        if self._machine is None:
            return fetch
        sharing = Sharing(self._machine, slot, self.broker.random)
        return partial(sharing.get, fetch, claims or None)

    def _fetch(
        self,
        wanted: TokenRequest,
        open_sender: OpenSender | None,
        expect: Expect | None = None,
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
        with whole():
            from .._wire.channel import Channel
            from .._wire.sender import requests_sender

            steps, gate = self._steps(wanted), self._gate()
        clock = self.broker.clock
        with (open_sender or requests_sender)(clock) as send:
            return Channel(send, clock, self.source.path, gate).run(steps, expect)

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
            with whole():
                from .._sources.msal_hosts import MsalHost

            self._msal_host = MsalHost(self.source, self.broker.clock, self.broker.random)
        return self._msal_host
