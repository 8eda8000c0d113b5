"""The asynchronous metadata client: it runs the synchronous client in threads.

Metadata requests are rare and short, so a thread for each is cheap, and only a few run at once. The
threads do not come from the event loop's default executor, because a loop waits for its executor
when it closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import math
import weakref
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from .._core.failure import Reason, Refused
from .._http.local_errors import unexpected_failure
from .._platform.fork import detect_fork, reset_in_child
from .._platform.threads import running_loop, start_thread
from ._events.poller import TICK_SECONDS
from .client import MetadataClient as _MetadataClient
from .errors import error_from

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from typing_extensions import Unpack

    from .._platform.clock import Clock
    from ._attestation.document import AttestedDocument
    from ._events.events import Change, EventsDocument, ScheduledEvent
    from ._events.watcher import Watcher as _Watcher
    from ._models.compute import Compute
    from ._models.instance import Instance, Network
    from ._models.load_balancer import LoadBalancer
    from ._models.storage import StorageProfile
    from ._requests.options import (
        InstanceOptions,
        RequestOptions,
        VerificationOptions,
        WatchOptions,
    )
    from .errors import MetadataError

__all__ = ["MetadataClient", "Watcher"]

P = ParamSpec("P")
T = TypeVar("T")

MOST_THREADS = 32
"""Threads at once, as many as asyncio's default executor has at most."""
_POLL_SECONDS = 0.05
"""Seconds after which a call that waits for a thread tries again."""
_TIMEOUTS = ("timeout", "seconds")
"""The keywords that limit a call, including its wait for a thread."""
_running: set[object] = set()
"""One object for each thread."""
reset_in_child(_running.clear)


class MetadataClient:
    """An asynchronous client for the Instance Metadata Service.

    Each method has the parameters, result and errors of the method with the same name in
    `imds_identity.metadata.MetadataClient`.

    Args:
        endpoint: the URL of the service; by default this machine's service.
        api_version: the API version of every request; by default the newest that both sides know.

    Raises:
        ValueError: if ``endpoint`` or ``api_version`` is malformed.
    """

    def __init__(self, *, endpoint: str | None = None, api_version: str | None = None) -> None:
        self._client = _MetadataClient(endpoint=endpoint, api_version=api_version)

    @property
    def clock(self) -> Clock:
        """The clock of the client."""
        return self._client.clock

    async def instance(
        self,
        *,
        refresh: bool = False,
        max_age: float | None = None,
        **options: Unpack[RequestOptions],
    ) -> Instance:
        """Return the instance document."""
        return await _in_thread(self._client.instance, refresh=refresh, max_age=max_age, **options)

    def clear(self) -> None:
        """Forget the cached instance document and the negotiated API versions."""
        self._client.clear()

    async def compute(self, **options: Unpack[InstanceOptions]) -> Compute:
        """Return the properties and the location of the machine."""
        return await _in_thread(self._client.compute, **options)

    async def network(self, **options: Unpack[InstanceOptions]) -> Network:
        """Return the network interfaces of the machine."""
        return await _in_thread(self._client.network, **options)

    async def storage_profile(self, **options: Unpack[InstanceOptions]) -> StorageProfile:
        """Return the disks and the image of the machine."""
        return await _in_thread(self._client.storage_profile, **options)

    async def tags(self, **options: Unpack[InstanceOptions]) -> dict[str, str]:
        """Return the tags of the machine by name."""
        return await _in_thread(self._client.tags, **options)

    async def get(self, path: str, **options: Unpack[InstanceOptions]) -> Any:
        """Return one element of the instance document."""
        return await _in_thread(self._client.get, path, **options)

    async def versions(self, **options: Unpack[RequestOptions]) -> tuple[str, ...]:
        """Return the API versions that the service supports."""
        return await _in_thread(self._client.versions, **options)

    async def load_balancer(self, **options: Unpack[RequestOptions]) -> LoadBalancer:
        """Return the load balancer of the machine."""
        return await _in_thread(self._client.load_balancer, **options)

    async def public_ips(self, **options: Unpack[RequestOptions]) -> tuple[str, ...]:
        """Return the public IP addresses of the machine."""
        return await _in_thread(self._client.public_ips, **options)

    async def identity_info(self, **options: Unpack[RequestOptions]) -> str:
        """Return the Microsoft Entra tenant ID of the machine's identities."""
        return await _in_thread(self._client.identity_info, **options)

    async def attested_document(
        self,
        *,
        nonce: str | None = None,
        timeout: float | None = None,
        retry: bool = True,
        params: Mapping[str, str] | None = None,
        **options: Unpack[VerificationOptions],
    ) -> AttestedDocument:
        """Fetch a signed proof of the machine's identity, verify it, and return it."""
        call = self._client.attested_document
        return await _in_thread(
            call, nonce=nonce, timeout=timeout, retry=retry, params=params, **options
        )

    async def attested_signature(
        self, *, nonce: str | None = None, **options: Unpack[RequestOptions]
    ) -> str:
        """Fetch an attested document for another party to verify."""
        return await _in_thread(self._client.attested_signature, nonce=nonce, **options)

    async def scheduled_events(self, **options: Unpack[RequestOptions]) -> EventsDocument:
        """Return the scheduled events of this machine and its scale set or availability set."""
        return await _in_thread(self._client.scheduled_events, **options)

    def watch(self, **options: Unpack[WatchOptions]) -> Watcher:
        """Watch scheduled events: ``async for change in client.watch():``."""
        return Watcher(self._client.watch(**options))

    async def start(self, *event_ids: str, **options: Unpack[RequestOptions]) -> None:
        """Approve scheduled events, so that they start before their notice ends."""
        await _in_thread(self._client.start, *event_ids, **options)

    async def detect(self, seconds: float | None = None) -> bool:
        """Return whether this is an Azure VM."""
        return await _in_thread(self._client.detect, seconds=seconds)

    async def require(self, seconds: float = 120.0) -> Instance:
        """Wait for a service that starts slowly, and return the instance document."""
        return await _in_thread(self._client.require, seconds=seconds)


class Watcher:
    """An async iterator of the changes of scheduled events.

    It has the rules of `imds_identity.metadata.Watcher`. A change counts as handled when the next
    one is requested, or when the watcher is stopped or deleted. Polling ends with the watcher.

    Args:
        watcher: the synchronous watcher, which runs in threads.
    """

    def __init__(self, watcher: _Watcher) -> None:
        self._watcher = watcher
        self._ready = _ready_changes(watcher)
        # Not a method of this object, which the thread would then keep.
        weakref.finalize(self, watcher.poller.stop).atexit = False

    @property
    def failure(self) -> MetadataError | None:
        """The error of the last request, or None."""
        return self._watcher.failure

    @property
    def lost(self) -> int:
        """The number of the oldest changes that were dropped, because too many were waiting."""
        return self._watcher.lost

    @property
    def names(self) -> frozenset[str] | None:
        """The machine's names in events, in lower case; None until they are known."""
        return self._watcher.names

    def known(self, event_id: str | None) -> ScheduledEvent | None:
        """Return an event of the last document; None if the document does not contain it."""
        return self._watcher.known(event_id)

    def __aiter__(self) -> Watcher:
        return self

    async def __anext__(self) -> Change:
        """Return the next change.

        Raises:
            MetadataError: if there is no such service.
        """
        while True:
            change = next(self._ready, None)
            if change is not None:
                return change
            if self._watcher.stopped:
                raise StopAsyncIteration
            self._ready = _ready_changes(self._watcher)
            running_loop("next, imds_identity.metadata.MetadataClient().watch()")
            self._watcher.poller.start()
            await asyncio.sleep(TICK_SECONDS)

    def stop(self) -> None:
        """End the iteration."""
        self._ready.close()
        self._watcher.stop()


def _ready_changes(watcher: _Watcher) -> Generator[Change, None, None]:
    """Yield the received changes; mark each as handled when the caller requests the next one."""
    while (change := watcher.next_ready()) is not None:
        try:
            yield change
        finally:
            watcher.done(change)


async def _in_thread(call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Return the result of ``call``; a canceled task stops waiting for it.

    Raise MetadataError if no thread can be started.
    """
    loop = running_loop("imds_identity.metadata.MetadataClient().instance")
    detect_fork()
    keywords: Any = dict(kwargs)
    await _wait_for_thread(loop, keywords)
    run = functools.partial(contextvars.copy_context().run, call, *args, **keywords)
    future: asyncio.Future[T] = loop.create_future()

    def work() -> None:
        deliver: Callable[[], None]
        try:
            deliver = functools.partial(future.set_result, run())
        except BaseException as error:  # noqa: BLE001 - the waiting task raises it
            deliver = functools.partial(future.set_exception, error)
        _running.discard(work)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(lambda: None if future.done() else deliver())

    _running.add(work)
    try:
        start_thread(work)
    except RuntimeError as error:
        _running.discard(work)
        reason = unexpected_failure(error)
    else:
        return await future
    raise error_from(reason)


async def _wait_for_thread(loop: asyncio.AbstractEventLoop, keywords: dict[str, Any]) -> None:
    """Wait until fewer than `MOST_THREADS` run, and subtract the wait from the call's timeout."""
    name = next((each for each in _TIMEOUTS if keywords.get(each)), "")
    timeout = keywords.get(name, math.inf)
    deadline = loop.time() + timeout
    # An event or a semaphore would belong to one loop, and a thread may outlive its loop.
    while len(_running) >= MOST_THREADS:
        await asyncio.sleep(_POLL_SECONDS)
        left = deadline - loop.time()
        if left <= 0:
            raise error_from(
                Refused(
                    f"no request was sent within {timeout:g} s, because {MOST_THREADS} metadata "
                    "requests of this process wait for their responses",
                    "Send fewer requests at once, or allow more time.",
                    reason=Reason.LOCAL_RESOURCES,
                )
            )
        if name:
            keywords[name] = left
