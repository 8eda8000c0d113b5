"""One identity at one source: what every face holds, and all it knows of the engine."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from .._core.failure import Failure, Unavailable
from .._core.key import key_for
from .._core.token_request import TokenRequest
from .._runtime.fork import whole
from .flight import LONGEST_EXCHANGE
from .sharing import Sharing

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager

    from .._core.identity import Identity
    from .._core.token import Token
    from .._machine.store import MachineCache
    from .._runtime.clock import Clock
    from .._sources.kinds import TokenSource
    from .._wire.channel import Expect, Sender
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
        look_again: finds the source once more when the first token is asked for; None if the one
            at hand is the one that was meant.
    """

    def __init__(
        self,
        source: TokenSource,
        identity: Identity,
        broker: Broker,
        machine: MachineCache | None,
        look_again: Callable[[], TokenSource] | None = None,
    ) -> None:
        self.source = source
        self.identity = identity
        self.broker = broker
        self._shared = machine
        self._look_again = look_again

    @property
    def _machine(self) -> MachineCache | None:
        return self._shared if self.source.is_the_machines else None

    def slot(self, resource: str) -> Slot:
        """The slot of this identity's token for ``resource``.

        The first call settles for good where tokens come from.

        Raises:
            ValueError: if the source that is found now cannot give this identity.
        """
        if self._look_again is not None:
            self.source = self._look_again()
            self._look_again = None
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
        self._catch_up(slot)
        return self.broker.get(slot, self._fetcher(slot, claims, open_sender), claims or None)

    def ask(
        self, slot: Slot, claims: str | None, open_sender: OpenSender | None, **how: Any
    ) -> Generator[Flight, None, Token]:
        """Like `token`, but who drives it does the waiting, as for `Broker.ask`.

        Args:
            slot: as for `token`.
            claims: likewise.
            open_sender: likewise.
            how: as for `Broker.launch`.

        Raises:
            Failure: when there is none to be had.
        """
        self._catch_up(slot)
        fetch = self._fetcher(slot, claims, open_sender)
        return self.broker.ask(slot, fetch, claims or None, **how)

    def _catch_up(self, slot: Slot) -> None:
        """Take over what other processes have written since."""
        stamp = self._machine.stamp(slot.key) if self._machine else None
        if self._machine and stamp is not None and stamp != slot.stamp:
            entry = self._machine.read(slot.key)
            slot.stamp = stamp
            if entry is not None:
                self.broker.adopt(slot, entry.token, entry.challenge)

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
        with whole():
            from .._machine.gate import gate_for
            from .._wire.channel import Channel
            from .._wire.sender import requests_sender
        broker, source, machine = self.broker, self.source, self._machine
        gate = gate_for(machine, source, broker.random) if machine else None
        try:
            source.check()
            if open_sender is None:  # a transport of the caller's may get where others do not
                broker.absences.check(source.endpoint, broker.clock.now())
            with (open_sender or requests_sender)(broker.clock) as send:
                channel = Channel(send, broker.clock, gate, expect, broker.random, LONGEST_EXCHANGE)
                return source.fetch(wanted, channel)
        except Failure as failure:
            failure.asked = f"{source} for {wanted.resource!r} as {self.identity}"
            is_absent = isinstance(failure, Unavailable) and failure.status is None
            if is_absent and open_sender is None and source.gives_way:
                broker.absences.note(source.endpoint, failure, broker.clock.now())
            raise
