"""One identity at one source: what every face holds, and all it knows of the engine."""

from __future__ import annotations

import sys
from functools import partial

from .._core.failure import Failure, Unavailable
from .._core.key import key_for
from .._core.token_request import TokenRequest
from .._runtime.background import LOG_SECONDS, run_beside
from .._runtime.fork import load, whole
from .flight import LONGEST_EXCHANGE
from .manner import Notes, listens
from .sharing import Sharing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager
    from typing import Any, TypeAlias

    from .._core.identity import Identity
    from .._core.token import Token
    from .._machine.store import MachineCache
    from .._runtime.clock import Clock
    from .._sources.kinds import TokenSource
    from .._wire.channel import Expect, Sender
    from .broker import Broker
    from .flight import Fetch, Flight, Landing, Tell
    from .manner import Manner
    from .slot import Slot

_LONGEST_LOADING = 30.0

OpenSender: TypeAlias = "Callable[[Clock], AbstractContextManager[Sender]]"


class Provider:
    """Gets tokens for one identity from one source.

    Args:
        source: where from.
        identity: whose.
        broker: shared by all that should share tokens.
        machine: shared with the other processes of this user, if there is one.
        manner: how the caller wants to be served, if it matters.
        look_again: finds the source once more when the first token is asked for; None if the one
            at hand is the one that was meant.
    """

    def __init__(
        self,
        source: TokenSource,
        identity: Identity,
        broker: Broker,
        machine: MachineCache | None,
        manner: Manner | None = None,
        look_again: Callable[[], TokenSource] | None = None,
    ) -> None:
        self.source = source
        self.identity = identity
        self.broker = broker
        self._shared = machine
        self._manner = manner
        self._look_again = look_again

    @property
    def _machine(self) -> MachineCache | None:
        return self._shared if self.source.is_the_machines else None

    def slot(self, resource: str, *, cae: bool = False) -> Slot:
        """The slot of this identity's token for ``resource``.

        The first call settles for good where tokens come from.

        Args:
            resource: what the token is for.
            cae: whether the caller meets claims challenges. Most sources give all the same token,
                and have one slot for both.

        Raises:
            ValueError: if the source that is found now cannot give this identity.
        """
        look_again = self._look_again  # once: another thread may be settling it, too
        if look_again is not None:
            self.source = look_again()
            self._look_again = None
        return self.broker.slot(key_for(self.source, self.identity, resource, cae=cae))

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
        fetch, tell = self._errand(slot, claims, open_sender)
        return self.broker.get(slot, fetch, claims or None, tell)

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
        fetch, tell = self._errand(slot, claims, open_sender)
        return self.broker.ask(slot, fetch, claims or None, tell=tell, **how)

    def _catch_up(self, slot: Slot) -> None:
        """Take over what other processes have written since."""
        generation = slot.generation
        stamp = self._machine.stamp(slot.key) if self._machine else None
        if self._machine and stamp is not None and stamp != slot.stamp:
            entry = self._machine.read(slot.key)
            slot.stamp = stamp
            if entry is not None:
                self.broker.adopt(slot, entry.token, entry.challenge, generation)
            if entry is not None and entry.token is not None and entry.token is slot.token:
                self._tell_sharing(entry.token, slot.key.resource)

    def _errand(
        self, slot: Slot, claims: str | None, open_sender: OpenSender | None
    ) -> tuple[Fetch, Tell]:
        """What gets the token, and what is told of that."""
        key = slot.key
        wanted = TokenRequest(key.resource, self.identity, claims or None, bool(key.cae))
        notes = Notes()
        fetch = partial(self._fetch, wanted, open_sender, notes)
        if self._machine is not None:
            sharing = Sharing(self._machine, slot, self.broker.random)
            fetch = partial(sharing.get, fetch, claims or None)
        return fetch, partial(self._tell, wanted.resource, notes)

    def _tell_sharing(self, token: Token, resource: str) -> None:
        if listens():
            tell = load("imds_identity._engine.telling").tell_sharing
            now = self.broker.clock.now()
            run_beside(partial(tell, self._asked(resource), token, now), LOG_SECONDS)

    def _tell(self, resource: str, notes: Notes, landing: Landing) -> None:
        if (self._manner is not None and self._manner.on_event is not None) or listens():
            telling = load("imds_identity._engine.telling")
            telling.tell_landing(self.source, self._asked(resource), self._manner, notes, landing)

    def _asked(self, resource: str) -> str:
        return f"{self.source} for {resource!r} as {self.identity}"

    def _fetch(
        self,
        wanted: TokenRequest,
        open_sender: OpenSender | None,
        notes: Notes,
        expect: Expect | None = None,
    ) -> Token:
        notes.asked = True
        if expect is not None and "imds_identity._wire.sender" not in sys.modules:
            # On a machine where many programs start at once, this takes longer than a lease's
            # first term.
            expect(_LONGEST_LOADING)
        with whole():
            from .._machine.gate import gate_for
            from .._wire.channel import Channel
            from .._wire.patience import AS_USUAL
            from .._wire.sender import bounded_sender
        broker, source, machine, manner = self.broker, self.source, self._machine, self._manner
        # Where there may be no service, there is none whose limits would be worth waiting for.
        limited = None if source.gives_way else machine
        gate = gate_for(limited, source, broker.random) if limited else None
        goes_its_own_way = manner is not None and manner.has_transport
        try:
            source.check()
            if not goes_its_own_way:
                broker.absences.check(source.endpoint, broker.clock.now())
            with (open_sender or bounded_sender)(broker.clock) as send:
                sends = notes.noting(send) if manner and manner.logs_requests else send
                patience = (manner and manner.patience) or AS_USUAL
                channel = Channel(
                    sends, broker.clock, gate, expect, broker.random, LONGEST_EXCHANGE, patience
                )
                token = source.fetch(wanted, channel)
            return token.as_answer(broker.clock.now()) if wanted.claims else token
        except Failure as failure:
            failure.asked = self._asked(wanted.resource)
            is_absent = isinstance(failure, Unavailable) and failure.status is None
            if is_absent and not goes_its_own_way and source.gives_way:
                broker.absences.note(source.endpoint, failure, broker.clock.now())
            raise
