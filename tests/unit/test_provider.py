"""What a provider asks of the engine, with a clock that is moved by hand and a service by hand."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from imds_identity import _wire
from imds_identity._core.failure import Refused
from imds_identity._core.identity import choose
from imds_identity._engine.broker import Broker
from imds_identity._engine.flight import LONGEST_FETCH
from imds_identity._engine.provider import Provider
from imds_identity._machine.entries import Entry
from imds_identity._machine.lease import Lease
from imds_identity._machine.store import MachineCache
from imds_identity._sources.kinds import ImdsSource
from imds_identity._wire import sender
from support import Background, machine_in, middle, token_now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imds_identity._core.key import Key
    from imds_identity._runtime.clock import Clock
    from imds_identity._wire.channel import Sender
    from imds_identity._wire.exchange import Request, Response
    from support import Answers, FakeClock


def test_a_service_that_always_asks_for_more_time_does_not_get_it(
    broker: Broker, clock: FakeClock, answers: Answers, tmp_path: Path
) -> None:
    """Those who wait must not give up a fetch that is still being made by the rules."""

    @contextmanager
    def opened(_: Clock) -> Iterator[Sender]:
        def send(request: Request) -> Response:
            clock.seconds += request.seconds
            return answers.error(503, retry_after="60")

        yield send

    endpoint = "http://169.254.169.254/metadata/identity/oauth2/token"
    source = ImdsSource(endpoint, "AZURE_POD_IDENTITY_AUTHORITY_HOST")
    provider = Provider(source, choose(), broker, machine_in(tmp_path / "cache", clock))
    started = clock.now()
    with pytest.raises(Refused, match="503"):
        provider.token(provider.slot("https://vault.azure.net"), None, opened)
    assert clock.now() - started < LONGEST_FETCH


def test_others_are_told_that_what_sends_must_be_loaded_first(
    broker: Broker, clock: FakeClock, answers: Answers, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Else they take a busy machine's process for a stopped one, and ask the service, too."""
    expected: list[float] = []

    @contextmanager
    def opened(_: Clock) -> Iterator[Sender]:
        yield lambda _request: answers.token()

    monkeypatch.setattr(Lease, "extend", lambda _lease, seconds: expected.append(seconds))
    # Noted first, so that both are as before afterwards: the room knows its module, too.
    monkeypatch.setattr(_wire, "sender", sender)
    monkeypatch.delitem(sys.modules, sender.__name__)
    source = ImdsSource("http://127.0.0.1:9/token", "AZURE_POD_IDENTITY_AUTHORITY_HOST")
    provider = Provider(source, choose(), broker, machine_in(tmp_path / "cache", clock))
    provider.token(provider.slot("https://vault.azure.net"), None, opened)
    provider.token(provider.slot("https://other.azure.net"), None, opened)
    assert expected.count(30.0) == 1
    assert expected.index(30.0) < 2


def test_another_thread_may_settle_meanwhile_where_tokens_come_from(broker: Broker) -> None:
    source = ImdsSource("http://169.254.169.254/metadata/identity/oauth2/token")
    seen: list[object] = [lambda: source, None, None]

    class Raced(Provider):
        """Another thread has settled it when one looks for the second time."""

        _look_again = property(lambda _: seen.pop(0), lambda _, value: None)

    provider = Raced(source, choose(), broker, None)
    assert provider.slot("https://vault.azure.net").key.endpoint == source.endpoint


def test_what_the_service_hands_out_while_it_meets_a_challenge_is_not_the_answer(
    clock: FakeClock, answers: Answers, tmp_path: Path
) -> None:
    """It may have been asked for later, and be the revoked token out of the service's own cache."""
    machine = machine_in(tmp_path / "cache", clock)
    source = ImdsSource("http://169.254.169.254/metadata/identity/oauth2/token", "A_VARIABLE")
    refused, unaware = (
        Provider(source, choose(), Broker(clock, middle, Background()), machine) for _ in range(2)
    )
    asked = []

    @contextmanager
    def opened(_: Clock) -> Iterator[Sender]:
        def send(request: Request) -> Response:
            asked.append("bypass_cache" in request.url)
            if not asked[-1]:
                return answers.token("revoked")
            answer = answers.token("new")
            clock.seconds += 1
            unaware.token(unaware.slot("https://vault.azure.net"), None, opened)
            clock.seconds += 1
            return answer

        yield send

    claims = '{"access_token": {"xms_event": {}}}'
    for process in (refused, unaware):
        slot = process.slot("https://vault.azure.net")
        assert process.token(slot, claims, opened).value == "new"
        assert process.token(slot, None, opened).value == "new"
    assert asked == [True, False]


def test_what_was_read_before_everything_was_forgotten_is_not_taken_over(
    broker: Broker, clock: FakeClock, answers: Answers, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    machine, read = machine_in(tmp_path / "cache", clock), MachineCache.read
    source = ImdsSource("http://169.254.169.254/metadata/identity/oauth2/token", "A_VARIABLE")
    provider = Provider(source, choose(), broker, machine)
    slot = provider.slot("https://vault.azure.net")
    machine.write(Entry(slot.key, token_now(clock, "of-before")))

    def read_and_cleared(self: MachineCache, key: Key) -> Entry | None:
        entry = read(self, key)
        broker.clear()  # another thread does
        machine.clear()
        return entry

    @contextmanager
    def opened(_: Clock) -> Iterator[Sender]:
        yield lambda request: answers.token("of-after")

    monkeypatch.setattr(MachineCache, "read", read_and_cleared)
    assert provider.token(slot, None, opened).value == "of-after"
