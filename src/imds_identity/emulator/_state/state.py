"""The state of one emulator, and the operations on it."""

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
    from .events import Events, EventSpec, ScheduledEvent
    from .fault import Fault
    from .faults import Faults
    from .limits import Limits
    from .request_log import RecordedRequest, RequestLog
    from .tokens import IssuedToken, TokenService
    from .vault import Secrets


@dataclass
class EmulatorState:
    """The state that all endpoints of one emulator share.

    Endpoints run on the server's thread, which holds the lock while it prepares a response. The
    operations here are for all other threads; they take the lock themselves.
    """

    profile: str
    clock: Clock
    machine: Machine
    resource_id: str  # its form differs between an Arc server and a VM
    identities: tuple[Identity, ...]
    resources: tuple[str, ...]  # in addition to those that every tenant knows
    identity_header: str = field(repr=False)
    versions: list[str]  # the supported api-versions, oldest first
    keys: KeyStore
    tokens: TokenService
    secrets: Secrets
    faults: Faults
    first_faults: Sequence[Fault]  # set at the start and after a reset
    limits: Limits
    events: Events
    first_events: Sequence[EventSpec]  # scheduled at every start and after a reset
    log: RequestLog
    metadata_security: str = "off"
    latency: float = 0.0  # seconds before the response to an identity request is sent
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self._set_first_faults()

    def principal(self, identity: Identity) -> Principal:
        """Return the subject of an identity's tokens."""
        resource_id = getattr(identity, "resource_id", self.resource_id)
        return Principal(
            self.machine.tenant_id, identity.client_id, identity.object_id, resource_id
        )

    def begin(self) -> None:
        """Schedule the first events, at every start."""
        with self.lock:
            self.events.clear()
            for spec in self.first_events:
                self.events.schedule(spec)

    def reset(self) -> None:
        """Remove all requests and tokens; reset events and faults to the initial ones."""
        with self.lock:
            self.log.clear()
            self.tokens.reset()
            self.limits.reset()
            self.faults.reset()
            self._set_first_faults()
            self.begin()

    def recorded_requests(self) -> list[RecordedRequest]:
        with self.lock:
            return self.log.snapshot()

    def on_request(self, listener: Callable[[RecordedRequest], object]) -> None:
        """Call ``listener`` with each request from now on."""
        with self.lock:
            self.log.listeners.append(listener)

    def set_fault(self, fault: Fault) -> int:
        with self.lock:
            return self.faults.add(fault)

    def clear_faults(self, number: int | None = None) -> None:
        with self.lock:
            self.faults.clear(number)

    def active_faults(self) -> list[tuple[int, Fault]]:
        with self.lock:
            return [(active.number, active.fault) for active in self.faults.active()]

    def issued_tokens(self) -> list[IssuedToken]:
        with self.lock:
            return list(self.tokens.issued)

    def revoke_tokens(self) -> None:
        with self.lock:
            self.tokens.revoke()

    def schedule_event(self, spec: EventSpec) -> str:
        with self.lock:
            return self.events.schedule(spec)

    def approve_event(self, event_id: str) -> None:
        """Start an event early; NoSuchEventError if there is none with this id."""
        with self.lock:
            self.events.approve([event_id])

    def cancel_event(self, event_id: str) -> None:
        with self.lock:
            self.events.cancel(event_id)

    def current_events(self) -> list[ScheduledEvent]:
        with self.lock:
            return self.events.current()

    def _set_first_faults(self) -> None:
        for fault in self.first_faults:
            self.faults.add(fault)
