"""What a process has one of: the broker, and the cache of each directory."""

from __future__ import annotations

import functools
import os
from contextlib import suppress

from .._core.identity import parse_identity
from .._platform.clock import SYSTEM_CLOCK
from .._platform.environment import Environment
from .._platform.fork import fork_safe
from .._shared_cache.location import known_shared_caches, shared_cache_for
from .._sources.registry import detect
from .cache import TokenCache
from .client import TokenClient
from .options import is_logged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._core.identity import Identity
    from .._sources.sources import TokenSource
    from .options import CallOptions


def process_token_cache() -> TokenCache:
    """The one broker of this process."""
    return _TOKEN_CACHE


def _random() -> float:
    """A number in [0, 1). The module that has them takes a millisecond of each start to load."""
    return int.from_bytes(os.urandom(6), "big") / (1 << 48)


# Made with the module: threads that begin together would each make one at the first call.
_TOKEN_CACHE = TokenCache(SYSTEM_CLOCK, _random)


def client_for(
    *,
    client_id: str | None = None,
    object_id: str | None = None,
    resource_id: str | None = None,
    identity_config: Mapping[str, str | None] | None = None,
    source: str | None = None,
    arc_tokens_directory: str | os.PathLike[str] | None = None,
    cache: bool | str | os.PathLike[str] | None = None,
    private: bool = False,
    token_cache: TokenCache | None = None,
    call_options: CallOptions | None = None,
) -> TokenClient:
    """What gets tokens, for a face or a command with these settings.

    Args:
        client_id: selects a user-assigned identity, like the next three.
        object_id: likewise.
        resource_id: likewise.
        identity_config: likewise, as azure-identity takes it.
        source: ``imds`` or ``arc``, in place of what is detected.
        arc_tokens_directory: where an Arc agent keeps its key files, if elsewhere.
        cache: the directory that processes share, or ``off`` or False.
        private: whether nothing is shared with other processes unless ``cache`` names a directory.
        token_cache: in place of the one of this process.
        call_options: how the caller wants to be served, if it matters.

    Raises:
        ValueError: for a setting that is not understood.
    """
    identity = parse_identity(
        client_id=client_id,
        object_id=object_id,
        resource_id=resource_id,
        identity_config=identity_config,
    )
    environment = Environment()
    find = functools.partial(_find, source, arc_tokens_directory, identity)
    where = find(environment)
    if is_logged():
        _log_source(where, source, environment)
    shared_cache = shared_cache_for(
        cache, private=private or token_cache is not None, environment=environment
    )
    # What the environment has named once is used for every request. Where it names nothing yet, it
    # may by the first one: a test's fixture sets it when its modules have been imported.
    redetect = None if where.variable else find
    return TokenClient(
        where, identity, token_cache or process_token_cache(), shared_cache, call_options, redetect
    )


def _find(
    forced: str | None,
    tokens_directory: str | os.PathLike[str] | None,
    identity: Identity,
    environment: Environment | None = None,
) -> TokenSource:
    env = environment or Environment()
    where = detect(forced, tokens_directory=tokens_directory, environment=env)
    where.check_selector(identity)
    return where


def _log_source(chosen: TokenSource, forced: str | None, environment: Environment) -> None:
    with fork_safe():
        import logging

        from .._sources.explain import explain

        reasons = explain(forced, environment=environment)
        logging.getLogger("imds_identity").debug("tokens come from %s; %s", chosen, reasons)


def clear_all() -> None:
    """Forget what this process holds, and what it shares with others."""
    process_token_cache().clear()
    with suppress(ValueError):  # a setting that is not understood: nothing is shared by it
        shared_cache_for()  # a process that has asked for nothing yet does not know of it
    for shared_cache in known_shared_caches():
        shared_cache.clear()
