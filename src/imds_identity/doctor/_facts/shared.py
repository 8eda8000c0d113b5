"""The shared cache, looked at and not made."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

from ..._core.claims import claims_in
from ..._core.failure import sanitize
from ..._core.identity import Identity
from ..._shared_cache.location import default_paths, parse_setting, shared_cache_for
from ..._shared_cache.mounts import current_mounts
from ..._shared_cache.rate_limit import rate_limiter_for
from .facts import Shared, SharedToken

if TYPE_CHECKING:
    from ..._platform.environment import Environment
    from ..._shared_cache.record import Record
    from ..._shared_cache.store import SharedCache
    from ..._sources.sources import TokenSource


def shared_of(
    named: bool | str | os.PathLike[str] | None, source: TokenSource, environment: Environment
) -> Shared:
    """What this user's processes share.

    Args:
        named: the directory that the caller names, or ``off``.
        source: whose pause to look for.
        environment: the variables.

    Raises:
        ValueError: for a setting that is not understood.
    """
    machine = shared_cache_for(named, environment=environment)
    if machine is None:
        return Shared(is_off=True)
    path, problem = _used(machine, named, environment)
    if problem or not os.path.isdir(path):
        return Shared(path=path, problem=problem)
    return _content(path, machine, source)


def _used(
    machine: SharedCache, named: bool | str | os.PathLike[str] | None, environment: Environment
) -> tuple[str, str]:
    """The directory that is used, or would be; else the first one, and why it is not."""
    paths = [machine.directory.path]
    setting = environment["IMDS_IDENTITY_CACHE"] if named is None else named
    if (
        isinstance(setting, bool) or parse_setting(setting, "cache") is None
    ):  # False shares nothing at all
        here = current_mounts()
        places = default_paths(environment["XDG_RUNTIME_DIR"] or None)
        paths = [path for path in places if here.in_memory(os.path.dirname(path))] or [""]
    judged = [(path, directory_problem(path)) for path in paths]
    return next((sound for sound in judged if not sound[1]), judged[0])


def directory_problem(path: str) -> str:
    """Why a directory is not used; empty if it is, or would be made when it is needed."""
    if not path:
        return "there is no place in memory for it here"
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return error.strerror or str(error)
    if not stat.S_ISDIR(status.st_mode):
        return "it is no directory"
    if sys.platform == "win32":
        return _access_problem(path)
    if status.st_uid != os.geteuid():
        return f"it belongs to user {status.st_uid}, and this process is user {os.geteuid()}"
    if stat.S_IMODE(status.st_mode) & 0o077:
        return f"others may enter it: its mode is {stat.S_IMODE(status.st_mode):o}"
    return ""


def _access_problem(path: str) -> str:
    from ..._platform.windows import other_readers

    try:
        found = other_readers(path)
    except OSError as error:
        return error.strerror or str(error)
    return f"others may enter it: {', '.join(found)}" if found else ""


def _content(path: str, machine: SharedCache, source: TokenSource) -> Shared:
    records = machine.records()
    now = machine.clock.now()
    rate_limiter = rate_limiter_for(machine, source, _middle)
    return Shared(
        path=path,
        tokens=tuple(_token(entry, now) for entry in records if entry.token),
        failures=sum(entry.token is None for entry in records),
        paused_seconds=rate_limiter.remaining_pause(),
    )


def _token(entry: Record, now: float) -> SharedToken:
    claims = claims_in(entry.token.value) if entry.token else {}
    key = entry.key
    return SharedToken(
        sanitize(key.resource),
        sanitize(key.endpoint),
        sanitize(str(Identity(key.selector, key.identity))),
        sanitize(str(claims.get("oid", ""))),
        entry.token.expires_at - now if entry.token else 0.0,
    )


def _middle() -> float:
    return 0.5
