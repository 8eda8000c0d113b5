"""The state of one emulator, and everything that may be done to it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .tokens import Principal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._clock import Clock
    from .._machine.identities import Identity
    from .._machine.machine import Machine
    from .._pki.key_store import KeyStore
    from .events import Announcement, Events, ScheduledEvent
    from .fault import Fault
    from .faults import Faults
    from .limits import Limits
    from .records import RecordedRequest, RequestLog
    from .tokens import IssuedToken, TokenService


@dataclass
class World:
    """What all services of one emulator share.

    Services answer on the loop's thread and hold the lock for as long as one answer takes; the
    operations here are for every other thread, and take it themselves.

    Attributes:
        profile: the kind of host.
        clock: the time.
        machine: what the emulated machine is.
        resource_id: its ARM resource id, which an Arc server and a VM spell differently.
        identities: its managed identities.
        resources: what tokens may be had for, beside what every tenant knows.
        identity_header: App Service's ``IDENTITY_HEADER``.
        versions: the api-versions that its region knows, oldest first.
        keys: keeps keys and certificates.
        tokens: issues and checks tokens.
        secrets: the Key Vault's secrets; they may change while it serves.
        faults: what goes wrong.
        first_faults: those that are set again at a reset.
        limits: how much may be asked.
        events: what is going to happen to the machine.
        first_events: what is announced at every start and reset.
        log: what was asked.
        latency: seconds that an identity answer takes.
        lock: held to read or change any of this.
    """

    profile: str
    clock: Clock
    machine: Machine
    resource_id: str
    identities: tuple[Identity, ...]
    resources: tuple[str, ...]
    identity_header: str = field(repr=False)
    versions: list[str]
    keys: KeyStore
    tokens: TokenService
    secrets: dict[str, str] = field(repr=False)
    faults: Faults
    first_faults: Sequence[Fault]
    limits: Limits
    events: Events
    first_events: Sequence[Announcement]
    log: RequestLog
    latency: float = 0.0
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        """Set the first faults."""
        self._set_first_faults()

    def principal(self, identity: Identity) -> Principal:
        """Whom a token for an identity is about."""
        resource_id = getattr(identity, "resource_id", self.resource_id)
        return Principal(
            self.machine.tenant_id, identity.client_id, identity.object_id, resource_id
        )

    def begin(self) -> None:
        """Announce the first events, as at every start."""
        with self.lock:
            self.events.clear()
            for announcement in self.first_events:
                self.events.schedule(announcement)

    def reset(self) -> None:
        """Forget requests, tokens, events, and all faults but the first."""
        with self.lock:
            self.log.clear()
            self.tokens.forget()
            self.limits.forget()
            self.faults.restart()
            self._set_first_faults()
            self.begin()

    def recorded_requests(self) -> list[RecordedRequest]:
        """The latest requests, oldest first."""
        with self.lock:
            return self.log.snapshot()

    def on_request(self, listener: Callable[[RecordedRequest], object]) -> None:
        """Call ``listener`` with each request from now on."""
        with self.lock:
            self.log.listeners.append(listener)

    def set_fault(self, fault: Fault) -> int:
        """Set a fault, behind those already set; its number."""
        with self.lock:
            return self.faults.add(fault)

    def clear_faults(self, number: int | None = None) -> None:
        """Lift the fault of that number, or all of them."""
        with self.lock:
            self.faults.clear(number)

    def active_faults(self) -> list[tuple[int, Fault]]:
        """The faults that are set, with their numbers."""
        with self.lock:
            return [(standing.number, standing.fault) for standing in self.faults.standing()]

    def issued_tokens(self) -> list[IssuedToken]:
        """The latest tokens, oldest first."""
        with self.lock:
            return list(self.tokens.issued)

    def revoke_tokens(self) -> None:
        """Revoke every token issued so far."""
        with self.lock:
            self.tokens.revoke()

    def schedule_event(self, announcement: Announcement) -> str:
        """Announce an event; its id."""
        with self.lock:
            return self.events.schedule(announcement)

    def approve_event(self, event_id: str) -> None:
        """Start an event before its time.

        Raises:
            NoSuchEventError: if it is not there.
        """
        with self.lock:
            self.events.approve([event_id])

    def cancel_event(self, event_id: str) -> None:
        """Take an event back.

        Raises:
            NoSuchEventError: if it is not there.
        """
        with self.lock:
            self.events.cancel(event_id)

    def current_events(self) -> list[ScheduledEvent]:
        """The events that are announced or under way."""
        with self.lock:
            return self.events.current()

    def _set_first_faults(self) -> None:
        for fault in self.first_faults:
            self.faults.add(fault)
