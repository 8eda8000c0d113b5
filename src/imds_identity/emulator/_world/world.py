"""What all services of one emulator share."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .tokens import Principal

if TYPE_CHECKING:
    from .._clock import Clock
    from .._services.scheduled_events import Events
    from .faults import Faults
    from .identities import Identity
    from .limits import Limits
    from .machine import Machine
    from .records import RequestLog
    from .tokens import TokenService


@dataclass
class World:
    """The state of one emulator; hold the lock to read or change it.

    Attributes:
        clock: Tells the time.
        machine: What the emulated machine is.
        resource_id: Its ARM resource id, which an Arc server and a VM spell differently.
        identities: Its managed identities.
        versions: The api-versions that its region knows.
        tokens: Issues and checks tokens.
        faults: What goes wrong.
        limits: How much may be asked.
        events: What is going to happen to the machine.
        log: What was asked.
        latency: Seconds that an identity answer takes.
        lock: Serving happens on the loop's thread, everything else on the user's.
    """

    clock: Clock
    machine: Machine
    resource_id: str
    identities: tuple[Identity, ...]
    versions: list[str]
    tokens: TokenService
    faults: Faults
    limits: Limits
    events: Events
    log: RequestLog
    latency: float = 0.0
    lock: threading.RLock = field(default_factory=threading.RLock)

    def principal(self, identity: Identity) -> Principal:
        """Returns whom a token for that identity is about."""
        resource_id = getattr(identity, "resource_id", self.resource_id)
        return Principal(
            self.machine.tenant_id, identity.client_id, identity.object_id, resource_id
        )
