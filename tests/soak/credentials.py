"""The credentials of a process: every identity, every face, with and without a transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from azure.core.pipeline.transport import (
    AioHttpTransport,
    AsyncioRequestsTransport,
    RequestsTransport,
)

import imds_identity
import imds_identity.aio

from .calls import Ask
from .shared_state import CLIENT_ID, OBJECT_ID, RESOURCE_ID, RESOURCES, SYSTEM

if TYPE_CHECKING:
    import random

IDENTITIES: tuple[tuple[str, dict[str, Any]], ...] = (
    (SYSTEM, {}),
    (CLIENT_ID, {"client_id": CLIENT_ID}),
    (OBJECT_ID, {"object_id": OBJECT_ID}),
    (RESOURCE_ID, {"resource_id": RESOURCE_ID}),
)


class PooledCredential(NamedTuple):
    """A credential, and how to ask it."""

    face: str
    who: str
    credential: Any

    def ask(self, dice: random.Random) -> Ask:
        return Ask(self.face, dice.choice(RESOURCES), self.who)


def _hook(_: Any) -> None:
    """Sees every request and answer, and has nothing to say."""


class CredentialPool:
    """Credentials for all threads of a process.

    Args:
        cache: the directory that all processes share.
        dice: choose.
    """

    def __init__(self, cache: str, dice: random.Random) -> None:
        self._cache = cache
        self._dice = dice
        self.sync = [
            PooledCredential(
                face, who, imds_identity.ManagedIdentityCredential(**settings, **identity)
            )
            for who, identity in IDENTITIES
            for face, settings in self._sync_settings()
        ]

    def any_sync(self) -> PooledCredential:
        """One of the lasting ones mostly, or a new one."""
        if self._dice.random() < 0.9:
            return self._dice.choice(self.sync)
        who, identity = self._dice.choice(IDENTITIES)
        made = imds_identity.ManagedIdentityCredential(**identity)
        return PooledCredential("sync, new", who, made)

    def asyncs(self) -> list[PooledCredential]:
        """New ones, for one event loop."""
        return [
            PooledCredential(
                face, who, imds_identity.aio.ManagedIdentityCredential(**settings, **identity)
            )
            for face, settings in self._async_settings()
            for who, identity in [self._dice.choice(IDENTITIES)]
        ]

    def _sync_settings(self) -> list[tuple[str, dict[str, Any]]]:
        return [
            ("sync", {}),
            ("sync, private", {"cache": "off"}),
            ("sync, with hooks", {"raw_request_hook": _hook, "raw_response_hook": _hook}),
            ("sync, transport", {"transport": RequestsTransport(), "cache": self._cache}),
        ]

    def _async_settings(self) -> list[tuple[str, dict[str, Any]]]:
        return [
            ("aio", {}),
            ("aio", {"cache": self._cache}),
            ("aio, with hooks", {"raw_request_hook": _hook}),
            ("aio, sync transport", {"transport": RequestsTransport(), "cache": self._cache}),
            ("aio, aiohttp", {"transport": AioHttpTransport(), "cache": self._cache}),
            ("aio, async requests", {"transport": AsyncioRequestsTransport()}),
        ]
