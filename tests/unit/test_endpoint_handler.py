"""The endpoint's responses to granted requests."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from imds_identity._core.identity import SYSTEM_ASSIGNED, Identity
from imds_identity._endpoint.handler import TokenHandler
from imds_identity._endpoint.responses import GrantedRequest
from imds_identity._sources.azure_vm import ImdsSource
from imds_identity._token_cache.client import TokenClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imds_identity._http.messages import Request, Response
    from imds_identity._http.runner import Sender
    from imds_identity._platform.clock import Clock
    from imds_identity._token_cache.cache import TokenCache
    from support import BackgroundQueue, FakeClock, ResponseFactory

GRANTED = GrantedRequest("https://vault.azure.net", SYSTEM_ASSIGNED)
SOURCE = ImdsSource("http://127.0.0.1:9/token", "AZURE_POD_IDENTITY_AUTHORITY_HOST")


class Service:
    """A metadata service with scripted responses."""

    def __init__(
        self, clock: FakeClock, token_cache: TokenCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.responses: list[Response] = []
        self.identities: list[Identity] = []
        self.handler = TokenHandler(self._client, clock)
        self._token_cache = token_cache
        monkeypatch.setattr("imds_identity._http.transport.direct_sender", self._sender)

    def _client(self, identity: Identity) -> TokenClient:
        self.identities.append(identity)
        if identity.value == "unsupported":
            raise ValueError("the host cannot select this identity")
        return TokenClient(SOURCE, identity, self._token_cache, None)

    @contextmanager
    def _sender(self, _: Clock) -> Iterator[Sender]:
        def send(_request: Request) -> Response:
            return self.responses.pop(0)

        yield send


@pytest.fixture
def service(clock: FakeClock, token_cache: TokenCache, monkeypatch: pytest.MonkeyPatch) -> Service:
    return Service(clock, token_cache, monkeypatch)


def test_failed_refresh_is_invisible_while_the_token_is_valid(
    service: Service, clock: FakeClock, background: BackgroundQueue, responses: ResponseFactory
) -> None:
    service.responses = [responses.token("first", lifetime=86400)]
    assert json.loads(service.handler.handle(GRANTED).body)["access_token"] == "first"
    clock.seconds += 80_000  # past its refresh time
    service.responses = [responses.error(400)]
    for _ in range(3):
        response = service.handler.handle(GRANTED)
        assert (response.status, json.loads(response.body)["access_token"]) == (200, "first")
        background.run()
    assert service.responses == []
    clock.seconds += 10_000
    service.responses = [responses.error(400)]
    assert service.handler.handle(GRANTED).status == 400


def test_response_is_sent_again_for_a_second_while_its_token_is_current(
    service: Service, clock: FakeClock, token_cache: TokenCache, responses: ResponseFactory
) -> None:
    assert service.handler.cached(GRANTED) is None
    service.responses = [responses.token("first"), responses.token("second", lifetime=600)]
    response = service.handler.handle(GRANTED)
    clock.seconds += 0.9
    assert service.handler.cached(GRANTED) is response
    assert service.handler.cached(GRANTED._replace(imds=True)) is None
    clock.seconds += 0.1
    assert service.handler.cached(GRANTED) is None
    assert service.handler.handle(GRANTED).body != response.body  # expires_in
    token_cache.clear()
    assert service.handler.cached(GRANTED) is None
    assert service.handler.handle(GRANTED).status == 200
    assert service.handler.cached(GRANTED) is not None
    clock.seconds += 599.5  # it is due, so a request must start the refresh
    service.responses = [responses.error(400)]
    service.handler.handle(GRANTED)
    assert service.handler.cached(GRANTED) is None


def test_number_of_cached_responses_is_limited(
    service: Service, responses: ResponseFactory
) -> None:
    for number in range(300):
        service.responses = [responses.token()]
        service.handler.handle(GRANTED._replace(resource=f"https://{number}.example"))
    assert len(service.handler._hits) <= 256


def test_throttled_service_makes_the_endpoint_busy(
    service: Service, responses: ResponseFactory
) -> None:
    service.responses = [responses.error(429, retry_after="40")] * 50
    response = service.handler.handle(GRANTED)
    assert response.status == 503
    assert 1 <= int(dict(response.headers)["Retry-After"]) <= 60


def test_each_identity_has_one_client_and_their_number_is_limited(
    service: Service, responses: ResponseFactory
) -> None:
    for number in (*range(100), 99, 99):
        service.responses = [responses.token(client_id=str(number))]
        granted = GrantedRequest(GRANTED.resource, Identity("client_id", str(number)))
        assert service.handler.handle(granted).status == 200
    assert len(service.identities) == 100
    assert len(service.handler._clients) <= 64


def test_identity_that_the_host_cannot_select_is_refused(service: Service) -> None:
    granted = GrantedRequest(GRANTED.resource, Identity("client_id", "unsupported"))
    assert service.handler.handle(granted).status == 400
