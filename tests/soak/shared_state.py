"""Numbers that all processes of a soak read: one small file, mapped into each process."""

from __future__ import annotations

import mmap
import os
import struct
import time

RESOURCES = tuple(f"https://resource-{number}.example" for number in range(5))
CLIENT_ID = "11111111-2222-3333-4444-555555555555"
OBJECT_ID = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
RESOURCE_ID = (
    "/subscriptions/0/resourcegroups/g/providers/"
    "Microsoft.ManagedIdentity/userAssignedIdentities/soak"
)
SYSTEM_ASSIGNED = "system-assigned"

# Modes of the service.
HEALTHY, MOSTLY_HEALTHY, FLAKY, OUTAGE, DOWN = range(5)
# Phases of the soak.
RUNNING, DRAINING = range(2)

_DOUBLE = struct.Struct("d")
_PHASE, _MACHINE, _SERVICE, _MODE, _REVOKED = range(5)
_SIZE = _DOUBLE.size * (_REVOKED + len(RESOURCES))


def monotonic() -> float:
    """Return seconds of the clock that no fault changes; all processes here share it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SharedState:
    """The shared numbers; the file at ``path`` is created if it is missing."""

    def __init__(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(descriptor, _SIZE)
        self._memory = mmap.mmap(descriptor, _SIZE)
        os.close(descriptor)

    def _get(self, index: int) -> float:
        number: float = _DOUBLE.unpack_from(self._memory, index * _DOUBLE.size)[0]
        return number

    def _set(self, index: int, number: float) -> None:
        _DOUBLE.pack_into(self._memory, index * _DOUBLE.size, number)

    @property
    def running(self) -> bool:
        return self._get(_PHASE) == RUNNING

    def set_phase(self, phase: int) -> None:
        self._set(_PHASE, phase)

    @property
    def service_mode(self) -> int:
        return int(self._get(_MODE))

    def set_service_mode(self, mode: int) -> None:
        self._set(_MODE, mode)

    def machine_time(self) -> float:
        """Return the machine's Unix time, which a fault changes now and then."""
        return time.time() + self._get(_MACHINE)

    def set_machine_offset(self, seconds: float) -> None:
        self._set(_MACHINE, seconds)

    def service_time(self) -> float:
        """Return the service's Unix time."""
        return time.time() + self._get(_SERVICE)

    def set_service_offset(self, seconds: float) -> None:
        self._set(_SERVICE, seconds)

    def revoked_at(self, resource: str) -> float:
        """Return when (`monotonic`) the tokens for ``resource`` were last revoked."""
        return self._get(_REVOKED + RESOURCES.index(resource))

    def revoke(self, resource: str) -> None:
        # At most one revocation per second: the times in claims are whole seconds.
        if int(monotonic()) > int(self.revoked_at(resource)):
            self._set(_REVOKED + RESOURCES.index(resource), monotonic())
