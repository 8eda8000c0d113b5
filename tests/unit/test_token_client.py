"""What a provider asks of the engine, with a clock that is moved by hand and a service by hand."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from imds_identity import _http
from imds_identity._core.failure import Refused
from imds_identity._core.identity import parse_identity
from imds_identity._http import transport as sender
from imds_identity._shared_cache.lease import Lease
from imds_identity._shared_cache.record import Record
from imds_identity._shared_cache.store import SharedCache
from imds_identity._sources.imds import ImdsSource
from imds_identity._token_cache.cache import TokenCache
from imds_identity._token_cache.client import TokenClient
from imds_identity._token_cache.flight import LONGEST_FETCH
from support import BackgroundQueue, no_jitter, shared_cache_in, token_now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imds_identity._core.key import Key
    from imds_identity._http.messages import Request, Response
    from imds_identity._http.runner import Sender
    from imds_identity._platform.clock import Clock
    from support import FakeClock, ResponseFactory


def test_a_service_that_always_asks_for_more_time_does_not_get_it(
    token_cache: TokenCache, clock: FakeClock, responses: ResponseFactory, tmp_path: Path
) -> None:
    """Those who wait must not give up a fetch that is still being made by the rules."""

    @contextmanager
    def opened(_: Clock) -> Iterator[Sender]:
        def send(request: Request) -> Response:
            clock.seconds += request.seconds
            return responses.error(503, retry_after="60")

        yield send

    endpoint = "http://169.254.169.254/metadata/identity/oauth2/token"
    source = ImdsSource(endpoint, "AZURE_POD_IDENTITY_AUTHORITY_HOST")
    client = TokenClient(
        source, parse_identity(), token_cache, shared_cache_in(tmp_path / "cache", clock)
    )
    started = clock.now()
    with pytest.raises(Refused, match="503"):
        client.token(client.entry("https://vault.azure.net"), None, opened)
    assert clock.now() - started < LONGEST_FETCH


def test_others_are_told_that_what_sends_must_be_loaded_first(
    token_cache: TokenCache, clock: FakeClock, responses: ResponseFactory, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Else they take a busy machine's process for a stopped one, and ask the service, too."""
    expected: list[float] = []

    @contextmanager
    def opened(_: Clock) -> Iterator[Sender]:
        yield lambda _request: responses.token()

    monkeypatch.setattr(Lease, "extend", lambda _lease, seconds: expected.append(seconds))
    # Noted first, so that both are as before afterwards: the room knows its module, too.
    monkeypatch.setattr(_http, "transport", sender)
    monkeypatch.delitem(sys.modules, sender.__name__)
    source = ImdsSource("http://127.0.0.1:9/token", "AZURE_POD_IDENTITY_AUTHORITY_HOST")
    client = TokenClient(
        source, parse_identity(), token_cache, shared_cache_in(tmp_path / "cache", clock)
    )
    client.token(client.entry("https://vault.azure.net"), None, opened)
    client.token(client.entry("https://other.azure.net"), None, opened)
    assert expected.count(30.0) == 1
    assert expected.index(30.0) < 2


def test_another_thread_may_settle_meanwhile_where_tokens_come_from(
    token_cache: TokenCache,
) -> None:
    source = ImdsSource("http://169.254.169.254/metadata/identity/oauth2/token")
    seen: list[object] = [lambda: source, None, None]

    class Raced(TokenClient):
        """Another thread has settled it when one looks for the second time."""

        _redetect = property(lambda _: seen.pop(0), lambda _, value: None)

    client = Raced(source, parse_identity(), token_cache, None)
    assert client.entry("https://vault.azure.net").key.endpoint == source.endpoint


def test_what_the_service_hands_out_while_it_meets_a_challenge_is_not_the_answer(
    clock: FakeClock, responses: ResponseFactory, tmp_path: Path
) -> None:
    """It may have been asked for later, and be the revoked token out of the service's own cache."""
    shared_cache = shared_cache_in(tmp_path / "cache", clock)
    source = ImdsSource("http://169.254.169.254/metadata/identity/oauth2/token", "A_VARIABLE")
    refused, unaware = (
        TokenClient(
            source, parse_identity(), TokenCache(clock, no_jitter, BackgroundQueue()), shared_cache
        )
        for _ in range(2)
    )
    asked = []

    @contextmanager
    def opened(_: Clock) -> Iterator[Sender]:
        def send(request: Request) -> Response:
            asked.append("bypass_cache" in request.url)
            if not asked[-1]:
                return responses.token("revoked")
            answer = responses.token("new")
            clock.seconds += 1
            unaware.token(unaware.entry("https://vault.azure.net"), None, opened)
            clock.seconds += 1
            return answer

        yield send

    claims = '{"access_token": {"xms_event": {}}}'
    for process in (refused, unaware):
        entry = process.entry("https://vault.azure.net")
        assert process.token(entry, claims, opened).value == "new"
        assert process.token(entry, None, opened).value == "new"
    assert asked == [True, False]


def test_what_was_read_before_everything_was_forgotten_is_not_taken_over(
    token_cache: TokenCache, clock: FakeClock, responses: ResponseFactory, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    shared_cache, read = shared_cache_in(tmp_path / "cache", clock), SharedCache.read
    source = ImdsSource("http://169.254.169.254/metadata/identity/oauth2/token", "A_VARIABLE")
    client = TokenClient(source, parse_identity(), token_cache, shared_cache)
    entry = client.entry("https://vault.azure.net")
    shared_cache.write(Record(entry.key, token_now(clock, "of-before")))

    def read_and_cleared(self: SharedCache, key: Key) -> Record | None:
        entry = read(self, key)
        token_cache.clear()  # another thread does
        shared_cache.clear()
        return entry

    @contextmanager
    def opened(_: Clock) -> Iterator[Sender]:
        yield lambda request: responses.token("of-after")

    monkeypatch.setattr(SharedCache, "read", read_and_cleared)
    assert client.token(entry, None, opened).value == "of-after"
