"""The state of one emulator, and the operations on it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from .tokens import Principal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._clock import AdjustableClock
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


class RunningSettings(NamedTuple):
    """Settings that can be changed while the emulator runs; times are in seconds."""

    limits: bool
    latency: float
    token_lifetime: int


@dataclass
class EmulatorState:
    """The state that all endpoints of one emulator share.

    Endpoints run on the server's thread, which holds the lock while it prepares a response. The
    operations here are for all other threads; they take the lock themselves.
    """

    profile: str
    clock: AdjustableClock
    events_clock: AdjustableClock  # of scheduled events; moved together with the other one
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
        self._first = self.settings()
        self._first_identities = self.identities
        self._set_first_faults()

    def settings(self) -> RunningSettings:
        """Return the settings that can be changed while the emulator runs."""
        return RunningSettings(self.limits.enabled, self.latency, self.tokens.lifetime)

    def apply(self, settings: RunningSettings) -> None:
        """Change the settings; tokens that were issued before keep their lifetime."""
        with self.lock:
            self.limits.enabled = settings.limits
            self.latency = settings.latency
            self.tokens.lifetime = settings.token_lifetime

    def set_identities(self, identities: tuple[Identity, ...]) -> None:
        """Replace the managed identities."""
        with self.lock:
            self.identities = identities

    def advance_clock(self, seconds: float) -> None:
        """Move the time of everything, forward or back."""
        with self.lock:
            self.events_clock.check(seconds)  # before the other one moves
            self.clock.advance(seconds)
            self.events_clock.advance(seconds)

    def stop_clock(self, *, stopped: bool) -> None:
        """Stop the time of everything, or let it run again."""
        with self.lock:
            self.clock.stop(stopped=stopped)
            self.events_clock.stop(stopped=stopped)

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
        """Remove all requests and tokens; reset everything else to its initial state."""
        with self.lock:
            self.log.clear()
            self.clock.reset()
            self.events_clock.reset()
            self.apply(self._first)
            self.identities = self._first_identities
            self.secrets.reset()
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
