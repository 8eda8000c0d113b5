"""The asynchronous watcher, with a fake service."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity.metadata import errors
from imds_identity.metadata.aio import MetadataClient
from metadata_support import FakeService, event
from support import FakeClock, ResponseFactory

if TYPE_CHECKING:
    from pathlib import Path


class FastClock(FakeClock):
    """A clock that advances a second with each reading, so that nothing sleeps."""

    def now(self) -> float:
        self.seconds += 1
        return self.seconds


@pytest.fixture
def service() -> FakeService:
    return FakeService(FastClock())


def client_of(service: FakeService) -> MetadataClient:
    client = MetadataClient(endpoint="http://service")
    client._client = service.client()
    return client


def test_changes_are_returned_in_order(service: FakeService) -> None:
    async def listen() -> list[tuple[str, Any]]:
        found: list[tuple[str, Any]] = []
        async for change in client_of(service).watch():
            found.append((change.kind, change.event.event_id))
            if change.kind == "gone":
                break
            service.events = [event("A", "Started")] if len(found) == 1 else []
        return found

    service.events = [event("A")]
    assert asyncio.run(listen()) == [("scheduled", "A"), ("started", "A"), ("gone", "A")]


def test_leaving_the_loop_records_the_last_change(service: FakeService, tmp_path: Path) -> None:
    async def first() -> Any:
        async for change in client_of(service).watch(state_file=tmp_path / "state"):
            return change.event.event_id
        raise AssertionError("there was a change")

    service.events = [event("A"), event("B"), event("C")]
    assert [asyncio.run(first()) for _ in range(3)] == ["A", "B", "C"]


def test_canceling_a_wait_loses_no_change(service: FakeService) -> None:
    responding = threading.Event()
    send = service.send

    def slow(request: Any) -> Any:
        response = send(request)
        if "scheduledevents" in request.url:
            responding.wait(10)
        return response

    service.send = slow  # type: ignore[method-assign]

    async def listen() -> Any:
        watcher = client_of(service).watch()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(watcher.__anext__(), 0.05)
        responding.set()
        return await watcher.__anext__()

    service.events = [event("A")]
    assert asyncio.run(listen()).event.event_id == "A"


def test_polling_ends_with_the_watcher(service: FakeService) -> None:
    async def first() -> Any:
        watcher = client_of(service).watch()
        assert (await watcher.__anext__()).event.event_id == "A"
        assert watcher.names == frozenset({"vm-7"})
        assert watcher.known("a") is not None
        assert (watcher.lost, watcher.failure) == (0, None)
        return watcher._watcher.poller._current

    service.events = [event("A")]
    run = asyncio.run(first())
    gc.collect()
    assert run.stopped


def test_changes_during_a_slow_loop_body_are_returned(service: FakeService) -> None:
    async def listen() -> list[tuple[str, Any]]:
        found: list[tuple[str, Any]] = []
        async for change in client_of(service).watch():
            found.append((change.kind, change.event.event_id))
            for events in ([event("A"), event("B")], [event("A")]):
                service.events = events
                requested = len(service.requested)
                while len(service.requested) < requested + 2:
                    time.sleep(0.001)  # noqa: ASYNC251 - a body that blocks the event loop
            if len(found) == 3:
                return found
        raise AssertionError("there were three changes")

    service.events = [event("A")]
    assert asyncio.run(listen()) == [("scheduled", "A"), ("scheduled", "B"), ("gone", "B")]


def test_an_event_loop_may_end_during_a_request(service: FakeService) -> None:
    responding = threading.Event()
    send = service.send

    def never(request: Any) -> Any:
        responding.wait(30)
        return send(request)

    service.send = never  # type: ignore[method-assign]

    async def listen() -> None:
        client = client_of(service)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.watch().__anext__(), 0.05)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.instance(), 0.05)

    asyncio.run(listen())
    assert not responding.is_set()
    responding.set()


def test_a_watch_can_be_stopped(service: FakeService) -> None:
    async def listen() -> list[Any]:
        watcher = client_of(service).watch()
        found = []
        async for change in watcher:
            found.append(change.event.event_id)
            watcher.stop()
        return found

    service.events = [event("A"), event("B")]
    assert asyncio.run(listen()) == ["A", "B"]


def test_an_error_is_raised_in_the_waiting_task(service: FakeService) -> None:
    service.outcomes = [ResponseFactory(FakeClock()).error(404)]
    with pytest.raises(errors.MetadataNotFoundError):
        asyncio.run(client_of(service).watch().__anext__())
