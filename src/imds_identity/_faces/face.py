"""What the azure-core faces, sync and async, have in common."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeAlias

from .._core.resource import claims_of, resource_of
from .._engine.process import provider_for
from .._runtime.fork import load

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from azure.core.credentials import AccessToken, AccessTokenInfo

    from .._core.failure import Failure
    from .._core.token import Token
    from .._engine.broker import Broker
    from .._engine.slot import Slot
    from ..errors import ManagedIdentityError

Shown: TypeAlias = "tuple[AccessToken, AccessTokenInfo]"


class Face:
    """Configuration, the slots of the scopes asked for so far, and how a token is shown."""

    def __init__(
        self,
        *,
        client_id: str | None = None,
        object_id: str | None = None,
        resource_id: str | None = None,
        identity_config: Mapping[str, str] | None = None,
        source: str | None = None,
        arc_tokens_directory: str | None = None,
        cache: str | os.PathLike[str] | None = None,
        transport: Any = None,
        raw_request_hook: Callable[..., Any] | None = None,
        raw_response_hook: Callable[..., Any] | None = None,
        _broker: Broker | None = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name != "self"}
        self._settings = {name: value for name, value in given.items() if value is not None}
        self._provider = provider_for(
            client_id=client_id,
            object_id=object_id,
            resource_id=resource_id,
            identity_config=identity_config,
            source=source,
            arc_tokens_directory=arc_tokens_directory,
            cache=cache,
            private=transport is not None,
            broker=_broker,
        )
        self._transport = transport
        self._hooks = {"raw_request_hook": raw_request_hook, "raw_response_hook": raw_response_hook}
        self._sends_by_azure_core = transport is not None or any(self._hooks.values())
        self._check_transport()
        self._slots: dict[tuple[str, ...], Slot] = {}
        self._tick = self._provider.broker.clock.tick

    def __repr__(self) -> str:
        shown = (f"{n}={v!r}" for n, v in self._settings.items() if n not in _OBJECTS)
        return f"{type(self).__name__}({', '.join(shown)})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Configuration only: where it arrives, the credential finds that machine's own source."""
        if unpicklable := self._settings.keys() & _OBJECTS:
            raise TypeError(
                f"a credential with its own {' and '.join(sorted(unpicklable))} cannot be pickled"
            )
        return functools.partial(type(self), **self._settings), ()

    def _check_transport(self) -> None:
        """Refuse a transport that this face cannot use."""
        if self._sends_by_azure_core:
            # Imported here and not by the first request, which has a deadline.
            load("imds_identity._faces.transport").check_transport(self._transport)

    def _slot(self, scopes: tuple[str, ...], claims: object) -> Slot:
        resource = resource_of(scopes)
        claims_of(claims)
        if scopes not in self._slots:
            self._slots[scopes] = self._provider.slot(resource)
        return self._slots[scopes]

    def _show(self, slot: Slot, token: Token) -> Shown:
        """``token`` as azure-core has it, from now on served without further thought."""
        forms = load("imds_identity._faces.forms")
        return self._provider.broker.show(slot, token, forms.show)


def error_from(failure: Failure) -> ManagedIdentityError:
    """What users catch, for what the engine says.

    Not to be called where ``failure`` is being handled: the context of an exception holds frames,
    and those hold secrets.
    """
    error: ManagedIdentityError = load("imds_identity.errors").error_from(failure)
    return error


_OBJECTS = frozenset({"transport", "raw_request_hook", "raw_response_hook", "_broker"})
