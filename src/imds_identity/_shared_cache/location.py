"""Selects the directory of the shared cache: a configured one, or a private one in memory."""

from __future__ import annotations

import functools
import os
import sys

from .._platform.clock import SYSTEM_CLOCK
from .._platform.environment import Environment
from .._platform.proxy_agent import is_enforcing
from .directory import Directory
from .store import SharedCache
from .watchdog import Watchdog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


OFF = "off"
_OFF_VALUES = frozenset({OFF, "0", "false", "no", "none"})
_DEFAULT_VALUES = frozenset({"", "on", "1", "true", "yes"})
_NAME = "imds-identity"
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - only a 0700 directory of this user in it is used
_SPARE_NAMES = 3


def parse_setting(setting: bool | str | os.PathLike[str] | None, variable: str) -> str | None:
    """Return `OFF`, None for the default, or an absolute path.

    Raise ValueError if ``setting`` is invalid; the message names ``variable``.
    """
    if setting is None or isinstance(setting, bool):
        return OFF if setting is False else None
    text = os.fsdecode(setting)
    word = text.strip().lower()
    if word in _DEFAULT_VALUES:
        return None
    if word in _OFF_VALUES:
        return OFF
    if not os.path.isabs(text) or "\0" in text:
        raise ValueError(f"{variable} is {text!r}: it must be a directory's absolute path, or off")
    return os.path.abspath(text)


def shared_cache_for(
    setting: bool | str | os.PathLike[str] | None = None,
    *,
    private: bool = False,
    environment: Environment | None = None,
) -> SharedCache | None:
    """Return the shared cache of a directory, one object per process; None if it is off.

    Raise ValueError for an invalid setting.

    Args:
        setting: a directory, ``off`` or False, ``on`` or True; by default ``IMDS_IDENTITY_CACHE``.
            If the VM enforces the Metadata Security Protocol when a process first uses the
            cache, it must be a directory.
        private: whether the cache is off unless ``setting`` is given.
        environment: a snapshot of the environment, if there is one.
    """
    if setting == "" or not isinstance(setting, bool | str | os.PathLike | None):
        raise ValueError(
            f"cache must be False, a directory or 'off', not {setting!r}; omit it for the default"
        )
    env = environment or Environment()
    if setting is not None:
        location = parse_setting(setting, "cache")
    elif private:
        location = OFF
    else:
        location = parse_setting(env["IMDS_IDENTITY_CACHE"], "IMDS_IDENTITY_CACHE")
    if location == OFF:
        return None
    runtime_directory = None if location else env["XDG_RUNTIME_DIR"]
    known = (location, runtime_directory)
    if known not in _shared_caches:
        # Shared tokens would reach programs that the VM's access rules deny.
        if location is None and is_enforcing():
            return None
        _shared_caches.setdefault(known, _shared_cache(location, runtime_directory))
    return _shared_caches[known]


def known_shared_caches() -> list[SharedCache]:
    """Return the shared caches that this process has used."""
    return list(_shared_caches.values())


def _shared_cache(location: str | None, runtime_directory: str | None) -> SharedCache:
    if location is not None:
        directory = Directory(lambda: [location], watchdog=Watchdog(location, SYSTEM_CLOCK))
        return SharedCache(directory, SYSTEM_CLOCK)
    paths = functools.partial(default_paths, runtime_directory)
    return SharedCache(Directory(paths, in_memory=True), SYSTEM_CLOCK)


_shared_caches: dict[tuple[str | None, str | None], SharedCache] = {}
"""By location and runtime directory."""


def default_paths(runtime_directory: str | None) -> Iterator[str]:
    """Yield the private directories that this user's processes try, in this order (Linux only).

    Every user can write to /dev/shm. If another user has created the directory there beforehand,
    all processes of this user use the next name.
    """
    if not sys.platform.startswith("linux"):
        return
    user = os.geteuid()
    # After sudo it may be another user's, who could not access the files in it.
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
