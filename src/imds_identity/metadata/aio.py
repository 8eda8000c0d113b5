"""The client of the metadata service for coroutines: the same one, in threads.

A metadata request is rare and short, so a thread is all it takes. It is none of the loop's
executor, whose threads a loop that ends waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from .._platform.threads import start_thread
from .client import MetadataClient as _MetadataClient

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator

    from .._platform.clock import Clock
    from ._attestation.document import AttestedDocument
    from ._events.events import Change, EventsDocument
    from ._events.watch import Watcher as _Watcher
    from ._models.compute import Compute, StorageProfile
    from ._models.instance import Instance, Network
    from ._models.load_balancer import LoadBalancer

__all__ = ["MetadataClient", "Watcher"]

P = ParamSpec("P")
T = TypeVar("T")


class MetadataClient:
    """What the Instance Metadata Service says of this machine, for coroutines.

    Each method is that of `imds_identity.metadata.MetadataClient`, which its name leads to.

    Args:
        endpoint: another service than this machine's.
        api_version: the version to ask by, come what may.
    """

    def __init__(self, *, endpoint: str | None = None, api_version: str | None = None) -> None:
        self._client = _MetadataClient(endpoint=endpoint, api_version=api_version)

    @property
    def clock(self) -> Clock:
        """The time that the client goes by."""
        return self._client.clock

    async def instance(self, *, refresh: bool = False) -> Instance:
        """The whole instance document."""
        return await _in_thread(self._client.instance, refresh=refresh)

    async def compute(self, *, refresh: bool = False) -> Compute:
        """What the machine is, and where it runs."""
        return await _in_thread(self._client.compute, refresh=refresh)

    async def network(self, *, refresh: bool = False) -> Network:
        """The machine's network interfaces."""
        return await _in_thread(self._client.network, refresh=refresh)

    async def storage_profile(self, *, refresh: bool = False) -> StorageProfile:
        """The machine's disks and image."""
        return await _in_thread(self._client.storage_profile, refresh=refresh)

    async def tags(self, *, refresh: bool = False) -> dict[str, str]:
        """The machine's tags by name."""
        return await _in_thread(self._client.tags, refresh=refresh)

    async def get(self, path: str, *, refresh: bool = False) -> Any:
        """One element of the instance document."""
        return await _in_thread(self._client.get, path, refresh=refresh)

    async def versions(self) -> tuple[str, ...]:
        """The api-versions that the service knows."""
        return await _in_thread(self._client.versions)

    async def load_balancer(self) -> LoadBalancer:
        """What stands in front of the machine."""
        return await _in_thread(self._client.load_balancer)

    async def public_ips(self) -> tuple[str, ...]:
        """The machine's public addresses."""
        return await _in_thread(self._client.public_ips)

    async def identity_info(self) -> str:
        """The id of the Microsoft Entra tenant of the machine's identities."""
        return await _in_thread(self._client.identity_info)

    async def attested_document(self, **arguments: Any) -> AttestedDocument:
        """Fetch a proof of which machine this is, and verify it."""
        return await _in_thread(self._client.attested_document, **arguments)

    async def attested_signature(self, *, nonce: str | None = None) -> str:
        """An attested document as the service gives it, for another to verify."""
        return await _in_thread(self._client.attested_signature, nonce=nonce)

    async def scheduled_events(self, *, retry: bool = True) -> EventsDocument:
        """What awaits this machine and its neighbours."""
        return await _in_thread(self._client.scheduled_events, retry=retry)

    def watch(
        self, *, every_machine: bool = False, state_file: str | os.PathLike[str] | None = None
    ) -> Watcher:
        """Hear of scheduled events as they come: ``async for change in client.watch():``."""
        return Watcher(self._client.watch(every_machine=every_machine, state_file=state_file))

    async def start(self, *event_ids: str) -> None:
        """Approve events, so that they start at once."""
        await _in_thread(self._client.start, *event_ids)

    async def detect(self) -> bool:
        """Whether Azure's service answers, at once."""
        return await _in_thread(self._client.detect)

    async def require(self, seconds: float = 120.0) -> Instance:
        """Wait for a service that is slow to start."""
        return await _in_thread(self._client.require, seconds)


class Watcher:
    """Gives the changes of scheduled events, as `imds_identity.metadata.watch.Watcher` does.

    It is an async iterator: ``anext(watcher)`` gives the next change. A change counts as told once
    the next one is asked for, or the watcher is dropped or stopped.

    Args:
        watcher: asks the service, in a thread.
    """

    def __init__(self, watcher: _Watcher) -> None:
        self._watcher = watcher
        self._told = _told(watcher)
        self._asking: asyncio.Future[None] | None = None

    def __aiter__(self) -> Watcher:
        return self

    async def __anext__(self) -> Change:
        """The next change.

        Raises:
            MetadataError: if there is no such service.
        """
        while True:
            change = next(self._told, None)
            if change is not None:
                return change
            if self._watcher.stopped:
                raise StopAsyncIteration
            self._told = _told(self._watcher)
            if self._asking is None:
                await asyncio.sleep(max(0.0, self._watcher.seconds_left()))
                self._asking = asyncio.ensure_future(_in_thread(self._watcher.ask))
            # Who is cancelled leaves the request to whoever asks next: nothing that it hears of
            # is lost.
            await asyncio.wait([self._asking])
            asked, self._asking = self._asking, None
            asked.result()

    def stop(self) -> None:
        """End the iteration."""
        self._told.close()
        self._watcher.stop()


def _told(watcher: _Watcher) -> Generator[Change, None, None]:
    """What is known already, each until the next is asked for or this is dropped."""
    while (change := watcher.next_ready()) is not None:
        try:
            yield change
        finally:
            watcher.done(change)


async def _in_thread(call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """What ``call`` returns, without waiting for it any longer than this task is."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    run = functools.partial(contextvars.copy_context().run, call, *args, **kwargs)

    def work() -> None:
        try:
            deliver: Any = functools.partial(future.set_result, run())
        except BaseException as error:  # noqa: BLE001 - it is raised where the caller waits
            deliver = functools.partial(future.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(lambda: None if future.done() else deliver())

    start_thread(work)
    return await future
