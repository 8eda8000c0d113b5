"""Builds the state of an emulator as its settings want it."""

from __future__ import annotations

import functools
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from ._clock import SystemClock
from ._machine.machine import Machine
from ._machine.versions import NEWEST_ON_STACK_HUB, supported_versions
from ._pki.key_store import KeyStore
from ._pki.signing_key import signing_key
from ._state.events import Announcement, Events
from ._state.faults import Faults
from ._state.limits import Limits
from ._state.recording import replayed
from ._state.records import RequestLog
from ._state.state import World
from ._state.tokens import TokenService

if TYPE_CHECKING:
    from ._settings import Settings
    from ._state.fault import Fault

_LIMITED_LATENCY = 0.01
_VM_TYPE = "Microsoft.Compute/virtualMachines"
_ARC_TYPE = "Microsoft.HybridCompute/machines"


def world_of(settings: Settings) -> World:
    """The state that an emulator begins with."""
    clock = settings.clock or SystemClock()
    machine = settings.machine or Machine()
    newest = settings.newest_version
    if newest is None and settings.profile == "stack-hub":
        newest = NEWEST_ON_STACK_HUB
    latency = settings.latency
    if latency is None:
        latency = _LIMITED_LATENCY if settings.limits else 0.0
    keys = KeyStore(Path(settings.state).absolute() if settings.state is not None else None)
    return World(
        profile=settings.profile,
        clock=clock,
        machine=machine,
        resource_id=machine.resource_id(_ARC_TYPE if settings.profile == "arc" else _VM_TYPE),
        identities=tuple(settings.identities),
        resources=tuple(settings.resources),
        identity_header=settings.identity_header or uuid.uuid4().hex,
        versions=supported_versions(newest),
        keys=keys,
        tokens=TokenService(
            clock, settings.token_lifetime, functools.cache(lambda: signing_key(keys))
        ),
        secrets=dict(settings.secrets),
        faults=Faults(clock, settings.seed),
        first_faults=_first_faults(settings),
        limits=Limits(clock, enabled=settings.limits),
        events=Events(settings.events_clock or clock, machine.name),
        first_events=[Announcement(**event) for event in settings.events],
        log=RequestLog(settings.log_size),
        latency=latency,
    )


def _first_faults(settings: Settings) -> tuple[Fault, ...]:
    recorded = () if settings.replay is None else replayed(settings.replay)
    return (*settings.faults, *recorded)
