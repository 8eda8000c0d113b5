"""The threads of the asynchronous metadata client."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING

import pytest

from imds_identity.metadata import MetadataError, aio

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 2


@pytest.fixture(autouse=True)
def _few_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(aio, "MOST_THREADS", MOST)
    monkeypatch.setattr(aio, "_POLL_SECONDS", 0.001)
    yield
    assert not aio._running


def test_only_a_few_threads_run_at_once() -> None:
    running, most = set[int](), set[int]()

    def call(number: int) -> int:
        running.add(number)
        most.add(len(running))
        threading.Event().wait(0.005)
        running.discard(number)
        return number

    async def main() -> list[int]:
        return await asyncio.gather(*(aio._in_thread(call, number) for number in range(6)))

    assert asyncio.run(main()) == list(range(6))
    assert max(most) <= MOST


def test_call_that_is_canceled_before_it_has_a_thread_is_not_made() -> None:
    release, made = threading.Event(), list[int]()

    def call(number: int) -> None:
        made.append(number)
        assert release.wait(10)

    async def main() -> None:
        tasks = [asyncio.ensure_future(aio._in_thread(call, number)) for number in range(MOST + 1)]
        while len(made) < MOST:  # noqa: ASYNC110 - threads set it
            await asyncio.sleep(0.001)
        tasks[-1].cancel()
        release.set()
        await asyncio.gather(*tasks[:-1])

    asyncio.run(main())
    assert sorted(made) == list(range(MOST))


def test_canceled_tasks_do_not_make_room_for_more_threads() -> None:
    """Their threads continue: a program that repeats a call with a timeout would start many."""
    release, made = threading.Event(), list[int]()

    def call(number: int) -> None:
        made.append(number)
        release.wait(10)

    async def main() -> None:
        tasks = [asyncio.ensure_future(aio._in_thread(call, number)) for number in range(MOST)]
        while len(made) < MOST:  # noqa: ASYNC110 - threads set it
            await asyncio.sleep(0.001)
        for task in tasks:
            task.cancel()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(aio._in_thread(call, MOST), 0.02)
        release.set()
        await aio._in_thread(int)

    asyncio.run(main())
    while aio._running:
        threading.Event().wait(0.001)
    assert sorted(made) == list(range(MOST))


@pytest.mark.parametrize("name", ["timeout", "seconds"])
def test_timeout_limits_the_wait_for_a_thread(name: str) -> None:
    release, given = threading.Event(), list[float]()

    def block() -> None:
        release.wait(10)

    def record(**keywords: float) -> None:
        given.append(keywords[name])

    async def main() -> None:
        tasks = [asyncio.ensure_future(aio._in_thread(block)) for _ in range(MOST)]
        await asyncio.sleep(0)
        with pytest.raises(MetadataError, match=r"no request was sent within 0\.01 s"):
            await aio._in_thread(record, **{name: 0.01})
        late = asyncio.ensure_future(aio._in_thread(record, **{name: 9.0}))
        await asyncio.sleep(0.002)
        release.set()
        await asyncio.gather(late, *tasks)

    asyncio.run(main())
    assert len(given) == 1
    assert 0 < given[0] < 9


def test_lack_of_threads_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_run: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(aio, "start_thread", fail)
    with pytest.raises(MetadataError, match="out of files, threads or memory"):
        asyncio.run(aio._in_thread(int))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_child_does_not_count_the_threads_of_its_parent() -> None:
    markers = [object() for _ in range(MOST)]
    aio._running.update(markers)
    child = os.fork()
    if not child:
        os._exit(len(aio._running))
    assert os.waitpid(child, 0)[1] == 0
    aio._running.clear()
