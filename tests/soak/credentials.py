"""The credentials of a process: all identities, sync and async, with and without a transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from azure.core.pipeline.transport import (
    AioHttpTransport,
    AsyncioRequestsTransport,
    RequestsTransport,
)

import imds_identity
import imds_identity.aio

from .call_checker import CallSpec
from .shared_state import CLIENT_ID, OBJECT_ID, RESOURCE_ID, RESOURCES, SYSTEM_ASSIGNED

if TYPE_CHECKING:
    import random

IDENTITIES: tuple[tuple[str, dict[str, Any]], ...] = (
    (SYSTEM_ASSIGNED, {}),
    (CLIENT_ID, {"client_id": CLIENT_ID}),
    (OBJECT_ID, {"object_id": OBJECT_ID}),
    (RESOURCE_ID, {"resource_id": RESOURCE_ID}),
)


class PooledCredential(NamedTuple):
    """A credential, its kind and its identity."""

    kind: str
    identity: str
    credential: Any

    def call_spec(self, rng: random.Random) -> CallSpec:
        return CallSpec(self.kind, rng.choice(RESOURCES), self.identity)


def _hook(_: Any) -> None:
    """Receive a request or a response, and do nothing."""


class CredentialPool:
    """Credentials for all threads of a process; ``cache`` is the shared cache's directory."""

    def __init__(self, cache: str, rng: random.Random) -> None:
        self._cache = cache
        self._rng = rng
        self.sync = [
            PooledCredential(
                kind, identity, imds_identity.ManagedIdentityCredential(**settings, **selector)
            )
            for identity, selector in IDENTITIES
            for kind, settings in self._sync_settings()
        ]

    def any_sync(self) -> PooledCredential:
        """Return a pooled sync credential, or sometimes a new one."""
        if self._rng.random() < 0.9:
            return self._rng.choice(self.sync)
        identity, selector = self._rng.choice(IDENTITIES)
        credential = imds_identity.ManagedIdentityCredential(**selector)
        return PooledCredential("sync, new", identity, credential)

    def new_async(self) -> list[PooledCredential]:
        """Return new async credentials for one event loop."""
        return [
            PooledCredential(
                kind, identity, imds_identity.aio.ManagedIdentityCredential(**settings, **selector)
            )
            for kind, settings in self._async_settings()
            for identity, selector in [self._rng.choice(IDENTITIES)]
        ]

    def _sync_settings(self) -> list[tuple[str, dict[str, Any]]]:
        return [
            ("sync", {}),
            ("sync, cache off", {"cache": "off"}),
            ("sync, hooks", {"raw_request_hook": _hook, "raw_response_hook": _hook}),
            ("sync, transport", {"transport": RequestsTransport(), "cache": self._cache}),
        ]

    def _async_settings(self) -> list[tuple[str, dict[str, Any]]]:
        return [
            ("aio", {}),
            ("aio", {"cache": self._cache}),
            ("aio, hooks", {"raw_request_hook": _hook}),
            ("aio, sync transport", {"transport": RequestsTransport(), "cache": self._cache}),
            ("aio, aiohttp", {"transport": AioHttpTransport(), "cache": self._cache}),
            ("aio, async requests", {"transport": AsyncioRequestsTransport()}),
        ]
