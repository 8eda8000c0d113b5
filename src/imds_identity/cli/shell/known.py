"""Values that this machine has seen: identities and resources, and never a token or a secret."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from ..._machine.choice import machine_cache
from ...metadata.clouds import CLOUDS, PUBLIC
from .candidates import Candidate

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._core.key import Key

_PLAIN = re.compile(r"[A-Za-z0-9/_.:@%+-]+")
_COMMON = (
    PUBLIC.resource_manager,
    f"https://{PUBLIC.key_vault_suffix}",
    "https://storage.azure.com",
    "https://graph.microsoft.com",
    "https://database.windows.net",
    "https://cognitiveservices.azure.com",
)


def known(dest: str) -> list[Candidate]:
    """Values of an argument, where this machine can tell some.

    Args:
        dest: what the parser calls the argument.
    """
    look_up = _BY_DEST.get(dest)
    return look_up() if look_up else []


def _seen(value: Callable[[Key], str]) -> list[str]:
    """What the keys say for which this user's processes share tokens."""
    machine = machine_cache()
    # A look makes no directory where there is none.
    is_there = machine is not None and os.path.isdir(machine.directory.path)
    entries = machine.entries() if machine and is_there and machine.usable() else []
    found = {value(entry.key) for entry in entries}
    # Whoever wrote an entry: it is to be no command to a shell.
    return sorted(each for each in found if _PLAIN.fullmatch(each))


def _identities(selector: str) -> list[Candidate]:
    found = _seen(lambda key: key.identity if key.selector == selector else "")
    return [Candidate(each, "has a token on this machine") for each in found]


def _resources(ending: str = "") -> list[Candidate]:
    shared = _seen(lambda key: key.resource.rstrip("/"))
    common = [each for each in _COMMON if each not in shared]
    return [
        *(Candidate(each + ending, "has a token on this machine") for each in shared),
        *(Candidate(each + ending, "") for each in common),
    ]


def _clouds() -> list[Candidate]:
    return [Candidate(cloud.name, "") for cloud in CLOUDS]


_BY_DEST: dict[str, Callable[[], list[Candidate]]] = {
    "client_id": lambda: _identities("client_id"),
    "object_id": lambda: _identities("object_id"),
    "resource_id": lambda: _identities("resource_id"),
    "resource": _resources,
    "resource_or_scope": _resources,
    "allow_resource": _resources,
    "vault_resource": _resources,
    "scope": lambda: _resources("/.default"),
    "cloud": _clouds,
}
