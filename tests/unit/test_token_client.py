"""`TokenClient` with a fake clock and a fake service."""

from __future__ import annotations

import sys
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import pytest

from imds_identity import _http
from imds_identity._core.failure import Refused
from imds_identity._core.identity import parse_identity
from imds_identity._http import transport
from imds_identity._http.retry_options import RetryOptions
from imds_identity._platform.environment import Environment
from imds_identity._shared_cache.lease import Lease
from imds_identity._shared_cache.record import Record
from imds_identity._shared_cache.store import SharedCache
from imds_identity._sources.app_hosts.app_service import APP_SERVICE
from imds_identity._sources.azure_vm import ImdsSource
from imds_identity._token_cache import client as client_module
from imds_identity._token_cache.cache import TokenCache
from imds_identity._token_cache.client import TokenClient
from imds_identity._token_cache.flight import LONGEST_FETCH, Flight
from imds_identity._token_cache.options import CallOptions
from imds_identity._token_cache.process import client_for
from support import WINE, BackgroundQueue, ResponseFactory, new_token, no_jitter, shared_cache_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from imds_identity._core.key import Key
    from imds_identity._http.messages import Request, Response
    from imds_identity._http.runner import Sender
    from imds_identity._platform.clock import Clock
    from support import FakeClock


def test_private_client_shares_tokens_only_in_a_named_directory(
    token_cache: TokenCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = str(tmp_path / "cache")
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", directory)
    assert client_for().shared_cache is not None
    assert client_for(private=True).shared_cache is None
    assert client_for(token_cache=token_cache).shared_cache is None
    assert client_for(private=True, cache=directory).shared_cache is not None
    assert client_for(token_cache=token_cache, cache=directory).shared_cache is not None


def test_repeated_retry_after_cannot_exceed_the_longest_fetch(
    token_cache: TokenCache, clock: FakeClock, responses: ResponseFactory, tmp_path: Path
) -> None:
    """Waiters give up after `LONGEST_FETCH`, so a fetch must end before that."""

    @contextmanager
    def open_sender(_: Clock) -> Iterator[Sender]:
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
        client.token(client.entry("https://vault.azure.net"), None, open_sender)
    assert clock.now() - started < LONGEST_FETCH


def test_lease_is_extended_while_the_transport_is_imported(
    token_cache: TokenCache, clock: FakeClock, responses: ResponseFactory, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Otherwise other processes mistake a slow process for a suspended one and fetch, too."""
    extensions: list[float] = []

    @contextmanager
    def open_sender(_: Clock) -> Iterator[Sender]:
        yield lambda _request: responses.token()

    monkeypatch.setattr(Lease, "extend", lambda _lease, seconds: extensions.append(seconds))
    # First, so that monkeypatch restores both: the package refers to the module, too.
    monkeypatch.setattr(_http, "transport", transport)
    monkeypatch.delitem(sys.modules, transport.__name__)
    source = ImdsSource("http://127.0.0.1:9/token", "AZURE_POD_IDENTITY_AUTHORITY_HOST")
    client = TokenClient(
        source, parse_identity(), token_cache, shared_cache_in(tmp_path / "cache", clock)
    )
    client.token(client.entry("https://vault.azure.net"), None, open_sender)
    client.token(client.entry("https://other.azure.net"), None, open_sender)
    assert extensions.count(30.0) == 1
    assert extensions.index(30.0) < 2


@pytest.mark.parametrize("has_transport", [False, True])
def test_process_without_a_shared_cache_keeps_the_service_s_limits(
    token_cache: TokenCache, clock: FakeClock, responses: ResponseFactory, *, has_transport: bool
) -> None:
    @contextmanager
    def open_sender(_: Clock) -> Iterator[Sender]:
        yield lambda _request: responses.token()

    source = ImdsSource("http://127.0.0.1:9/token", "A_VARIABLE")
    options, started = CallOptions(has_transport=has_transport), clock.now()
    for number in range(32):
        client = TokenClient(source, parse_identity(), token_cache, None, options)
        client.token(client.entry(f"https://resource-{number}"), None, open_sender)
    # The caller's transport may not send to the service at all.
    assert (clock.now() - started > 1.5) != has_transport


@pytest.mark.skipif(WINE, reason="wine does not store access times")
def test_processes_with_a_shared_cache_keep_the_service_s_limits_together(
    clock: FakeClock, responses: ResponseFactory, background: BackgroundQueue, tmp_path: Path
) -> None:
    @contextmanager
    def open_sender(_: Clock) -> Iterator[Sender]:
        yield lambda _request: responses.token()

    source, started = ImdsSource("http://127.0.0.1:9/token", "A_VARIABLE"), clock.now()
    for number in range(32):
        token_cache = TokenCache(clock, no_jitter, background)
        shared_cache = shared_cache_in(tmp_path / "cache", clock)
        client = TokenClient(source, parse_identity(), token_cache, shared_cache)
        client.token(client.entry(f"https://resource-{number}"), None, open_sender)
    assert clock.now() - started > 1.5


@pytest.mark.parametrize("has_token", [False, True])
def test_use_of_a_token_of_another_process_is_logged_once(
    token_cache: TokenCache,
    clock: FakeClock,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    has_token: bool,
) -> None:
    shared_cache = shared_cache_in(tmp_path / "cache", clock)
    source = ImdsSource("http://127.0.0.1:9/token", "A_VARIABLE")
    client = TokenClient(source, parse_identity(), token_cache, shared_cache)
    entry = client.entry("https://vault.azure.net")
    record = Record(entry.key, failure=Refused("down"), failure_until=clock.now() + 2)
    if has_token:
        record = Record(entry.key, new_token(clock))
    shared_cache.write(record)
    with caplog.at_level("DEBUG", "imds_identity"):
        for _ in range(2):
            with nullcontext() if has_token else pytest.raises(Refused, match="down"):
                client.token(entry)
    used = [text for text in caplog.messages if text.startswith("using the token of another")]
    assert len(used) == has_token


def test_record_is_read_once_until_it_changes(
    token_cache: TokenCache, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared_cache, read = shared_cache_in(tmp_path / "cache", clock), SharedCache.read
    source = ImdsSource("http://127.0.0.1:9/token", "A_VARIABLE")
    client = TokenClient(source, parse_identity(), token_cache, shared_cache)
    entry, keys = client.entry("https://vault.azure.net"), list[object]()

    def counted(self: SharedCache, key: Key) -> Record | None:
        keys.append(key)
        return read(self, key)

    monkeypatch.setattr(SharedCache, "read", counted)
    for name in ("one", "another"):
        clock.seconds += 1
        shared_cache.write(Record(entry.key, new_token(clock, name)))
        keys.clear()
        assert [client.token(entry).value for _ in range(3)] == [name] * 3
        assert keys == [entry.key]


def test_requests_to_an_app_platform_are_not_limited(
    token_cache: TokenCache, clock: FakeClock, responses: ResponseFactory, tmp_path: Path
) -> None:
    @contextmanager
    def open_sender(_: Clock) -> Iterator[Sender]:
        yield lambda _request: responses.token()

    variables = {"IDENTITY_ENDPOINT": "http://127.0.0.1:9", "IDENTITY_HEADER": "h"}
    source, started = APP_SERVICE.create_source(Environment(variables)), clock.now()
    shared_cache = shared_cache_in(tmp_path / "cache", clock)
    for number in range(32):
        client = TokenClient(source, parse_identity(), token_cache, shared_cache)
        client.token(client.entry(f"https://resource-{number}"), None, open_sender)
    assert clock.now() == started
    assert not shared_cache.directory.names()


@pytest.mark.parametrize("is_async", [False, True])
def test_timeout_of_the_caller_limits_the_wait_for_a_thread(
    token_cache: TokenCache, monkeypatch: pytest.MonkeyPatch, *, is_async: bool
) -> None:
    def no_thread(run: object, *, blocks: bool) -> None:
        """Start nothing, as if the pool was busy."""

    monkeypatch.setattr(token_cache._pool, "_start", no_thread)
    monkeypatch.setattr(Flight, "wait", lambda _flight, _seconds: None)
    source = ImdsSource("http://127.0.0.1:9/token", "AZURE_POD_IDENTITY_AUTHORITY_HOST")
    options = CallOptions(RetryOptions(seconds=7.0))
    client = TokenClient(source, parse_identity(), token_cache, None, options)
    entry = client.entry("https://vault.azure.net")
    with pytest.raises(Refused, match="did not start within 7 s"):
        if is_async:
            list(client.flights(entry, None, None))
        else:
            client.token(entry)


def test_source_is_detected_again_at_the_first_request_only(token_cache: TokenCache) -> None:
    first, second = ImdsSource("http://a/token"), ImdsSource("http://b/token")
    found = [second]
    client = TokenClient(first, parse_identity(), token_cache, None, redetect=found.pop)
    for _ in range(2):
        assert client.entry("https://vault.azure.net").key.endpoint == second.endpoint
    assert client.source is second


def test_fetch_imports_again_what_could_not_be_imported(token_cache: TokenCache) -> None:
    class Source(ImdsSource):
        def preload(self) -> None:
            raise ImportError("a module that is being replaced")

    found = [Source("never-imported://b/token")]
    client = TokenClient(
        ImdsSource("http://a/token"), parse_identity(), token_cache, None, redetect=found.pop
    )
    client.preload()
    assert client.is_preloaded
    assert client.entry("https://vault.azure.net").key.endpoint == "never-imported://b/token"
    assert not client.is_preloaded


def test_another_thread_can_finish_redetection_at_the_same_time(
    token_cache: TokenCache,
) -> None:
    source = ImdsSource("http://169.254.169.254/metadata/identity/oauth2/token")
    values: list[object] = [lambda: source, None, None]

    class RacingClient(TokenClient):
        """A client whose redetection another thread finishes between two reads."""

        _redetect = property(lambda _: values.pop(0), lambda _, value: None)

    client = RacingClient(source, parse_identity(), token_cache, None)
    assert client.entry("https://vault.azure.net").key.endpoint == source.endpoint


def test_token_issued_while_a_challenge_is_answered_does_not_satisfy_it(
    clock: FakeClock, responses: ResponseFactory, tmp_path: Path
) -> None:
    """It may be requested later and still be the revoked token from the service's cache."""
    shared_cache = shared_cache_in(tmp_path / "cache", clock)
    source = ImdsSource("http://169.254.169.254/metadata/identity/oauth2/token", "A_VARIABLE")
    challenged, other = (
        TokenClient(
            source, parse_identity(), TokenCache(clock, no_jitter, BackgroundQueue()), shared_cache
        )
        for _ in range(2)
    )
    bypassed = []

    @contextmanager
    def open_sender(_: Clock) -> Iterator[Sender]:
        def send(request: Request) -> Response:
            bypassed.append("bypass_cache" in request.url)
            if not bypassed[-1]:
                return responses.token("revoked")
            response = responses.token("new")
            clock.seconds += 1
            other.token(other.entry("https://vault.azure.net"), None, open_sender)
            clock.seconds += 1
            return response

        yield send

    claims = '{"access_token": {"xms_event": {}}}'
    for process in (challenged, other):
        entry = process.entry("https://vault.azure.net")
        assert process.token(entry, claims, open_sender).value == "new"
        assert process.token(entry, None, open_sender).value == "new"
    assert bypassed == [True, False]


@pytest.mark.parametrize("is_usable", [True, False])
def test_waiter_uses_a_token_that_another_process_publishes_in_the_meantime(
    is_usable: bool, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own process's fetch may hang."""
    token_cache = TokenCache(clock, no_jitter, lambda run, blocks: None)
    shared_cache = shared_cache_in(tmp_path / "cache", clock)
    source = ImdsSource("http://127.0.0.1:9/metadata/identity/oauth2/token", "A_VARIABLE")
    client = TokenClient(source, parse_identity(), token_cache, shared_cache)
    entry = client.entry("https://vault.azure.net")
    waits: list[float] = []

    def wait(flight: Flight, seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            life = 3600 if is_usable else -1
            shared_cache.write(Record(entry.key, new_token(clock, "of-another-process", life)))
        if len(waits) == 4:
            flight.complete(new_token(clock, "own"))

    monkeypatch.setattr(Flight, "wait", wait)
    token = client.token(entry)
    assert token.value == ("of-another-process" if is_usable else "own")
    assert len(waits) == (2 if is_usable else 4)


def test_task_that_waits_uses_a_token_that_another_process_publishes_in_the_meantime(
    clock: FakeClock, tmp_path: Path
) -> None:
    """A thread in the background looks for it, not the event loop."""
    started: list[Callable[[], object]] = []
    token_cache = TokenCache(clock, no_jitter, lambda run, blocks: started.append(run))
    shared_cache = shared_cache_in(tmp_path / "cache", clock)
    source = ImdsSource("http://127.0.0.1:9/metadata/identity/oauth2/token", "A_VARIABLE")
    client = TokenClient(source, parse_identity(), token_cache, shared_cache)
    entry = client.entry("https://vault.azure.net")
    flights = client.flights(entry, None, None)
    flight = next(flights)
    shared_cache.write(Record(entry.key, new_token(clock, "of-another-process")))
    assert next(flights) is flight
    assert entry.token is None
    started[1]()  # the first one hangs
    with pytest.raises(StopIteration) as ended:
        next(flights)
    assert ended.value.value.value == "of-another-process"


def test_record_read_before_a_clear_is_not_adopted(
    token_cache: TokenCache, clock: FakeClock, responses: ResponseFactory, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    shared_cache, read = shared_cache_in(tmp_path / "cache", clock), SharedCache.read
    source = ImdsSource("http://169.254.169.254/metadata/identity/oauth2/token", "A_VARIABLE")
    client = TokenClient(source, parse_identity(), token_cache, shared_cache)
    entry = client.entry("https://vault.azure.net")
    shared_cache.write(Record(entry.key, new_token(clock, "of-before")))

    def read_and_cleared(self: SharedCache, key: Key) -> Record | None:
        record = read(self, key)
        token_cache.clear()  # as another thread could
        shared_cache.clear()
        return record

    @contextmanager
    def open_sender(_: Clock) -> Iterator[Sender]:
        yield lambda request: responses.token("of-after")

    monkeypatch.setattr(SharedCache, "read", read_and_cleared)
    assert client.token(entry, None, open_sender).value == "of-after"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no network namespaces")
class TestNetworkNamespaces:
    """A thread may enter another network namespace, where an address is another service."""

    @pytest.fixture
    def network(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The network namespace of the calling thread."""
        network = [""]
        monkeypatch.setattr(client_module, "other_network", lambda: network[0])
        return network

    @pytest.fixture
    def client(self, token_cache: TokenCache, clock: FakeClock, tmp_path: Path) -> TokenClient:
        source = ImdsSource("http://169.254.169.254/metadata/identity/oauth2/token", "A_VARIABLE")
        shared_cache = shared_cache_in(tmp_path / "cache", clock)
        return TokenClient(source, parse_identity(), token_cache, shared_cache)

    def get(self, client: TokenClient, network: list[str]) -> str:
        """Return the token of the current namespace, whose service issues its name."""

        @contextmanager
        def open_sender(_: Clock) -> Iterator[Sender]:
            clock: FakeClock = client.token_cache.clock  # type: ignore[assignment]
            yield lambda _request: ResponseFactory(clock).token(f"of-{network[0]}")

        return client.token(client.entry("https://vault.azure.net"), None, open_sender).value

    def test_each_namespace_has_its_own_token(
        self, client: TokenClient, network: list[str]
    ) -> None:
        for _ in range(2):
            for network[0] in ("", "a", "b"):
                assert self.get(client, network) == f"of-{network[0]}"

    def test_there_are_no_hits_after_a_second_namespace_was_found(
        self, client: TokenClient, network: list[str], clock: FakeClock
    ) -> None:
        """A hit does not check the namespace of its thread."""
        entry = client.entry("https://vault.azure.net")
        self.get(client, network)
        assert entry.token
        client.token_cache.publish(entry, entry.token, lambda token: (token, token))
        assert entry.hit_until > clock.tick()
        network[0] = "a"
        self.get(client, network)
        assert entry.hit_until <= clock.tick()
        client.token_cache.publish(entry, entry.token, lambda token: (token, token))
        assert entry.hit_until <= clock.tick()

    def test_clear_forgets_the_tokens_of_all_namespaces(
        self, client: TokenClient, network: list[str]
    ) -> None:
        for network[0] in ("", "a"):
            self.get(client, network)
        client.token_cache.clear()
        for network[0] in ("", "a"):
            assert client.entry("https://vault.azure.net").token is None

    def test_namespaces_that_were_used_long_ago_are_forgotten(
        self, client: TokenClient, network: list[str]
    ) -> None:
        for number in range(100):
            network[0] = f"network-{number}"
            self.get(client, network)
        assert len(client.token_cache.other_networks) == 16
        assert "network-99" in client.token_cache.other_networks
