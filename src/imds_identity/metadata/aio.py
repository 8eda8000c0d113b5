"""The client of the metadata service for coroutines: the same one, in threads.

A metadata request is rare and short, so a thread of the loop's executor is all it takes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .client import MetadataClient as _MetadataClient

if TYPE_CHECKING:
    from .attested import AttestedDocument
    from .events import EventsDocument
    from .instance import Instance, Network
    from .load_balancer import LoadBalancer
    from .models import Compute, StorageProfile

__all__ = ["MetadataClient"]


class MetadataClient:
    """What the Instance Metadata Service says of this machine, for coroutines.

    Each method is that of `imds_identity.metadata.MetadataClient`, which its name leads to.

    Args:
        endpoint: another service than this machine's.
        api_version: the version to ask by, come what may.
    """

    def __init__(self, *, endpoint: str | None = None, api_version: str | None = None) -> None:
        self._client = _MetadataClient(endpoint=endpoint, api_version=api_version)

    async def instance(self, *, refresh: bool = False) -> Instance:
        """The whole instance document."""
        return await asyncio.to_thread(self._client.instance, refresh=refresh)

    async def compute(self, *, refresh: bool = False) -> Compute:
        """What the machine is, and where it runs."""
        return await asyncio.to_thread(self._client.compute, refresh=refresh)

    async def network(self, *, refresh: bool = False) -> Network:
        """The machine's network interfaces."""
        return await asyncio.to_thread(self._client.network, refresh=refresh)

    async def storage_profile(self, *, refresh: bool = False) -> StorageProfile:
        """The machine's disks and image."""
        return await asyncio.to_thread(self._client.storage_profile, refresh=refresh)

    async def tags(self, *, refresh: bool = False) -> dict[str, str]:
        """The machine's tags by name."""
        return await asyncio.to_thread(self._client.tags, refresh=refresh)

    async def get(self, path: str, *, refresh: bool = False) -> Any:
        """One element of the instance document."""
        return await asyncio.to_thread(self._client.get, path, refresh=refresh)

    async def versions(self) -> tuple[str, ...]:
        """The api-versions that the service knows."""
        return await asyncio.to_thread(self._client.versions)

    async def load_balancer(self) -> LoadBalancer:
        """What stands in front of the machine."""
        return await asyncio.to_thread(self._client.load_balancer)

    async def public_ips(self) -> tuple[str, ...]:
        """The machine's public addresses."""
        return await asyncio.to_thread(self._client.public_ips)

    async def identity_info(self) -> str:
        """The id of the Microsoft Entra tenant of the machine's identities."""
        return await asyncio.to_thread(self._client.identity_info)

    async def attested_document(self, **arguments: Any) -> AttestedDocument:
        """Fetch a proof of which machine this is, and verify it."""
        return await asyncio.to_thread(self._client.attested_document, **arguments)

    async def attested_signature(self, *, nonce: str | None = None) -> str:
        """An attested document as the service gives it, for another to verify."""
        return await asyncio.to_thread(self._client.attested_signature, nonce=nonce)

    async def scheduled_events(self) -> EventsDocument:
        """What awaits this machine and its neighbours."""
        return await asyncio.to_thread(self._client.scheduled_events)

    async def start(self, *event_ids: str) -> None:
        """Approve events, so that they start at once."""
        await asyncio.to_thread(self._client.start, *event_ids)

    async def require(self, seconds: float = 120.0) -> Instance:
        """Wait for a service that is slow to start."""
        return await asyncio.to_thread(self._client.require, seconds)
