"""Builds the state of an emulator from its settings."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from ._clock import AdjustableClock, SystemClock
from ._machine.machine import Machine
from ._machine.versions import NEWEST_ON_STACK_HUB, supported_versions
from ._pki.key_store import KeyStore
from ._pki.signing_key import signing_key
from ._state.events import Events, EventSpec
from ._state.faults import Faults
from ._state.limits import Limits
from ._state.recording import load_faults
from ._state.request_log import RequestLog
from ._state.state import EmulatorState
from ._state.tokens import TokenService
from ._state.vault import Secrets

if TYPE_CHECKING:
    from ._settings import Settings

_LATENCY_WITH_LIMITS = 0.01
_VM_TYPE = "Microsoft.Compute/virtualMachines"
_TYPES = {
    "aci": "Microsoft.ContainerInstance/containerGroups",
    "app-service": "Microsoft.Web/sites",
    "arc": "Microsoft.HybridCompute/machines",
    "container-apps": "Microsoft.App/containerApps",
    "functions": "Microsoft.Web/sites",
}


def build_state(settings: Settings) -> EmulatorState:
    """Return the initial state of an emulator."""
    clock = AdjustableClock(settings.clock or SystemClock())
    events_clock = AdjustableClock(settings.events_clock or settings.clock or SystemClock())
    machine = settings.machine or Machine()
    newest = settings.newest_version
    if newest is None and settings.profile == "stack-hub":
        newest = NEWEST_ON_STACK_HUB
    latency = settings.latency
    if latency is None:
        latency = _LATENCY_WITH_LIMITS if settings.limits else 0.0
    keys = KeyStore(Path(settings.state).absolute() if settings.state is not None else None)
    recorded = () if settings.replay is None else load_faults(settings.replay)
    return EmulatorState(
        profile=settings.profile,
        clock=clock,
        events_clock=events_clock,
        machine=machine,
        resource_id=machine.resource_id(_TYPES.get(settings.profile, _VM_TYPE)),
        identities=tuple(settings.identities),
        resources=tuple(settings.resources),
        identity_header=settings.identity_header or "",
        versions=supported_versions(newest),
        keys=keys,
        tokens=TokenService(
            clock,
            settings.token_lifetime,
            functools.cache(lambda: signing_key(keys, settings.seed)),
            settings.seed,
        ),
        secrets=Secrets(clock, settings.secrets),
        faults=Faults(clock, settings.seed),
        first_faults=(*settings.faults, *recorded),
        limits=Limits(clock, enabled=settings.limits),
        events=Events(events_clock, machine.name),
        first_events=[EventSpec(**event) for event in settings.events],
        log=RequestLog(settings.log_size),
        metadata_security=settings.metadata_security,
        latency=latency,
    )
