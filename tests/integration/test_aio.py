"""The asyncio credential with an emulator."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.credentials_async import AsyncSupportsTokenInfo, AsyncTokenCredential
from azure.core.pipeline.transport import (
    AioHttpTransport,
    AsyncioRequestsTransport,
    RequestsTransport,
)

import imds_identity
from imds_identity import CredentialUnavailableError, MalformedAnswerError
from imds_identity._platform.clock import SYSTEM_CLOCK
from imds_identity._token_cache.cache import TokenCache
from imds_identity.aio import ManagedIdentityCredential, get_bearer_token_provider

if TYPE_CHECKING:
    from imds_identity.emulator import Emulator

SCOPE = "https://vault.azure.net/.default"


def arc_credential(emulator: Emulator, **settings: Any) -> ManagedIdentityCredential:
    return ManagedIdentityCredential(
        arc_tokens_directory=str(emulator.tokens_directory), **settings
    )


def test_credential_implements_the_protocols_of_azure_core(imds_emulator: Emulator) -> None:
    credential = ManagedIdentityCredential()
    typed: AsyncTokenCredential = credential
    informed: AsyncSupportsTokenInfo = credential
    assert isinstance(informed, AsyncSupportsTokenInfo)

    async def main() -> None:
        async with typed:
            token = await typed.get_token(SCOPE, tenant_id="t", enable_cae=True, more=1)
            info = await informed.get_token_info(SCOPE, options={"tenant_id": "t"})
        assert (token.token, token.expires_on) == (info.token, info.expires_on)
        assert info.refresh_on is not None
        assert info.refresh_on < info.expires_on

    asyncio.run(main())
    assert len(imds_emulator.token_requests) == 1


def test_arc_server_token_is_fetched(arc_emulator: Emulator) -> None:
    token = asyncio.run(arc_credential(arc_emulator).get_token(SCOPE))
    assert token.token
    assert [request.status for request in arc_emulator.token_requests] == [401, 200]


def test_sync_and_async_credentials_share_one_cache(imds_emulator: Emulator) -> None:
    sync = imds_identity.ManagedIdentityCredential().get_token(SCOPE)
    assert asyncio.run(ManagedIdentityCredential().get_token(SCOPE)).token == sync.token
    assert len(imds_emulator.token_requests) == 1


def test_cached_token_needs_neither_a_thread_nor_the_loop(imds_emulator: Emulator) -> None:
    credential = ManagedIdentityCredential()
    asyncio.run(credential.get_token(SCOPE))
    coroutine = credential.get_token(SCOPE)
    with pytest.raises(StopIteration) as done:  # it finishes without a loop
        coroutine.send(None)
    assert done.value.value is asyncio.run(credential.get_token(SCOPE))


def test_64_tasks_with_their_own_credentials_make_one_request(imds_emulator: Emulator) -> None:
    imds_emulator.fault(delay=0.1)

    async def main() -> list[str]:
        calls = (ManagedIdentityCredential().get_token(SCOPE) for _ in range(64))
        return [token.token for token in await asyncio.gather(*calls)]

    assert len(set(asyncio.run(main()))) == 1
    assert len(imds_emulator.token_requests) == 1


def test_loop_keeps_running_while_a_token_is_fetched(imds_emulator: Emulator) -> None:
    imds_emulator.fault(delay=0.2)

    async def main() -> int:
        fetch = asyncio.create_task(ManagedIdentityCredential().get_token(SCOPE))
        iterations = 0
        while not fetch.done():
            iterations += 1
            await asyncio.sleep(0.001)
        return iterations

    assert asyncio.run(main()) > 10


def test_canceled_waiter_does_not_affect_other_waiters(imds_emulator: Emulator) -> None:
    imds_emulator.fault(delay=0.2)
    credential = ManagedIdentityCredential()

    async def main() -> list[Any]:
        tasks = [asyncio.create_task(credential.get_token(SCOPE)) for _ in range(8)]
        await asyncio.sleep(0.05)
        for task in tasks[:4]:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(main())
    assert all(isinstance(result, asyncio.CancelledError) for result in results[:4])
    assert len({result.token for result in results[4:]}) == 1
    assert len(imds_emulator.token_requests) == 1


def test_fetch_continues_for_later_callers_after_a_timeout(imds_emulator: Emulator) -> None:
    imds_emulator.fault(delay=0.2)
    credential = ManagedIdentityCredential()

    async def call_with_timeout() -> None:
        await asyncio.wait_for(credential.get_token(SCOPE), 0.02)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(call_with_timeout())
    assert asyncio.run(credential.get_token(SCOPE)).token
    assert len(imds_emulator.token_requests) == 1


@pytest.mark.parametrize("transport", [None, AioHttpTransport, AsyncioRequestsTransport])
def test_credentials_work_in_consecutive_loops(
    imds_emulator: Emulator, transport: type[Any] | None
) -> None:
    async def fetch_token(credential: ManagedIdentityCredential, claims: str) -> str:
        async with credential:
            return (await credential.get_token(SCOPE, claims=claims)).token

    tokens = set()
    for number in range(3):
        settings = {"transport": transport()} if transport else {}
        credential = ManagedIdentityCredential(**settings)
        tokens.add(asyncio.run(fetch_token(credential, f"challenge {number}")))
    assert len(tokens) == 3


def test_credential_can_be_used_by_loops_in_several_threads(imds_emulator: Emulator) -> None:
    imds_emulator.fault(delay=0.1)
    credential = ManagedIdentityCredential()
    tokens: list[str] = []

    def work() -> None:
        tokens.append(asyncio.run(credential.get_token(SCOPE)).token)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(tokens)) == 1
    assert len(tokens) == 8
    assert len(imds_emulator.token_requests) == 1


@pytest.mark.parametrize(
    "transport", [AioHttpTransport, AsyncioRequestsTransport, RequestsTransport]
)
def test_sync_and_async_transports_are_supported(
    arc_emulator: Emulator, transport: type[Any]
) -> None:
    statuses: list[int] = []

    async def main() -> str:
        settings = {"raw_response_hook": lambda r: statuses.append(r.http_response.status_code)}
        async with arc_credential(arc_emulator, transport=transport(), **settings) as credential:
            return (await credential.get_token(SCOPE)).token

    assert asyncio.run(main())
    assert statuses == [401, 200]


@pytest.mark.parametrize("transport", [AioHttpTransport, AsyncioRequestsTransport])
def test_unreachable_endpoint_with_a_transport_is_unavailable(
    transport: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imds_identity._platform.clock.SystemClock.sleep", [].append)

    async def main() -> None:
        async with ManagedIdentityCredential(transport=transport()) as credential:
            await credential.get_token(SCOPE)

    with pytest.raises(CredentialUnavailableError, match="no connection"):
        asyncio.run(main())


def test_another_loop_replaces_a_fetch_whose_loop_is_closed(imds_emulator: Emulator) -> None:
    imds_emulator.fault(delay=5, times=1)

    async def abandon() -> None:
        credential = ManagedIdentityCredential(transport=AioHttpTransport())
        async with credential:
            task = asyncio.create_task(credential.get_token(SCOPE))
            await asyncio.sleep(0.1)
            task.cancel()

    asyncio.run(abandon())
    started = time.monotonic()
    assert asyncio.run(ManagedIdentityCredential().get_token(SCOPE)).token
    assert time.monotonic() - started < 4  # less than the delay of the abandoned request


def test_sync_call_on_the_loop_thread_does_not_wait_for_a_fetch_on_that_loop(
    imds_emulator: Emulator,
) -> None:
    imds_emulator.fault(delay=0.2, times=1)

    async def both() -> tuple[str, str]:
        request_sent = asyncio.Event()
        credential = ManagedIdentityCredential(
            transport=AioHttpTransport(), raw_request_hook=lambda _: request_sent.set()
        )
        async with credential:
            task = asyncio.ensure_future(credential.get_token(SCOPE))
            await request_sent.wait()
            # This blocks the loop that the task needs.
            sync = imds_identity.ManagedIdentityCredential().get_token(SCOPE)
            assert not task.done()
            return sync.token, (await task).token

    tokens = asyncio.run(asyncio.wait_for(both(), 20))
    assert all(tokens)


def test_errors_are_the_same_as_for_the_sync_credential(imds_emulator: Emulator) -> None:
    with pytest.raises(CredentialUnavailableError, match="nobody") as caught:
        asyncio.run(ManagedIdentityCredential(client_id="nobody").get_token(SCOPE))
    assert caught.value.__context__ is None
    imds_emulator.fault(status=200, body='{"access_token": ""}', content_type="application/json")
    with pytest.raises(MalformedAnswerError):
        asyncio.run(ManagedIdentityCredential().get_token_info(SCOPE))
    with pytest.raises(ValueError, match="scope"):
        asyncio.run(ManagedIdentityCredential().get_token())
    with pytest.raises(ValueError, match="scope"):
        asyncio.run(ManagedIdentityCredential().get_token_info("a", "b"))


def test_outage_raises_no_error_while_the_token_is_valid(imds_emulator: Emulator) -> None:
    token_cache = TokenCache(SYSTEM_CLOCK, lambda: 0.5)
    credential = ManagedIdentityCredential(_token_cache=token_cache)
    first = asyncio.run(credential.get_token(SCOPE))
    entry = credential._entries[SCOPE]
    assert entry.token is not None
    entry.token = entry.token.replace(refresh_at=0)  # long overdue
    entry.hit_until = 0
    imds_emulator.fault(status=403)
    assert asyncio.run(credential.get_token(SCOPE)).token == first.token
    while entry.token.failed_refreshes == 0:
        time.sleep(0.001)
    assert asyncio.run(credential.get_token(SCOPE)).token == first.token


def test_pickle_preserves_the_settings(imds_emulator: Emulator) -> None:
    credential = ManagedIdentityCredential(source="imds", client_id="c")
    assert repr(pickle.loads(pickle.dumps(credential))) == repr(credential)


def test_bearer_token_provider_returns_the_token(imds_emulator: Emulator) -> None:
    async def main() -> None:
        credential = ManagedIdentityCredential()
        token_provider = get_bearer_token_provider(credential, SCOPE)
        assert await token_provider() == (await credential.get_token(SCOPE)).token

    asyncio.run(main())
