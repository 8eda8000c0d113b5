"""The shared token cache, read without creating it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from ..._core.claims import claims_in
from ..._core.failure import sanitize
from ..._core.identity import Identity
from ..._platform.files import access_problem
from ..._shared_cache.location import default_paths, parse_setting, shared_cache_for
from ..._shared_cache.mounts import current_mounts
from ..._shared_cache.open_directory import NoUsableDirectory
from ..._shared_cache.rate_limit import rate_limiter_for
from .facts import CachedToken, CacheState
from .service_probe import no_jitter

if TYPE_CHECKING:
    from ..._platform.environment import Environment
    from ..._shared_cache.record import Record
    from ..._shared_cache.store import SharedCache
    from ..._sources.host import TokenSource


def gather_cache(
    setting: bool | str | os.PathLike[str] | None, source: TokenSource, environment: Environment
) -> CacheState:
    """Return the state of the shared token cache."""
    shared_cache = shared_cache_for(setting, environment=environment)
    if shared_cache is None:
        return CacheState(is_off=True)
    path, problem = _choose_directory(shared_cache, setting, environment)
    if problem or not os.path.isdir(path):
        return CacheState(
            path=path, problem=problem, is_own=bool(problem) and _is_own(shared_cache, path)
        )
    return _read_cache(path, shared_cache, source)


def _choose_directory(
    shared_cache: SharedCache,
    setting: bool | str | os.PathLike[str] | None,
    environment: Environment,
) -> tuple[str, str]:
    """Return the first usable directory, or else the first one and why it is not usable."""
    paths = [shared_cache.directory.path]
    configured = environment["IMDS_IDENTITY_CACHE"] if setting is None else setting
    # True means the default directory; False is handled above.
    if isinstance(configured, bool) or parse_setting(configured, "cache") is None:
        mounted = current_mounts()
        defaults = default_paths(environment["XDG_RUNTIME_DIR"] or None)
        paths = [path for path in defaults if mounted.in_memory(os.path.dirname(path))] or [""]
    checked = [(path, _problem(shared_cache, path)) for path in paths]
    return next((pair for pair in checked if not pair[1]), checked[0])


def _problem(shared_cache: SharedCache, path: str) -> str:
    """Return why a directory cannot be the cache, within seconds even if it hangs."""
    try:
        return shared_cache.directory.run(directory_problem, path)
    except NoUsableDirectory:
        return "it does not respond: its file server may be down"


def directory_problem(path: str) -> str:
    """Return why a directory cannot be the cache; empty if it can be used or created."""
    if not path:
        return "there is no memory-backed file system for the cache"
    try:
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode):
            return "it is not a directory"
        problem = access_problem(path, status)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return error.strerror or str(error)
    return f"it {problem}" if problem else ""


def _is_own(shared_cache: SharedCache, path: str) -> bool:
    try:
        status = shared_cache.directory.run(os.lstat, path)
    except (OSError, NoUsableDirectory):
        return False
    return stat.S_ISDIR(status.st_mode) and os.name == "posix" and status.st_uid == os.geteuid()


def _read_cache(path: str, shared_cache: SharedCache, source: TokenSource) -> CacheState:
    records = shared_cache.records()
    now = shared_cache.clock.now()
    rate_limiter = rate_limiter_for(shared_cache, source, no_jitter)
    return CacheState(
        path=path,
        tokens=tuple(_token(record, now) for record in records if record.token),
        failures=sum(record.token is None for record in records),
        backoff_seconds=rate_limiter.remaining_pause(),
    )


def _token(record: Record, now: float) -> CachedToken:
    claims = claims_in(record.token.value) if record.token else {}
    key = record.key
    return CachedToken(
        sanitize(key.resource),
        sanitize(key.endpoint),
        sanitize(str(Identity(key.selector, key.identity))),
        sanitize(str(claims.get("oid", ""))),
        record.token.expires_at - now if record.token else 0.0,
    )
