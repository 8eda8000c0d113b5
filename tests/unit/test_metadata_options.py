"""The keywords timeout, retry and params of the metadata clients."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from imds_identity._http.exchange import ReadFailed
from imds_identity.metadata import MetadataError, aio
from metadata_support import FakeService
from support import FakeClock, ResponseFactory

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_identity._http.messages import Request, Response


@pytest.fixture
def service(clock: FakeClock) -> FakeService:
    return FakeService(clock)


CALLS: dict[str, Callable[..., Any]] = {
    "instance": lambda client, **options: client.instance(**options),
    "compute": lambda client, **options: client.compute(**options),
    "network": lambda client, **options: client.network(**options),
    "storage_profile": lambda client, **options: client.storage_profile(**options),
    "tags": lambda client, **options: client.tags(**options),
    "get": lambda client, **options: client.get("compute/name", **options),
    "versions": lambda client, **options: client.versions(**options),
    "load_balancer": lambda client, **options: client.load_balancer(**options),
    "public_ips": lambda client, **options: client.public_ips(**options),
    "identity_info": lambda client, **options: client.identity_info(**options),
    "attested_document": lambda client, **options: client.attested_document(**options),
    "attested_signature": lambda client, **options: client.attested_signature(**options),
    "scheduled_events": lambda client, **options: client.scheduled_events(**options),
    "start": lambda client, **options: client.start("A", **options),
}


class SilentService(FakeService):
    """A service that never responds."""

    def send(self, request: Request) -> Response:
        self.requested.append(request.url)
        self.clock.seconds += request.seconds
        raise ReadFailed("no response")


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_ends_at_its_timeout(clock: FakeClock, call: Callable[..., Any]) -> None:
    client = SilentService(clock).client()
    before = clock.now()
    with pytest.raises(MetadataError):
        call(client, timeout=3)
    assert 2 < clock.now() - before <= 3.1


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_without_retries_sends_one_request(
    clock: FakeClock, call: Callable[..., Any]
) -> None:
    service = SilentService(clock)
    with pytest.raises(MetadataError):
        call(service.client(), retry=False)
    assert len(service.requested) == 1


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_parameters_are_added_to_the_query(clock: FakeClock, call: Callable[..., Any]) -> None:
    service = SilentService(clock)
    with pytest.raises(MetadataError):
        call(service.client(), retry=False, params={"extended": "a&b"})
    (url,) = service.requested
    assert parse_qs(urlsplit(url).query)["extended"] == ["a&b"]


def test_a_document_with_other_parameters_is_not_cached(service: FakeService) -> None:
    client = service.client()
    for _ in range(2):
        client.compute(params={"extended": "true"})
    assert len(service.requested) == 2
    client.compute()
    client.compute(params={})
    assert len(service.requested) == 3


def test_a_short_timeout_ends_the_retries(service: FakeService, clock: FakeClock) -> None:
    service.instance_outcomes = [ResponseFactory(clock).error(500)] * 1000
    before = clock.now()
    with pytest.raises(MetadataError, match="HTTP 500"):
        service.client().instance(timeout=0.5)
    assert clock.now() - before <= 0.5


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"params": {"api-version": "2021-01-01"}},
        {"params": {"a&b": "c"}},
        {"params": {"a": 1}},
    ],
    ids=str,
)
def test_invalid_options_are_refused(
    service: FakeService, call: Callable[..., Any], options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        call(service.client(), **options)
    assert service.requested == []


def test_unknown_keywords_are_refused(service: FakeService) -> None:
    for call in (service.client().compute, service.client().versions):
        with pytest.raises(TypeError, match="timeouts"):
            call(timeouts=1)  # type: ignore[call-arg]


def test_a_call_with_a_timeout_does_not_wait_for_another_thread(service: FakeService) -> None:
    import threading

    client, blocked, release = service.client(), threading.Event(), threading.Event()
    send = service.send

    def block_once(request: Request) -> Response:
        if not blocked.is_set():
            blocked.set()
            release.wait(10)
        return send(request)

    service.send = block_once  # type: ignore[method-assign]
    other = threading.Thread(target=client.instance)
    other.start()
    assert blocked.wait(10)
    assert client.compute(timeout=1).name == "vm-7"
    assert not release.is_set()
    release.set()
    other.join()


def test_the_async_client_has_the_same_keywords(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = SilentService(clock)
    client = aio.MetadataClient(endpoint="http://service")
    monkeypatch.setattr(client, "_client", service.client())

    async def fail(call: Callable[..., Any]) -> None:
        with pytest.raises(MetadataError):
            await call(client, timeout=3, retry=False, params={"x": "y"})

    for call in CALLS.values():
        asyncio.run(fail(call))
    assert len(service.requested) == len(CALLS)
    assert all("x=y" in url for url in service.requested)
