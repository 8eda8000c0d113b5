"""One flight per key, with a clock that is moved by hand and background work run by hand."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._core.failure import Failure, Refused
from imds_identity._core.key import Key
from imds_identity._core.token import Token
from imds_identity._engine import broker as broker_module
from imds_identity._engine.broker import NEVER, Broker, Interrupted, Slot

if TYPE_CHECKING:
    from collections.abc import Callable

    from support import Background, FakeClock

KEY = Key("imds", "http://service", "", "", "https://vault")
LIFE = 86400.0


class Service:
    """Counts fetches and gives what the test wants."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.fetches = 0
        self.error: BaseException | None = None

    def token(self) -> Token:
        now, wall = self.clock.now(), int(self.clock.wall())
        half = LIFE / 2
        return Token(
            f"token-{self.fetches}", "Bearer", int(wall + LIFE), int(wall + half), now,
            now + half, now + LIFE,
        )  # fmt: skip

    def __call__(self) -> Token:
        self.fetches += 1
        if self.error:
            raise self.error
        return self.token()


@pytest.fixture
def service(clock: FakeClock) -> Service:
    return Service(clock)


@pytest.fixture
def slot(broker: Broker) -> Slot:
    return broker.slot(KEY)


def test_a_second_request_is_answered_from_memory(
    broker: Broker, slot: Slot, service: Service
) -> None:
    assert broker.get(slot, service) is broker.get(slot, service)
    assert service.fetches == 1
    assert broker.slot(KEY) is slot


def test_an_expired_token_is_waited_for(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock
) -> None:
    broker.get(slot, service)
    clock.seconds += LIFE
    assert broker.get(slot, service).value == "token-2"


def test_a_due_token_is_served_and_refreshed_once_in_the_background(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock, background: Background
) -> None:
    broker.get(slot, service)
    clock.seconds += LIFE / 2
    assert [broker.get(slot, service).value for _ in range(9)] == ["token-1"] * 9
    assert len(background.waiting) == 1
    background.run()
    assert broker.get(slot, service).value == "token-2"
    assert service.fetches == 2


def test_a_failed_refresh_goes_unnoticed_until_the_token_really_expires(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock, background: Background
) -> None:
    broker.get(slot, service)
    end = clock.now() + LIFE
    service.error = Refused("down")
    clock.seconds += LIFE / 2
    while clock.now() + 10 < end:
        assert broker.get(slot, service).value == "token-1"
        background.run()
        clock.seconds += 10
    assert LIFE / 2 / 300 <= service.fetches <= LIFE / 2 / 300 + 10  # backed off to 5 minutes
    clock.seconds = end
    with pytest.raises(Refused, match="down"):
        broker.get(slot, service)


def test_a_failed_refresh_is_logged_without_a_token(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock, background: Background,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    broker.get(slot, service)
    clock.seconds += LIFE / 2
    service.error = Refused("down")
    broker.get(slot, service)
    background.run()
    [record] = caplog.records
    assert "good for 720 more minutes" in record.message
    assert "next attempt is in 30 s: down" in record.message
    assert "token-1" not in record.message


def test_a_service_that_asks_for_rest_gets_it(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock, background: Background
) -> None:
    broker.get(slot, service)
    clock.seconds += LIFE / 2
    service.error = Refused("throttled", retry_after=3000)
    broker.get(slot, service)
    background.run()
    clock.seconds += 2999
    broker.get(slot, service)
    assert not background.waiting
    clock.seconds += 1
    broker.get(slot, service)
    assert background.waiting


def test_a_failure_is_remembered_for_two_seconds(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock
) -> None:
    service.error = Refused("down")
    for _ in range(5):
        with pytest.raises(Refused):
            broker.get(slot, service)
    assert service.fetches == 1
    clock.seconds += 2
    service.error = None
    assert broker.get(slot, service).value == "token-2"


def test_claims_skip_memory_and_replace_what_it_holds(
    broker: Broker, slot: Slot, service: Service
) -> None:
    broker.get(slot, service)
    assert broker.get(slot, service, claims="c").value == "token-2"
    assert broker.get(slot, service, claims="c").value == "token-3"
    assert broker.get(slot, service).value == "token-3"


def test_a_plain_fetch_under_way_does_not_bring_a_refused_token_back(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock, background: Background
) -> None:
    broker.get(slot, service)
    clock.seconds += LIFE / 2
    broker.get(slot, service)
    assert broker.get(slot, service, claims="c").value == "token-2"
    background.run()
    assert service.fetches == 3
    assert broker.get(slot, service).value == "token-2"


def test_clear_forgets_also_what_is_on_its_way(
    broker: Broker, slot: Slot, service: Service
) -> None:
    def fetch() -> Token:
        broker.clear()
        return service()

    assert broker.get(slot, fetch).value == "token-1"
    assert slot.token is None
    assert slot.hit_until == NEVER
    assert broker.get(slot, service).value == "token-2"


def together(count: int, work: Callable[[], Any]) -> list[Any]:
    """What ``count`` threads get that start ``work`` at once."""
    barrier = threading.Barrier(count)
    results: list[Any] = []

    def run() -> None:
        barrier.wait()
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def held_back(service: Service, waiters: int, slot: Slot) -> Callable[[], Token]:
    """A fetch that takes until everybody else is waiting for it."""

    def fetch() -> Token:
        flight = slot.flights[None]
        while len(flight.future._condition._waiters) < waiters:  # type: ignore[attr-defined]
            pass
        return service()

    return fetch


def test_64_threads_make_one_request(broker: Broker, slot: Slot, service: Service) -> None:
    fetch = held_back(service, 63, slot)
    results = together(64, lambda: broker.get(slot, fetch))
    assert service.fetches == 1
    assert {token.value for token in results} == {"token-1"}


def test_all_who_wait_get_the_error_each_as_its_own(
    broker: Broker, slot: Slot, service: Service
) -> None:
    service.error = Refused("down", "wait", status=503)
    fetch = held_back(service, 15, slot)
    results = together(16, lambda: broker.get(slot, fetch))
    assert service.fetches == 1
    assert len({id(error) for error in results}) == 16
    assert all(isinstance(e, Refused) and str(e) == "down. wait" for e in results)
    assert all(e.status == 503 and e.__context__ is None for e in results)


def test_when_the_one_who_fetches_is_interrupted_another_goes_on(
    broker: Broker, slot: Slot, service: Service
) -> None:
    attempts = iter([KeyboardInterrupt(), None, None])
    waiting = held_back(service, 3, slot)

    def fetch() -> Token:
        error = next(attempts)
        if error:
            waiting()
            raise error
        return service()

    results = together(4, lambda: broker.get(slot, fetch))
    assert sum(isinstance(r, KeyboardInterrupt) for r in results) == 1
    assert sum(isinstance(r, Token) for r in results) == 3


def test_a_thread_that_asks_while_it_fetches_is_told_so(broker: Broker, slot: Slot) -> None:
    def fetch() -> Token:
        return broker.get(slot, fetch)

    with pytest.raises(Refused, match="this very thread was fetching it"):
        broker.get(slot, fetch)


def test_an_error_that_is_no_failure_reaches_the_caller(broker: Broker, slot: Slot) -> None:
    def fetch() -> Token:
        raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            broker.get(slot, fetch)


def test_launch_gives_a_future_that_no_waiter_can_cancel(
    broker: Broker, slot: Slot, service: Service, background: Background
) -> None:
    first, second = broker.launch(slot, service), broker.launch(slot, service)
    assert first is second
    assert not isinstance(first, Token)
    assert not first.cancel()
    background.run()
    assert first.result().value == "token-1"
    assert isinstance(broker.launch(slot, service), Token)


def test_where_no_thread_can_be_started_the_present_token_is_served(
    clock: FakeClock, service: Service
) -> None:
    def no_thread(run: Callable[[], object]) -> None:
        raise RuntimeError("can't start new thread")

    broker = Broker(clock, lambda: 0.5, no_thread)
    slot = broker.slot(KEY)
    broker.get(slot, service)
    clock.seconds += LIFE / 2
    assert broker.get(slot, service).value == "token-1"
    future = broker.launch(broker.slot(KEY._replace(resource="other")), service)
    assert not isinstance(future, Token)
    assert isinstance(future.exception(), RuntimeError)


def test_after_a_fork_nobody_waits_for_a_thread_of_the_parent(
    broker: Broker, slot: Slot, service: Service, background: Background
) -> None:
    broker.launch(slot, service)
    background.waiting.clear()  # as the thread that was to run it is gone
    broker._lock.acquire()  # as another thread of the parent may have held it
    broker_module._after_fork()
    assert broker.get(slot, service).value == "token-1"


def test_interrupted_is_for_the_engine_alone() -> None:
    assert not issubclass(Interrupted, Failure)


def test_a_shown_token_is_looked_at_again_within_a_minute(
    broker: Broker, slot: Slot, service: Service, clock: FakeClock
) -> None:
    made: list[Token] = []

    def forms(token: Token) -> tuple[str, str]:
        made.append(token)
        return f"form-{len(made)}", "info"

    token = broker.get(slot, service)
    broker.show(slot, token, forms)
    assert slot.hit_until == clock.tick() + 60
    clock.seconds += LIFE / 2 - 10
    broker.show(slot, token, forms)
    assert slot.hit_until == clock.tick() + 10
    assert (slot.access_token, len(made)) == ("form-1", 1)


def test_a_token_that_was_replaced_meanwhile_is_shown_but_not_handed_out(
    broker: Broker, slot: Slot, service: Service
) -> None:
    token = broker.get(slot, service)
    broker.clear()
    assert broker.show(slot, token, lambda token: (token.value, "info")) == ("token-1", "info")
    assert slot.hit_until == NEVER
