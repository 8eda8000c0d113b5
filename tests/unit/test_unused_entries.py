"""A process drops the entries of tokens that have expired and that no caller uses any more."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from imds_identity import ManagedIdentityCredential
from imds_identity._core.claims import Challenge
from imds_identity._core.failure import Refused
from imds_identity._http import transport
from imds_identity._token_cache.entry import UNUSED_SECONDS, CacheEntry, drop_unused
from imds_identity._token_cache.flight import Flight
from support import KEY, LIFETIME, FakeService, new_token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imds_identity._core.key import Key
    from imds_identity._core.token import Token
    from imds_identity._http.messages import Request, Response
    from imds_identity._http.runner import Sender
    from imds_identity._platform.clock import Clock
    from imds_identity._token_cache.cache import TokenCache
    from support import BackgroundQueue, FakeClock, ResponseFactory


def key(number: object) -> Key:
    return KEY._replace(resource=f"https://{number}.example")


def add_entries(token_cache: TokenCache, count: int = 40) -> None:
    """Add entries, which makes the cache look for unused ones."""
    for number in range(count):
        token_cache.entry(key(f"new-{number}"))


@pytest.fixture
def service(clock: FakeClock) -> FakeService:
    return FakeService(clock)


def test_entries_of_refused_scopes_are_dropped(
    token_cache: TokenCache, service: FakeService, clock: FakeClock
) -> None:
    service.error = Refused("no such resource")
    entries = []
    for number in range(500):
        entries.append(token_cache.entry(key(number)))
        with pytest.raises(Refused):
            token_cache.get(entries[-1], service)
        clock.seconds += 1
    assert sum(not entry.is_dropped for entry in entries) <= 2 * UNUSED_SECONDS


def test_valid_token_is_kept_however_long_it_is_not_used(
    token_cache: TokenCache, service: FakeService, clock: FakeClock
) -> None:
    entry = token_cache.entry(KEY)
    token_cache.get(entry, service)
    clock.seconds += LIFETIME - 1
    add_entries(token_cache)
    assert token_cache.entry(KEY) is entry
    clock.seconds += 1
    token_cache.entry(key("another"))
    add_entries(token_cache)
    assert token_cache.entry(KEY) is not entry


def test_entry_with_other_state_is_kept(clock: FakeClock) -> None:
    now = clock.now()

    def entry() -> CacheEntry:
        return CacheEntry(KEY, "", now - UNUSED_SECONDS)

    assert entry().is_unused(now)
    recent, failed, leased, challenged, fetching = (entry() for _ in range(5))
    recent.used_at = now
    failed.failure, failed.failure_until = Refused("no"), now + 1
    leased.leased.add(KEY)
    challenged.challenge = Challenge("c", now + 1)
    fetching.flights[None] = Flight(KEY, fetching.generation, None, lambda: new_token(clock), now)
    for kept in (recent, failed, leased, challenged, fetching):
        assert not kept.is_unused(now)
    assert failed.is_unused(now + 1)
    assert challenged.is_unused(now + 1)


def test_fetch_of_a_dropped_entry_is_shared_with_other_callers_of_its_key(
    token_cache: TokenCache, service: FakeService, clock: FakeClock
) -> None:
    dropped = token_cache.entry(KEY)
    clock.seconds += UNUSED_SECONDS
    add_entries(token_cache)
    assert dropped.is_dropped
    current = token_cache.entry(KEY)
    assert current is not dropped
    assert token_cache.get(dropped, service) is token_cache.get(current, service)
    assert service.fetches == 1


def test_entry_that_is_used_after_it_was_dropped_is_restored(
    token_cache: TokenCache, service: FakeService, clock: FakeClock
) -> None:
    entry = token_cache.entry(KEY)
    clock.seconds += UNUSED_SECONDS
    add_entries(token_cache)
    assert entry.is_dropped
    token_cache.get(entry, service)
    assert not entry.is_dropped
    assert token_cache.entry(KEY) is entry


def test_late_result_does_not_enter_the_entry_that_has_followed(
    token_cache: TokenCache, clock: FakeClock
) -> None:
    """The fetch was started before the cache was cleared, and its entry was dropped since."""
    entry = token_cache.entry(KEY)

    def fetch() -> Token:
        token_cache.clear()
        clock.seconds += UNUSED_SECONDS
        add_entries(token_cache)
        assert entry.is_dropped
        return new_token(clock, "from before the clear")

    assert token_cache.get(entry, fetch).value == "from before the clear"
    assert token_cache.entry(KEY).token is None


def test_dictionary_that_another_thread_changes_is_left_as_it_is() -> None:
    class Changing(dict[str, CacheEntry]):
        """A dictionary that another thread changes at any moment."""

        def __iter__(self) -> Iterator[str]:
            raise RuntimeError("dictionary changed size during iteration")

    entries = Changing(a=CacheEntry(KEY, "", 0.0))
    drop_unused(entries, lambda _: True)
    assert len(entries) == 1


def test_credential_forgets_dropped_entries_and_uses_new_ones(
    token_cache: TokenCache,
    clock: FakeClock,
    responses: ResponseFactory,
    background: BackgroundQueue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lifetime = 60

    @contextmanager
    def open_sender(_: Clock) -> Iterator[Sender]:
        def send(_request: Request) -> Response:
            return responses.token(f"token-{clock.now():.0f}", lifetime=lifetime)

        yield send

    monkeypatch.setattr(transport, "direct_sender", open_sender)
    credential = ManagedIdentityCredential(_token_cache=token_cache)
    first = credential.get_token("https://first.example").token
    for number in range(300):
        credential.get_token(f"https://{number}.example")
        clock.seconds += 1
    assert len(credential._entries) < 100
    lifetime = 1000
    second = credential.get_token("https://first.example").token
    assert second != first
    assert credential.get_token("https://first.example").token == second
    assert credential._entries["https://first.example"].token is not None
    other = ManagedIdentityCredential(_token_cache=token_cache)
    assert other.get_token("https://first.example").token == second


def test_sixteen_entries_are_examined_and_those_in_use_move_to_the_end() -> None:
    entries = {number: CacheEntry(KEY, "", 0.0) for number in range(40)}
    used = {entries[number] for number in (1, 3)}
    drop_unused(entries, lambda entry: entry not in used)
    assert list(entries) == [*range(16, 40), 1, 3]
