"""The token cache of this process, and clients that use it."""

from __future__ import annotations

import functools
import os
from contextlib import suppress

from .._core.identity import parse_identity
from .._platform.clock import SYSTEM_CLOCK
from .._platform.environment import Environment, variable_value
from .._platform.log import is_logged, log_in_thread
from .._shared_cache.location import known_shared_caches, shared_cache_for
from .._sources.registry import detect
from .._sources.token_proxy import VARIABLES as TOKEN_PROXY_VARIABLES
from .cache import TokenCache
from .client import TokenClient
from .notifications import forget_notes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._core.identity import Identity
    from .._sources.host import TokenSource
    from .options import CallOptions


def process_token_cache() -> TokenCache:
    """Return the one token cache of this process."""
    return _TOKEN_CACHE


def _random() -> float:
    """Return a number in [0, 1); importing `random` would add a millisecond to each start."""
    return int.from_bytes(os.urandom(6), "big") / (1 << 48)


# Created at import: threads that start together would each create one at the first call.
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
    token_proxy: object = True,
    preload: bool = True,
) -> TokenClient:
    """Return a client for a credential or a command with these settings.

    Raise ValueError for an invalid setting.

    The first seven are the credential's. With ``private``, nothing is shared with other processes
    unless ``cache`` names a directory. With a false ``token_proxy``, the variables of AKS identity
    bindings are ignored. Without ``preload``, the first fetch imports what it needs:
    http.client alone takes more time and memory than the rest of this package.
    """
    identity = parse_identity(
        client_id=client_id,
        object_id=object_id,
        resource_id=resource_id,
        identity_config=identity_config,
    )
    environment = Environment()
    ignored = () if token_proxy else TOKEN_PROXY_VARIABLES
    find = functools.partial(_find, source, arc_tokens_directory, identity, ignored)
    found = find(environment)
    if is_logged():
        _log_source(found, source, environment)
    shared_cache = shared_cache_for(
        cache, private=private or token_cache is not None, environment=environment
    )
    # A source that the environment named is final. Without one, a variable may be set until the
    # first request: a test's fixture sets it after the tests' modules were imported.
    redetect = None if found.variable else find
    client = TokenClient(
        found, identity, token_cache or process_token_cache(), shared_cache, call_options, redetect
    )
    if preload:
        client.preload()
    return client


def application_client(
    identity_client: TokenClient, tenant_id: str, client_id: str, authority: str | None = None
) -> TokenClient:
    """Return a client for tokens of an application that trusts a managed identity.

    The default of ``authority`` is AZURE_AUTHORITY_HOST, else the public cloud.

    Raise ValueError for an invalid argument.
    """
    from .._sources.federated_application import FederatedSource
    from .._sources.workload_identity import AUTHORITY

    application = parse_identity(client_id=client_id)
    if not application.selector:
        raise ValueError("client_id must be the client ID of the application")
    url = authority or variable_value("AZURE_AUTHORITY_HOST") or AUTHORITY
    source = FederatedSource(url, tenant_id, client_id, identity_client)
    return identity_client.with_source(source, application)


def _find(
    forced: str | None,
    tokens_directory: str | os.PathLike[str] | None,
    identity: Identity,
    ignored: tuple[str, ...],
    environment: Environment | None = None,
) -> TokenSource:
    env = (environment or Environment()).without(*ignored)
    source = detect(forced, tokens_directory=tokens_directory, environment=env)
    source.check_selector(identity)
    return source


def _log_source(source: TokenSource, forced: str | None, environment: Environment) -> None:
    from .._sources.explain import explain

    reasons = explain(forced, environment=environment)
    log_in_thread("DEBUG", "tokens come from %s; %s", source, reasons)


def clear_all() -> None:
    """Clear the token cache of this process and the shared caches that it uses."""
    process_token_cache().clear()
    forget_notes()
    with suppress(ValueError):  # an invalid setting: nothing is shared through it
        shared_cache_for()  # a process that has requested nothing yet does not know its cache
    for shared_cache in known_shared_caches():
        shared_cache.clear()
