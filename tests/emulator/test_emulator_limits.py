from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from imds_identity.emulator import ManualClock
from imds_identity.emulator._state.limits import Limits

if TYPE_CHECKING:
    import requests

    from emulator.support import Ask, Start


def test_identity_gets_twenty_in_any_second(clock: ManualClock) -> None:
    limits = Limits(clock, enabled=True)
    assert [limits.admit("identity") for _ in range(21)] == [True] * 20 + [False]
    clock.advance(0.5)
    assert not limits.admit("identity")
    clock.advance(0.5)
    assert limits.admit("identity")


def test_identity_gets_five_at_once(clock: ManualClock) -> None:
    limits = Limits(clock, enabled=True)
    for _ in range(5):
        assert limits.admit("identity")
        limits.begin("identity")
    assert not limits.admit("identity")
    limits.end("identity")
    assert limits.admit("identity")


def test_all_other_categories_share_five_in_any_second(clock: ManualClock) -> None:
    limits = Limits(clock, enabled=True)
    categories = ["instance", "versions", "attested", "loadbalancer", "scheduledevents"]
    assert all(limits.admit(category) for category in categories)
    assert not limits.admit("instance")
    assert limits.admit("identity")
    assert limits.admit("key-vault")


def test_a_clock_set_back_does_not_lock_the_door(clock: ManualClock) -> None:
    limits = Limits(clock, enabled=True)
    for _ in range(5):
        limits.admit("instance")
    clock.advance(-3600)
    assert limits.admit("instance")


def test_nothing_is_limited_unless_asked(started: Start, ask: Ask) -> None:
    emulator = started(clock=ManualClock())
    assert {ask(emulator).status_code for _ in range(30)} == {200}


def test_too_many_requests_get_429(started: Start, ask: Ask, get: Ask) -> None:
    emulator = started(limits=True, latency=0, clock=ManualClock())
    assert [ask(emulator).status_code for _ in range(21)] == [200] * 20 + [429]
    assert emulator.requests[-1].note == "limited"
    statuses = [get(emulator, "/metadata/versions").status_code for _ in range(6)]
    assert statuses == [200] * 5 + [429]


def test_a_sixth_request_at_once_gets_429(started: Start, ask: Ask, http: requests.Session) -> None:
    emulator = started(limits=True, latency=0.3, clock=ManualClock())
    ask(emulator)
    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(lambda _: ask(emulator).status_code, range(8)))
    assert statuses == [200] * 5 + [429] * 3
    assert ask(emulator).status_code == 200
