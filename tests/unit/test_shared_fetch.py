"""One fetch for all processes of a machine: its token, its failure, and claims challenges."""

from __future__ import annotations

import base64
import errno
import sys
from contextvars import Context
from typing import TYPE_CHECKING

import pytest

from imds_identity._core.claims import ANSWER_SECONDS
from imds_identity._core.failure import Malformed, Refused
from imds_identity._shared_cache.record import Record
from imds_identity._token_cache.cache import TokenCache
from imds_identity._token_cache.fetch import Fetch
from support import (
    KEY,
    LIFETIME,
    BackgroundQueue,
    FakeClock,
    FakeService,
    new_token,
    no_jitter,
    shared_cache_in,
)

if TYPE_CHECKING:
    from pathlib import Path

    from imds_identity._core.token import Token
    from imds_identity._shared_cache.store import SharedCache
    from imds_identity._token_cache.entry import CacheEntry


@pytest.fixture
def shared_cache(tmp_path: Path, clock: FakeClock) -> SharedCache:
    return shared_cache_in(tmp_path / "cache", clock)


class Process:
    """A process with its own token cache and the shared cache."""

    def __init__(
        self, shared_cache: SharedCache, service: FakeService, background: BackgroundQueue
    ) -> None:
        self.shared_cache = shared_cache
        self.service = service
        self.token_cache = TokenCache(shared_cache.clock, no_jitter, background)
        self.entry: CacheEntry = self.token_cache.entry(KEY)

    def get(self, claims: str | None = None) -> str:
        fetch = Fetch(
            self.entry, claims, lambda heartbeat: self.service(), self.shared_cache, no_jitter
        )
        return self.token_cache.get(self.entry, fetch, claims).value


@pytest.fixture
def service(clock: FakeClock) -> FakeService:
    return FakeService(clock)


@pytest.fixture
def processes(
    shared_cache: SharedCache, service: FakeService, background: BackgroundQueue
) -> list[Process]:
    return [Process(shared_cache, service, background) for _ in range(60)]


class TestSharedFetch:
    def test_one_process_fetches_for_all_processes(
        self, processes: list[Process], service: FakeService
    ) -> None:
        assert {process.get() for process in processes} == {"token-1"}
        assert service.fetches == 1

    def test_due_token_is_refreshed_by_one_process_and_used_by_all(
        self,
        processes: list[Process],
        service: FakeService,
        clock: FakeClock,
        background: BackgroundQueue,
    ) -> None:
        for process in processes:
            process.get()
        clock.seconds += LIFETIME / 2
        assert {process.get() for process in processes} == {"token-1"}
        background.run()
        assert {process.get() for process in processes} == {"token-2"}
        assert service.fetches == 2

    def test_due_token_of_another_process_is_used_by_a_process_without_one(
        self, processes: list[Process], service: FakeService, clock: FakeClock
    ) -> None:
        processes[0].get()
        clock.seconds += LIFETIME * 0.75
        assert processes[1].get() == "token-1"
        assert service.fetches == 1

    def test_expired_token_of_another_process_is_not_used(
        self, processes: list[Process], service: FakeService, clock: FakeClock
    ) -> None:
        processes[0].get()
        clock.seconds += LIFETIME
        assert processes[1].get() == "token-2"
        assert service.fetches == 2

    def test_one_process_retries_for_all_during_an_outage(
        self,
        processes: list[Process],
        service: FakeService,
        clock: FakeClock,
        background: BackgroundQueue,
    ) -> None:
        for process in processes:
            process.get()
        service.error = Refused("down")
        clock.seconds += LIFETIME / 2
        assert {process.get() for process in processes} == {"token-1"}
        background.run()
        assert {process.get() for process in processes} == {"token-1"}
        assert service.fetches == 2
        service.error = None
        clock.seconds += 31
        assert {process.get() for process in processes} == {"token-1"}
        background.run()
        assert {process.get() for process in processes} == {"token-3"}
        assert service.fetches == 3

    def test_failure_is_shared_for_two_seconds(
        self, processes: list[Process], service: FakeService, clock: FakeClock
    ) -> None:
        service.error = Malformed("nonsense", status=200)
        for process in processes:
            with pytest.raises(Malformed, match="nonsense"):
                process.get()
        assert service.fetches == 1
        service.error = None
        clock.seconds += 2
        assert {process.get() for process in processes} == {"token-2"}

    def test_claims_challenge_bypasses_and_replaces_the_shared_token(
        self, processes: list[Process], service: FakeService
    ) -> None:
        first, second, third = processes[:3]
        assert (first.get(), second.get()) == ("token-1", "token-1")
        assert second.get(claims="c") == "token-2"
        assert third.get() == "token-2"
        assert service.fetches == 2

    def test_token_fetched_for_claims_satisfies_them_in_another_process(
        self, processes: list[Process], service: FakeService, clock: FakeClock
    ) -> None:
        assert processes[0].get() == "token-1"
        assert processes[1].get(claims="c") == "token-2"
        assert processes[2].get(claims="c") == "token-2"
        assert processes[3].get(claims="d") == "token-3"
        clock.seconds += ANSWER_SECONDS
        assert (
            processes[4].get(claims="d") == "token-4"
        )  # the resource may have refused the earlier token since
        assert service.fetches == 4

    def test_caller_that_repeats_its_claims_gets_another_token(
        self, processes: list[Process], clock: FakeClock
    ) -> None:
        """The resource has rejected the token that was fetched for them."""
        first, second = processes[:2]
        assert first.get() == "token-1"
        for expected in ("token-2", "token-3"):
            clock.seconds += 1
            assert first.get(claims="c") == expected
        assert second.get(claims="c") == "token-3"

    def test_token_issued_before_the_claims_never_satisfies_them(
        self, processes: list[Process], shared_cache: SharedCache, clock: FakeClock
    ) -> None:
        first = processes[0]
        assert first.get() == "token-1"
        clock.seconds += 1
        payload = base64.urlsafe_b64encode(b'{"nbf": 1000}').decode()
        shared_cache.write(Record(KEY, new_token(clock, f"e30.{payload}.x")))
        claims = '{"access_token": {"nbf": {"value": "%d"}}}'
        assert first.get(claims % 1000) == "token-2"

    def test_request_without_claims_does_not_wait_for_one_with_claims(
        self, processes: list[Process], service: FakeService, clock: FakeClock
    ) -> None:
        first, second, third = processes[:3]
        assert first.get() == "token-1"
        clock.seconds += LIFETIME  # all tokens have expired
        slow, seen = first.service, []

        def fetch() -> Token:
            started = clock.now()
            seen.extend([second.get(), third.get()])
            assert clock.now() == started
            return slow()

        first.service = fetch  # type: ignore[assignment]
        assert first.get(claims="c") == "token-3"
        assert seen == ["token-2", "token-2"]

    def test_token_is_not_shared_if_the_cache_was_cleared_during_the_fetch(
        self, processes: list[Process], shared_cache: SharedCache
    ) -> None:
        process = processes[0]
        fetch = process.service

        def cleared() -> Token:
            process.token_cache.clear()
            return fetch()

        process.service = cleared  # type: ignore[assignment]
        process.get()
        assert shared_cache.read(KEY) is None

    @pytest.mark.parametrize("claims", [None, "c"])
    def test_process_does_not_wait_for_its_own_lease(
        self, processes: list[Process], service: FakeService, clock: FakeClock, claims: str | None
    ) -> None:
        """After the cache was cleared, a second fetch starts while the first is in progress."""
        process = processes[0]
        fetch, seen = process.service, []

        def cleared() -> Token:
            process.service = fetch
            process.token_cache.clear()
            started = clock.now()
            # The second fetch is not part of the first, but of another thread.
            seen.append(Context().run(process.get, claims))
            assert clock.now() == started
            return fetch()

        process.service = cleared  # type: ignore[assignment]
        assert process.get(claims) == "token-2"
        assert seen == ["token-1"]
        assert not process.entry.leased

    def test_process_without_a_lease_fetches_and_shares_nothing(
        self,
        processes: list[Process],
        shared_cache: SharedCache,
        service: FakeService,
        clock: FakeClock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("imds_identity._shared_cache.store.LONGEST_LEASE_SECONDS", 0.0)
        other = shared_cache_in(shared_cache.directory.path, clock)
        with other.leased(shared_cache.name_of(KEY)) as lease:
            assert lease
            assert processes[0].get() == "token-1"
        assert shared_cache.read(KEY) is None
        assert service.fetches == 1

    @pytest.mark.skipif(sys.platform == "win32", reason="needs fcntl")
    def test_file_system_without_locks_causes_one_warning(
        self,
        processes: list[Process],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        import fcntl

        def unsupported(descriptor: int, operation: int) -> None:
            raise OSError(errno.ENOSYS, "Function not implemented")

        monkeypatch.setattr(fcntl, "flock", unsupported)
        assert processes[0].get() == "token-1"
        assert len(caplog.records) == 1
        assert "cannot be locked" in caplog.text
