"""Checks of other processes' tokens, which one thread runs in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imds_identity._token_cache.background_checks import BackgroundChecks
from support import KEY, BackgroundQueue

if TYPE_CHECKING:
    from imds_identity._core.key import Key
    from support import FakeClock


def key(number: int) -> Key:
    return KEY._replace(resource=str(number))


@pytest.fixture
def checks(clock: FakeClock, background: BackgroundQueue) -> BackgroundChecks:
    return BackgroundChecks(clock, background)


def test_one_thread_runs_one_check_for_each_key(
    checks: BackgroundChecks, background: BackgroundQueue
) -> None:
    done: list[int] = []
    for number in (1, 2, 1, 3, 2):
        checks.add(key(number), lambda number=number: done.append(number))  # type: ignore[misc]
    assert len(background.waiting) == 1
    background.run()
    assert done == [1, 2, 3]
    checks.add(key(1), lambda: done.append(4))
    assert len(background.waiting) == 1
    background.run()
    assert done == [1, 2, 3, 4]


@pytest.mark.parametrize(("seconds", "threads"), [(59.9, 1), (60.0, 2)])
def test_check_that_hangs_for_a_minute_does_not_delay_others(
    checks: BackgroundChecks,
    background: BackgroundQueue,
    clock: FakeClock,
    seconds: float,
    threads: int,
) -> None:
    def hang() -> None:
        """Add another check while this one has been running for so long."""
        clock.seconds += seconds
        checks.add(key(2), lambda: None)

    checks.add(key(1), hang)
    clock.seconds += 30  # until the thread starts
    background.waiting.pop()()
    assert len(background.waiting) == threads - 1


def test_check_is_kept_until_a_thread_can_be_started(clock: FakeClock) -> None:
    done: list[str] = []

    def cannot_start(run: object, *, blocks: bool) -> None:
        assert not blocks
        raise RuntimeError("can't start new thread")

    checks = BackgroundChecks(clock, cannot_start)
    checks.add(key(1), lambda: done.append("first"))
    checks._start = queue = BackgroundQueue()
    checks.add(key(2), lambda: done.append("second"))
    queue.run()
    assert done == ["first", "second"]


def test_forked_child_starts_without_the_checks_of_its_parent(
    checks: BackgroundChecks, background: BackgroundQueue
) -> None:
    done: list[str] = []
    checks.add(key(1), lambda: done.append("of the parent"))
    background.waiting.clear()
    checks.reset()
    checks.add(key(2), lambda: done.append("of the child"))
    background.run()
    assert done == ["of the child"]
