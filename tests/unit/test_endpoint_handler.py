"""What the endpoint makes of what the engine gives."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

from imds_identity._core.identity import SYSTEM_ASSIGNED, Identity
from imds_identity._endpoint.handler import Desk
from imds_identity._endpoint.responses import Wanted
from imds_identity._sources.sources import ImdsSource
from imds_identity._token_cache.client import TokenClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from imds_identity._http.exchange import Request, Response
    from imds_identity._http.runner import Sender
    from imds_identity._platform.clock import Clock
    from imds_identity._token_cache.cache import TokenCache
    from support import BackgroundQueue, FakeClock, ResponseFactory

WANTED = Wanted("https://vault.azure.net", SYSTEM_ASSIGNED)
SOURCE = ImdsSource("http://127.0.0.1:9/token", "AZURE_POD_IDENTITY_AUTHORITY_HOST")


class Service:
    """The machine's own, which answers as told."""

    def __init__(
        self, clock: FakeClock, token_cache: TokenCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.next: list[Response] = []
        self.made: list[Identity] = []
        self.desk = Desk(self._client, clock)
        self._token_cache = token_cache
        monkeypatch.setattr("imds_identity._http.transport.direct_sender", self._sender)

    def _client(self, identity: Identity) -> TokenClient:
        self.made.append(identity)
        if identity.value == "no such thing":
            raise ValueError("it cannot select that")
        return TokenClient(SOURCE, identity, self._token_cache, None)

    @contextmanager
    def _sender(self, _: Clock) -> Iterator[Sender]:
        def send(_request: Request) -> Response:
            return self.next.pop(0)

        yield send


def test_while_a_token_is_valid_no_failure_is_seen(
    clock: FakeClock,
    token_cache: TokenCache,
    background: BackgroundQueue,
    responses: ResponseFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = Service(clock, token_cache, monkeypatch)
    service.next = [responses.token("first", lifetime=86400)]
    assert json.loads(service.desk.give(WANTED).body)["access_token"] == "first"
    clock.seconds += 80_000  # long due
    service.next = [responses.error(400)]
    for _ in range(3):
        answer = service.desk.give(WANTED)
        assert (answer.status, json.loads(answer.body)["access_token"]) == (200, "first")
        background.run()
    assert service.next == []
    clock.seconds += 10_000
    service.next = [responses.error(400)]
    assert service.desk.give(WANTED).status == 400


def test_a_service_that_throttles_makes_the_endpoint_busy(
    clock: FakeClock,
    token_cache: TokenCache,
    responses: ResponseFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = Service(clock, token_cache, monkeypatch)
    service.next = [responses.error(429, retry_after="40")] * 50
    answer = service.desk.give(WANTED)
    assert answer.status == 503
    assert 1 <= int(dict(answer.headers)["Retry-After"]) <= 60


def test_each_identity_has_one_provider_and_few_are_kept(
    clock: FakeClock,
    token_cache: TokenCache,
    responses: ResponseFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = Service(clock, token_cache, monkeypatch)
    for number in (*range(100), 99, 99):
        service.next = [responses.token(client_id=str(number))]
        wanted = Wanted(WANTED.resource, Identity("client_id", str(number)))
        assert service.desk.give(wanted).status == 200
    assert len(service.made) == 100
    assert len(service.desk._clients) <= 64


def test_an_identity_that_the_host_cannot_select_is_refused(
    clock: FakeClock, token_cache: TokenCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(clock, token_cache, monkeypatch)
    wanted = Wanted(WANTED.resource, Identity("client_id", "no such thing"))
    assert service.desk.give(wanted).status == 400
