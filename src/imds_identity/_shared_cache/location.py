"""Which directory a user's processes share: the one that was named, or a private one in memory."""

from __future__ import annotations

import functools
import os
import sys

from .._platform.clock import SYSTEM_CLOCK
from .._platform.environment import Environment
from .directory import Directory
from .namespace import current_namespace
from .store import SharedCache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._platform.clock import Clock
    from .namespace import Namespace

OFF = "off"
ON = "on"
_SAYS_OFF = frozenset({OFF, "0", "false", "no", "none"})
_SAYS_DEFAULT = frozenset({"", ON, "1", "true", "yes"})
_NAME = "imds-identity"
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - in it only a 0700 directory of this user's own is used
_SPARE_NAMES = 3


def parse_setting(setting: str | os.PathLike[str] | None, variable: str) -> str | None:
    """What a setting of the cache means.

    Args:
        setting: ``off``, ``0``, ``false``, ``no`` or ``none`` in any case; ``on``, ``1``, ``true``
            or ``yes``, an empty string or None for the default; else an absolute path.
        variable: where it was set, for the message.

    Returns:
        `OFF`, None for the default, or a path.

    Raises:
        ValueError: if it is none of these.
    """
    if setting is None:
        return None
    said = os.fsdecode(setting)
    word = said.strip().lower()
    if word in _SAYS_DEFAULT:
        return None
    if word in _SAYS_OFF:
        return OFF
    if not os.path.isabs(said) or "\0" in said:
        raise ValueError(f"{variable} is {said!r}: make it a directory's absolute path, or off")
    return os.path.abspath(said)


def shared_cache_for(
    named: bool | str | os.PathLike[str] | None = None,
    *,
    private: bool = False,
    environment: Environment | None = None,
) -> SharedCache | None:
    """Where this user's processes share what they know of a machine.

    Args:
        named: a directory, ``off`` or False, ``on`` or True; by default what the environment
            says, else one in memory.
        private: whether nothing is shared unless it is ``named``.
        environment: that of the process, unless it has been read already.

    Returns:
        The one cache of that directory in this process, or None.

    Raises:
        ValueError: for a setting that is not understood.
    """
    if named is not None:
        named = _setting(named)
    env = environment or Environment()
    if named is not None:
        location = parse_setting(named, "cache")
    else:
        location = (
            OFF if private else parse_setting(env["IMDS_IDENTITY_CACHE"], "IMDS_IDENTITY_CACHE")
        )
    runtime_directory = env["XDG_RUNTIME_DIR"] or None
    return None if location == OFF else shared_cache_at(location, runtime_directory, SYSTEM_CLOCK)


def _setting(named: object) -> str | os.PathLike[str]:
    if isinstance(named, bool):
        return ON if named else OFF
    if not isinstance(named, str | os.PathLike) or named == "":
        raise ValueError(
            f"cache is False, a directory or 'off', not {named!r}; leave it out for the default"
        )
    return named


def shared_cache_at(
    location: str | None, runtime_directory: str | None, clock: Clock
) -> SharedCache:
    """The one cache of a directory in this process.

    Args:
        location: what `parse_setting` says, and not `OFF`.
        runtime_directory: what XDG_RUNTIME_DIR says.
        clock: the time.
    """
    namespace = current_namespace()
    known = (location, None if location else runtime_directory, namespace)
    if known not in _shared_caches:
        _shared_caches.setdefault(known, _machine(location, runtime_directory, clock, namespace))
    return _shared_caches[known]


def known_shared_caches() -> list[SharedCache]:
    """The caches that this process has used."""
    return list(_shared_caches.values())


def _machine(
    location: str | None, runtime_directory: str | None, clock: Clock, namespace: Namespace
) -> SharedCache:
    if location is not None:
        return SharedCache(Directory.named(location), clock, namespace)
    paths = functools.partial(default_paths, runtime_directory)
    return SharedCache(Directory(paths, in_memory=True), clock, namespace)


_shared_caches: dict[tuple[str | None, str | None, Namespace], SharedCache] = {}


def default_paths(runtime_directory: str | None) -> Iterator[str]:
    """Private directories in the order in which this user's processes try them (Linux only).

    /dev/shm is open to all: who makes our directory there beforehand, or three others, can keep us
    out of them, and all of this user's processes go on to the next.

    Args:
        runtime_directory: what XDG_RUNTIME_DIR says.
    """
    if not sys.platform.startswith("linux"):
        return
    user = os.geteuid()
    # After sudo it may be another user's, who would not get in any more.
    if runtime_directory and os.path.isabs(runtime_directory) and _owner(runtime_directory) == user:
        yield os.path.join(runtime_directory, _NAME)
    yield os.path.join(_SHARED_MEMORY, f"{_NAME}-{user}")
    for spare in range(1, _SPARE_NAMES + 1):
        yield os.path.join(_SHARED_MEMORY, f"{_NAME}-{user}-{spare}")
    yield os.path.join("/run/user", str(user), _NAME)


def _owner(directory: str) -> int | None:
    try:
        return os.stat(directory).st_uid
    except (OSError, ValueError):
        return None
