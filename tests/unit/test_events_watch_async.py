"""The watcher for coroutines, against a service in memory."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity.metadata import errors
from imds_identity.metadata.aio import MetadataClient
from metadata_support import Service, event
from support import FakeClock, ResponseFactory

if TYPE_CHECKING:
    from pathlib import Path


class Hurried(FakeClock):
    """Time that goes on by itself, a second at each look, so that nothing is slept away."""

    def now(self) -> float:
        self.seconds += 1
        return self.seconds


@pytest.fixture
def service() -> Service:
    return Service(Hurried())


def client_of(service: Service) -> MetadataClient:
    client = MetadataClient(endpoint="http://service")
    client._client = service.client()
    return client


def test_changes_come_one_after_another(service: Service) -> None:
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


def test_a_loop_that_is_left_has_told_its_last_change(service: Service, tmp_path: Path) -> None:
    async def first() -> Any:
        async for change in client_of(service).watch(state_file=tmp_path / "state"):
            return change.event.event_id
        raise AssertionError("there was a change")

    service.events = [event("A"), event("B"), event("C")]
    assert [asyncio.run(first()) for _ in range(3)] == ["A", "B", "C"]


def test_a_cancelled_wait_loses_nothing(service: Service) -> None:
    answering = threading.Event()
    send = service.send

    def slow(request: Any) -> Any:
        answer = send(request)
        if "scheduledevents" in request.url:
            answering.wait(10)
        return answer

    service.send = slow  # type: ignore[method-assign]

    async def listen() -> Any:
        watcher = client_of(service).watch()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(watcher.__anext__(), 0.05)
        answering.set()
        return await watcher.__anext__()

    service.events = [event("A")]
    assert asyncio.run(listen()).event.event_id == "A"
    assert service.asked.count("GET scheduledevents") == 1


def test_a_loop_may_end_while_a_request_is_under_way(service: Service) -> None:
    answering = threading.Event()
    send = service.send

    def never(request: Any) -> Any:
        answering.wait(30)
        return send(request)

    service.send = never  # type: ignore[method-assign]

    async def listen() -> None:
        client = client_of(service)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.watch().__anext__(), 0.05)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.instance(), 0.05)

    asyncio.run(listen())
    assert not answering.is_set()
    answering.set()


def test_a_watch_can_be_ended(service: Service) -> None:
    async def listen() -> list[Any]:
        watcher = client_of(service).watch()
        found = []
        async for change in watcher:
            found.append(change.event.event_id)
            watcher.stop()
        return found

    service.events = [event("A"), event("B")]
    assert asyncio.run(listen()) == ["A", "B"]


def test_an_error_reaches_who_waits(service: Service) -> None:
    service.bad = [ResponseFactory(FakeClock()).error(404)]
    with pytest.raises(errors.MetadataNotFoundError):
        asyncio.run(client_of(service).watch().__anext__())
