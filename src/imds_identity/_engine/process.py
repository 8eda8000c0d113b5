"""What a process has one of: the broker, and the cache of each directory."""

from __future__ import annotations

import functools
import os
import random
from typing import TYPE_CHECKING

from .._core.clock import SYSTEM_CLOCK
from .._core.identity import choose
from .._machine.directory import OFF, default_directory
from .._machine.store import MachineCache
from .._sources.detect import cache_setting, detect
from .broker import Broker
from .provider import Provider

if TYPE_CHECKING:
    from collections.abc import Mapping


@functools.cache
def process_broker() -> Broker:
    """The one broker of this process."""
    return Broker(SYSTEM_CLOCK, random.random)


def provider_for(
    *,
    client_id: str | None = None,
    object_id: str | None = None,
    resource_id: str | None = None,
    identity_config: Mapping[str, str] | None = None,
    source: str | None = None,
    arc_tokens_directory: str | None = None,
    cache: str | os.PathLike[str] | None = None,
    private: bool = False,
    broker: Broker | None = None,
) -> Provider:
    """What gets tokens, for a face or a command with these settings.

    Args:
        client_id: selects a user-assigned identity, like the next three.
        object_id: likewise.
        resource_id: likewise.
        identity_config: likewise, as azure-identity takes it.
        source: ``imds`` or ``arc``, in place of what is detected.
        arc_tokens_directory: where an Arc agent keeps its key files, if elsewhere.
        cache: the directory that processes share, or ``off``.
        private: whether nothing is shared with other processes unless ``cache`` names a directory.
        broker: in place of the one of this process.

    Raises:
        ValueError: for a setting that is not understood.
    """
    identity = choose(
        client_id=client_id,
        object_id=object_id,
        resource_id=resource_id,
        identity_config=identity_config,
    )
    where = detect(source, tokens_directory=arc_tokens_directory)
    machine = machine_cache(cache, private=private or broker is not None)
    return Provider(where, identity, broker or process_broker(), machine)


def machine_cache(
    named: str | os.PathLike[str] | None = None, *, private: bool = False
) -> MachineCache | None:
    """Where this user's processes share tokens.

    Args:
        named: a directory, or ``off``; by default what the environment says, else one in memory.
        private: whether nothing is shared unless it is ``named``.

    Returns:
        The one cache of that directory in this process, or None.

    Raises:
        ValueError: if an empty name is given.
    """
    if named is not None and not os.fspath(named):
        raise ValueError("cache is a directory or 'off'; leave it out for the default")
    setting, runtime_directory = cache_setting()
    directory = os.fspath(named) if named is not None else None if private else setting
    if directory is None and not private:
        directory = default_directory(runtime_directory)
    if directory is None or directory == OFF:
        return None
    path = os.path.abspath(directory)
    return _machines.setdefault(path, MachineCache(path, SYSTEM_CLOCK))


_machines: dict[str, MachineCache] = {}


def forget_everything() -> None:
    """Forget what this process holds, and what it shares with others."""
    process_broker().clear()
    machine_cache()  # a process that has asked for nothing yet has not looked where it is
    for machine in list(_machines.values()):
        machine.clear()
