"""An emulator of the services that managed-identity clients use.

It serves the token and metadata endpoints of an Azure VM (IMDS), an Azure Arc server (HIMDS), Azure
Stack Hub or App Service over real sockets, can inject faults, and has a Key Vault that verifies
tokens.

    from imds_identity.emulator import Emulator

    with Emulator() as emulator:
        os.environ.update(emulator.environment())
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._cli.config import ConfigError, load_config
    from ._cli.serve import serve
    from ._clock import Clock, ManualClock, ScaledClock, SystemClock
    from ._container.container import EmulatorContainer
    from ._emulator import Emulator
    from ._machine.identities import (
        DEFAULT_IDENTITIES,
        DEFAULT_SYSTEM_ASSIGNED,
        DEFAULT_USER_ASSIGNED,
        Identity,
        SystemAssigned,
        UserAssigned,
    )
    from ._machine.machine import Machine
    from ._running import KeyVault
    from ._state.events import ScheduledEvent
    from ._state.fault import Fault
    from ._state.request_log import RecordedRequest

__all__ = [
    "DEFAULT_IDENTITIES", "DEFAULT_SYSTEM_ASSIGNED", "DEFAULT_USER_ASSIGNED", "Clock",
    "ConfigError", "Emulator", "EmulatorContainer", "Fault", "Identity", "KeyVault", "Machine",
    "ManualClock", "RecordedRequest", "ScaledClock", "ScheduledEvent", "SystemAssigned",
    "SystemClock", "UserAssigned", "load_config", "serve",
]  # fmt: skip

# Every pytest run loads this package for its plugin, so names are imported at their first use.
_NAMES = {
    "_clock": ("Clock", "ManualClock", "ScaledClock", "SystemClock"),
    "_cli.config": ("ConfigError", "load_config"),
    "_cli.serve": ("serve",),
    "_container.container": ("EmulatorContainer",),
    "_emulator": ("Emulator",),
    "_machine.identities": (
        "DEFAULT_IDENTITIES", "DEFAULT_SYSTEM_ASSIGNED", "DEFAULT_USER_ASSIGNED",
        "Identity", "SystemAssigned", "UserAssigned",
    ),
    "_machine.machine": ("Machine",),
    "_running": ("KeyVault",),
    "_state.events": ("ScheduledEvent",),
    "_state.fault": ("Fault",),
    "_state.request_log": ("RecordedRequest",),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}

_TOML = "tomllib" if sys.version_info >= (3, 11) else "tomli"
_REQUIRED = ("aiohttp", "cryptography", "jinja2", "jwt", _TOML)


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    _check_extra()
    return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)


def _check_extra() -> None:
    from importlib.util import find_spec

    for required in _REQUIRED:
        if find_spec(required) is None:
            raise ModuleNotFoundError(
                f"The emulator needs {required}, which is not installed. "
                "Install it with: pip install 'imds-identity[emulator]'",
                name=required,
            )


def __dir__() -> list[str]:
    return sorted(__all__)
