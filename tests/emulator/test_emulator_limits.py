from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from imds_identity.emulator import ManualClock
from imds_identity.emulator._state.limits import Limits

if TYPE_CHECKING:
    import requests

    from emulator.support import Send, Start


def test_identity_category_allows_twenty_requests_per_second(clock: ManualClock) -> None:
    limits = Limits(clock, enabled=True)
    assert [limits.admit("identity") for _ in range(21)] == [True] * 20 + [False]
    clock.advance(0.5)
    assert not limits.admit("identity")
    clock.advance(0.5)
    assert limits.admit("identity")


def test_identity_category_allows_five_concurrent_requests(clock: ManualClock) -> None:
    limits = Limits(clock, enabled=True)
    for _ in range(5):
        assert limits.admit("identity")
        limits.begin("identity")
    assert not limits.admit("identity")
    limits.end("identity")
    assert limits.admit("identity")


def test_other_categories_share_five_requests_per_second(clock: ManualClock) -> None:
    limits = Limits(clock, enabled=True)
    categories = ["instance", "versions", "attested", "loadbalancer", "scheduledevents"]
    assert all(limits.admit(category) for category in categories)
    assert not limits.admit("instance")
    assert limits.admit("identity")
    assert limits.admit("key-vault")


def test_clock_that_is_set_back_does_not_block_requests(clock: ManualClock) -> None:
    limits = Limits(clock, enabled=True)
    for _ in range(5):
        limits.admit("instance")
    clock.advance(-3600)
    assert limits.admit("instance")


def test_limits_are_off_by_default(start_emulator: Start, request_token: Send) -> None:
    emulator = start_emulator(clock=ManualClock())
    assert {request_token(emulator).status_code for _ in range(30)} == {200}


def test_too_many_requests_get_429(start_emulator: Start, request_token: Send, get: Send) -> None:
    emulator = start_emulator(limits=True, latency=0, clock=ManualClock())
    assert [request_token(emulator).status_code for _ in range(21)] == [200] * 20 + [429]
    assert emulator.requests[-1].note == "limited"
    assert "Temporarily throttled, too many requests" in emulator.requests[-1].answer
    statuses = [get(emulator, "/metadata/versions").status_code for _ in range(6)]
    assert statuses == [200] * 5 + [429]


def test_sixth_concurrent_request_gets_429(
    start_emulator: Start, request_token: Send, http: requests.Session
) -> None:
    emulator = start_emulator(limits=True, latency=0.3, clock=ManualClock())
    request_token(emulator)
    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(lambda _: request_token(emulator).status_code, range(8)))
    assert statuses == [200] * 5 + [429] * 3
    assert request_token(emulator).status_code == 200
