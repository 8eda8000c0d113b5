"""The base class of the sync and the async credential."""

from __future__ import annotations

import functools
import sys

from .._core.scope import claims_of, resource_of
from .._http.local_errors import local_failure
from .._platform.environment import variable_value
from .._platform.imports import run_imports
from .._platform.log import is_logged
from .._shared_cache.namespace import other_network
from .._token_cache.entry import drop_unused
from .._token_cache.notifications import log_credential, warn_of_unused_variable
from .._token_cache.options import CallOptions
from .._token_cache.process import client_for
from .access_token import access_tokens_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from typing import Any, ClassVar, TypeAlias

    from azure.core.credentials import AccessToken, AccessTokenInfo
    from typing_extensions import Unpack

    from .._core.event import Event
    from .._core.failure import Failure
    from .._core.token import Token
    from .._token_cache.client import TokenClient
    from .._token_cache.entry import CacheEntry
    from ..errors import ManagedIdentityError
    from .keywords import Keywords, ParsedKeywords
    from .transports.pipeline import Policies

Published: TypeAlias = "tuple[AccessToken, AccessTokenInfo]"


class BaseCredential:
    """The configuration, and a cache entry for each scope that was requested."""

    _is_async: ClassVar[bool]

    def __init__(
        self,
        *,
        client_id: str | None = None,
        object_id: str | None = None,
        resource_id: str | None = None,
        identity_config: Mapping[str, str | None] | None = None,
        source: str | None = None,
        arc_tokens_directory: str | os.PathLike[str] | None = None,
        cache: bool | str | os.PathLike[str] | None = None,
        transport: Any = None,
        raw_request_hook: Callable[..., object] | None = None,
        raw_response_hook: Callable[..., object] | None = None,
        on_event: Callable[[Event], object] | None = None,
        **options: Unpack[Keywords],
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in _NOT_SETTINGS}
        class_name = type(self).__name__
        token_cache = given["_token_cache"] = options.pop("_token_cache", None)
        keywords = _parsed(options, class_name, given)
        settings = {**given, **(keywords.values if keywords else {})}
        self._settings = {name: value for name, value in settings.items() if value is not None}
        self._client = client_for(
            client_id=client_id,
            object_id=object_id,
            resource_id=resource_id,
            identity_config=identity_config,
            source=source,
            arc_tokens_directory=arc_tokens_directory,
            cache=cache,
            private=transport is not None,
            token_cache=token_cache,
            token_proxy=keywords is None or keywords.values.get("enable_azure_proxy", True),
            preload=False,
            call_options=_call_options(on_event, keywords, has_transport=transport is not None),
        )
        self._transport = transport
        hooks = {"raw_request_hook": raw_request_hook, "raw_response_hook": raw_response_hook}
        self._policies = self._checked_policies(hooks, keywords)
        self._entries: dict[str, CacheEntry] = {}
        self._cae_entries: dict[str, CacheEntry] = {}
        self._tick = self._client.token_cache.clock.tick
        preload(self._client)
        if keywords:
            keywords.warn_of_unused(self._client.source.name, 2)
        self._log_source()

    def __repr__(self) -> str:
        shown = (f"{n}={v!r}" for n, v in self._settings.items() if n not in _OBJECTS | _HIDDEN)
        return f"{type(self).__name__}({', '.join(shown)})"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the configuration only: the copy detects the token source on its own host."""
        if unpicklable := self._settings.keys() & _OBJECTS:
            raise TypeError(
                f"a credential with its own {' and '.join(sorted(unpicklable))} cannot be pickled"
            )
        return functools.partial(type(self), **self._settings), ()

    def _log_source(self) -> None:
        class_name, client = type(self).__name__, self._client
        if is_logged("INFO"):
            log_credential(class_name, client.source, client.identity)
        if client.source.unused_client_id:
            warn_of_unused_variable(class_name, client.source, client.identity)

    def _checked_policies(
        self, hooks: Mapping[str, object], keywords: ParsedKeywords | None
    ) -> Policies | None:
        """Return azure-core's policies for each request, or None for the package's own transport.

        Raise TypeError for a transport or a policy that this credential cannot use; ValueError for
        a transport that would use the environment's proxies.
        """
        uses_pipeline = any(hooks.values()) or (keywords is not None and keywords.uses_pipeline)
        if self._transport is None and not uses_pipeline:
            return None
        run_imports("sender", _import_sender)
        from .transports import sender

        sender.check_transport(self._transport)
        self._check_transport()
        if self._client.source.name == "service-fabric":
            sender.warn_of_certificate(self._transport, 3)
        policies = sender.Policies(hooks, keywords.values if keywords else {})
        sender.check_policies(self._transport, policies, is_async=self._is_async)
        return policies

    def _check_transport(self) -> None:
        """Refuse a sync or an async transport that this credential does not support."""

    def _policies_in_use(self) -> Policies | None:
        """Return the policies of the next request; tracing needs some even if none were passed."""
        if self._policies is not None or not _is_traced():
            return self._policies
        run_imports("sender", _import_sender)
        from .transports.pipeline import Policies

        return Policies({}, {})

    def _entry(
        self, scopes: tuple[str, ...], claims: object, enable_cae: object
    ) -> tuple[CacheEntry, str | None]:
        """Return the cache entry of a valid request, and its claims.

        Raise ValueError for invalid scopes or claims.
        """
        resource = resource_of(scopes)
        entries = self._cae_entries if enable_cae else self._entries
        scope = scopes[0]
        entry = entries.get(scope)
        if entry is None or entry.is_dropped or other_network():
            before = self._client.source
            entry = self._client.entry(resource, cae=bool(enable_cae))
            now = self._client.source  # the first request detects it again
            if (now.endpoint, now.unused_client_id) != (before.endpoint, before.unused_client_id):
                self._log_source()
            if not entry.network:
                drop_unused(entries, lambda entry: entry.is_dropped)
                entries[scope] = entry
        return entry, claims_of(claims)

    def _publish(self, entry: CacheEntry, token: Token) -> Published:
        """Return ``token`` in azure-core's types, and cache both for the next calls."""
        return self._client.token_cache.publish(entry, token, access_tokens_of)


def error_from(failure: Failure) -> ManagedIdentityError | Failure:
    """Return the public exception for ``failure``.

    It is ``failure`` itself if azure-core cannot be imported now, for example because this process
    is out of file descriptors.

    Call it outside the handler of ``failure``: the context of an exception keeps frames alive, and
    their variables hold secrets.
    """
    try:
        run_imports("errors", _import_errors)
        from ..errors import error_from as public_error
    except Exception as error:
        # The failure matters more than why it cannot be converted. Not so an exception that a
        # signal handler has raised here.
        if local_failure(error) is None:
            raise
        return failure.copy()
    return public_error(failure)


def preload(client: TokenClient) -> None:
    """Import what fetches and failures need, unless the program uses none of http and azure-core.

    If that fails, for example because this process is out of file descriptors, the fetch does it.
    """
    try:
        # uWSGI's workers would wait forever for an import that their parent has begun.
        if not sys.modules.keys().isdisjoint(("http.client", "uwsgi")):
            client.preload()
        if _is_traced():
            run_imports("sender", _import_sender)
            run_imports("tracing", _import_tracing)
        if "azure.core.exceptions" in sys.modules:
            run_imports("errors", _import_errors)
    except Exception as error:
        if local_failure(error) is None:
            raise


def _import_errors() -> None:
    from .. import errors

    del errors


def _import_keywords() -> None:
    from . import keywords

    del keywords


def _import_sender() -> None:
    from .transports import sender

    del sender


def _import_tracing() -> None:
    from azure.core.instrumentation import get_tracer

    get_tracer()  # it imports OpenTelemetry


def _parsed(
    options: Mapping[str, object], class_name: str, own: Mapping[str, object]
) -> ParsedKeywords | None:
    if not options:
        return None
    run_imports("keywords", _import_keywords)
    from .keywords import parse

    return parse(options, class_name, own)


def _call_options(
    on_event: Callable[[Event], object] | None,
    keywords: ParsedKeywords | None,
    *,
    has_transport: bool,
) -> CallOptions | None:
    if on_event is not None and not callable(on_event):
        raise TypeError(f"on_event must be a callable that takes an event, not {on_event!r}")
    if on_event is None and not keywords and not has_transport:
        return None
    return CallOptions(
        keywords.retry_options if keywords else None,
        on_event,
        logs_requests=keywords is not None and bool(keywords.values.get("logging_enable")),
        has_transport=has_transport,
    )


def _is_traced() -> bool:
    """Return whether azure-core's tracing is on: then each request has a span."""
    module = sys.modules.get("azure.core.settings")
    if module is None and variable_value("AZURE_TRACING_ENABLED"):
        import azure.core.settings as module
    settings = getattr(module, "settings", None)
    return settings is not None and bool(settings.tracing_enabled())


_NOT_SETTINGS = frozenset({"self", "options"})
_HIDDEN = frozenset({"headers", "proxies"})  # their values may contain secrets
_OBJECTS = frozenset(
    {
        "transport", "raw_request_hook", "raw_response_hook", "on_event", "per_call_policies",
        "per_retry_policies", "policies", "network_span_namer", "session", "_token_cache", "_cache",
    }
)  # fmt: skip
