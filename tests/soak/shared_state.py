"""Numbers that all processes of a soak see at once: one small file, mapped into each."""

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
SYSTEM = "system-assigned"

# How the service behaves.
SOUND, CALM, ROUGH, OUTAGE, GONE = range(5)
# What workers do.
RUN, QUIET = range(2)

_DOUBLE = struct.Struct("d")
_PHASE, _MACHINE, _SERVICE, _MOOD, _REVOKED = range(5)
_SIZE = _DOUBLE.size * (_REVOKED + len(RESOURCES))


def steady() -> float:
    """Seconds on the one clock that nobody sets, the same for every process here."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SharedState:
    """The numbers.

    Args:
        path: the file; made if it is not there.
    """

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
        return self._get(_PHASE) == RUN

    def set_phase(self, phase: int) -> None:
        self._set(_PHASE, phase)

    @property
    def mood(self) -> int:
        return int(self._get(_MOOD))

    def set_mood(self, mood: int) -> None:
        self._set(_MOOD, mood)

    def machine_wall(self) -> float:
        """Unix time as this machine has it, which somebody sets now and then."""
        return time.time() + self._get(_MACHINE)

    def set_machine_offset(self, seconds: float) -> None:
        self._set(_MACHINE, seconds)

    def service_wall(self) -> float:
        """Unix time as the service has it."""
        return time.time() + self._get(_SERVICE)

    def set_service_offset(self, seconds: float) -> None:
        self._set(_SERVICE, seconds)

    def revoked(self, resource: str) -> float:
        """The moment (`steady`) before which no token was minted that ``resource`` accepts."""
        return self._get(_REVOKED + RESOURCES.index(resource))

    def revoke(self, resource: str) -> None:
        # No two in one second: claims count whole ones.
        if int(steady()) > int(self.revoked(resource)):
            self._set(_REVOKED + RESOURCES.index(resource), steady())
