"""What the azure-core faces, sync and async, have in common."""

from __future__ import annotations

import functools
import sys

from .._core.scope import claims_of, resource_of
from .._platform.environment import variable_value
from .._platform.fork import load
from .._token_cache.options import CallOptions, is_logged
from .._token_cache.process import client_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from typing import Any, ClassVar, TypeAlias

    from azure.core.credentials import AccessToken, AccessTokenInfo
    from typing_extensions import Never, Unpack

    from .._core.event import Event
    from .._core.failure import Failure
    from .._core.token import Token
    from .._token_cache.cache import TokenCache
    from .._token_cache.client import OpenSender
    from .._token_cache.entry import CacheEntry
    from ..errors import ManagedIdentityError
    from .keywords import Keywords

Published: TypeAlias = "tuple[AccessToken, AccessTokenInfo]"


class BaseCredential:
    """Configuration, the slots of the scopes asked for so far, and how a token is shown."""

    _is_async: ClassVar[bool]

    def __init__(
        self,
        *positional: Never,
        client_id: str | None = None,
        object_id: str | None = None,
        resource_id: str | None = None,
        identity_config: Mapping[str, str | None] | None = None,
        source: str | None = None,
        arc_tokens_directory: str | os.PathLike[str] | None = None,
        cache: bool | str | os.PathLike[str] | None = None,
        transport: Any = None,
        raw_request_hook: Callable[..., Any] | None = None,
        raw_response_hook: Callable[..., Any] | None = None,
        on_event: Callable[[Event], object] | None = None,
        _token_cache: TokenCache | None = None,
        **options: Unpack[Keywords],
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in _NO_SETTINGS}
        whose = type(self).__name__
        if positional:
            raise TypeError(f"{whose}() takes keywords only, such as client_id=…")
        more = _keywords().checked(options, whose, given) if options else {}
        self._settings = {name: v for name, v in {**given, **more}.items() if v is not None}
        self._client = client_for(
            client_id=client_id,
            object_id=object_id,
            resource_id=resource_id,
            identity_config=identity_config,
            source=source,
            arc_tokens_directory=arc_tokens_directory,
            cache=cache,
            private=transport is not None,
            token_cache=_token_cache,
            call_options=_call_options(on_event, more, has_transport=transport is not None),
        )
        self._transport = transport
        hooks = {"raw_request_hook": raw_request_hook, "raw_response_hook": raw_response_hook}
        self._policies = self._checked_policies(hooks, more)
        self._entries: dict[str, CacheEntry] = {}
        self._cae_entries: dict[str, CacheEntry] = {}
        self._tick = self._client.token_cache.clock.tick
        if more:
            _keywords().warn_of(more, self._client.source.name, 2)
        if is_logged("INFO"):
            notifications = load("imds_identity._token_cache.notifications")
            notifications.log_credential(whose, self._client.source, self._client.identity)

    def __repr__(self) -> str:
        shown = (f"{n}={v!r}" for n, v in self._settings.items() if n not in _OBJECTS | _HIDDEN)
        return f"{type(self).__name__}({', '.join(shown)})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Configuration only: where it arrives, the credential finds that machine's own source."""
        if unpicklable := self._settings.keys() & _OBJECTS:
            raise TypeError(
                f"a credential with its own {' and '.join(sorted(unpicklable))} cannot be pickled"
            )
        return functools.partial(type(self), **self._settings), ()

    def _checked_policies(self, hooks: dict[str, Any], options: dict[str, Any]) -> Any:
        """What requests go through on their way to the transport, or None for our own way.

        Raises:
            TypeError: for a transport or a policy that this face cannot use.
            ValueError: likewise.
        """
        hooked = any(hooks.values()) or (options and options.keys() & _keywords().PIPELINE)
        if self._transport is None and not hooked:
            return None
        # Imported here and not by the first request, which has a deadline.
        transport = load("imds_identity._azure_core.transports.sender")
        transport.check_transport(self._transport)
        self._check_transport()
        if self._client.source.name == "service-fabric":
            transport.warn_of_certificate(self._transport, 3)
        policies = transport.Policies(hooks, options)
        transport.check_policies(self._transport, policies, is_async=self._is_async)
        return policies

    def _check_transport(self) -> None:
        """Refuse a transport that this face cannot use, though another can."""

    def _open_sender(self, kind: str, *where: Any) -> OpenSender | None:
        """What sends in place of the engine's own sender, if anything does.

        Args:
            kind: ``sync_sender`` or ``async_sender``.
            where: the event loop, for the latter.
        """
        policies = self._policies
        if policies is None:
            if not _is_traced():
                return None
            policies = load("imds_identity._azure_core.transports.sender").Policies({}, {})
        transport = load("imds_identity._azure_core.transports.sender")
        sender: OpenSender = getattr(transport, kind)(self._transport, policies, *where)
        return sender

    def _entry(self, scopes: tuple[str, ...], claims: object, enable_cae: object) -> CacheEntry:
        resource = resource_of(scopes)
        claims_of(claims)
        entries = self._cae_entries if enable_cae else self._entries
        scope = scopes[0]
        if scope not in entries:
            entries[scope] = self._client.entry(resource, cae=bool(enable_cae))
        return entries[scope]

    def _publish(self, entry: CacheEntry, token: Token) -> Published:
        """``token`` as azure-core has it, from now on served without further thought."""
        forms = load("imds_identity._azure_core.access_token")
        return self._client.token_cache.publish(entry, token, forms.access_tokens_of)


def error_from(failure: Failure) -> ManagedIdentityError:
    """What users catch, for what the engine says.

    Not to be called where ``failure`` is being handled: the context of an exception holds frames,
    and those hold secrets.
    """
    error: ManagedIdentityError = load("imds_identity.errors").error_from(failure)
    return error


def _keywords() -> Any:
    return load("imds_identity._azure_core.keywords")


def _call_options(
    on_event: Callable[[Event], object] | None, options: dict[str, Any], *, has_transport: bool
) -> CallOptions | None:
    if on_event is not None and not callable(on_event):
        raise TypeError(f"on_event is a callable that takes an event, not {on_event!r}")
    if on_event is None and not options and not has_transport:
        return None
    retry_options = _keywords().retry_options_of(options) if options else None
    return CallOptions(
        retry_options,
        on_event,
        logs_requests=bool(options.get("logging_enable")),
        has_transport=has_transport,
    )


def _is_traced() -> bool:
    """Whether azure-core's tracing is on: then it is to have a span for each request."""
    module = sys.modules.get("azure.core.settings")
    if module is None and variable_value("AZURE_TRACING_ENABLED"):
        module = load("azure.core.settings")
    settings = getattr(module, "settings", None)
    return settings is not None and bool(settings.tracing_enabled())


_NO_SETTINGS = frozenset({"self", "positional", "options"})
_HIDDEN = frozenset({"headers", "proxies"})  # which may hold secrets
_OBJECTS = frozenset(
    {
        "transport", "raw_request_hook", "raw_response_hook", "on_event", "per_call_policies",
        "per_retry_policies", "policies", "network_span_namer", "session", "_token_cache", "_cache",
    }
)  # fmt: skip
