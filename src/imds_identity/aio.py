"""`ManagedIdentityCredential` for asyncio, an azure-core async credential."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ._azure_core.application import BaseFederatedApplicationCredential
from ._azure_core.base import BaseCredential, error_from
from ._core.failure import Failure
from ._platform.threads import running_loop
from ._token_cache.flight import POLL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from azure.core.credentials import AccessToken, AccessTokenInfo, TokenRequestOptions
    from azure.core.credentials_async import AsyncTokenCredential
    from typing_extensions import Self

    from ._azure_core.base import Published
    from ._core.token import Token
    from ._token_cache.entry import CacheEntry
    from ._token_cache.flight import Flight
    from ._token_cache.token_exchange import OpenSender

__all__ = [
    "FederatedApplicationCredential",
    "ManagedIdentityCredential",
    "get_bearer_token_provider",
]


class ManagedIdentityCredential(BaseCredential):
    """A managed identity's tokens, for any asyncio client of the Azure SDK.

    It uses the token cache of the sync credential. A cached token is returned without a thread
    and without an iteration of the event loop. A fetch runs in a separate thread, so nothing is
    bound to an event loop, and canceling one waiting task does not affect the others.

    Args:
        transport: an azure-core ``AsyncHttpTransport``, or an ``HttpTransport``. Its own proxies,
            cookies and passwords are not used.
        settings: as for `imds_identity.ManagedIdentityCredential`.

    Methods need asyncio's event loop, and raise RuntimeError under trio.

    Raises:
        ValueError: as for that class, and for a custom transport that would use the environment's
            proxies.
        TypeError: for trio's transport.
    """

    _is_async = True

    async def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,
        enable_cae: bool = False,
        **kwargs: Any,
    ) -> AccessToken:
        """Return an access token, like `imds_identity.ManagedIdentityCredential.get_token`."""
        try:
            (scope,) = scopes
            entry = (self._cae_entries if enable_cae else self._entries)[scope]
            tick = self._tick  # calling a local variable is faster
            if tick() < entry.hit_until and not claims:
                return entry.access_token  # type: ignore[no-any-return]
        except (
            KeyError,
            TypeError,
            ValueError,
        ):  # the first request of this scope, or not one scope
            pass
        return (await self._get(scopes, claims, enable_cae))[0]

    async def get_token_info(
        self, *scopes: str, options: TokenRequestOptions | None = None
    ) -> AccessTokenInfo:
        """Like `imds_identity.ManagedIdentityCredential.get_token_info`."""
        claims = options.get("claims") if options else None
        enable_cae = bool(options and options.get("enable_cae"))
        try:
            (scope,) = scopes
            entry = (self._cae_entries if enable_cae else self._entries)[scope]
            tick = self._tick  # calling a local variable is faster
            if tick() < entry.hit_until and not claims:
                return entry.access_token_info  # type: ignore[no-any-return]
        except (
            KeyError,
            TypeError,
            ValueError,
        ):  # the first request of this scope, or not one scope
            pass
        return (await self._get(scopes, claims, enable_cae))[1]

    async def close(self) -> None:
        """Close the transport, if one was given. The credential itself holds nothing open."""
        await self.__aexit__()

    async def __aenter__(self) -> Self:
        if hasattr(self._transport, "__aenter__"):
            await self._transport.__aenter__()
        elif self._transport is not None:
            self._transport.__enter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        if hasattr(self._transport, "__aexit__"):
            await self._transport.__aexit__(exc_type, exc_value, traceback)
        elif self._transport is not None:
            self._transport.__exit__(exc_type, exc_value, traceback)

    async def _get(
        self, scopes: tuple[str, ...], claims: str | None, enable_cae: bool
    ) -> Published:
        running_loop("imds_identity.ManagedIdentityCredential(…).get_token, scope")
        entry, challenge = self._entry(scopes, claims, enable_cae)
        try:
            token = await self._token(entry, challenge)
        except Failure as failure:
            reason = failure
        else:
            return self._publish(entry, token)
        raise error_from(reason)

    async def _token(self, entry: CacheEntry, claims: str | None) -> Token:
        sender = self._sender()
        needs = threading.get_ident() if sender is not None else 0
        flights = self._client.flights(
            entry, claims, sender, needs=needs, caller=asyncio.current_task()
        )
        try:
            while True:
                await _wait(next(flights))
        except StopIteration as done:
            token: Token = done.value
            return token
        finally:
            flights.close()

    def _sender(self) -> OpenSender | None:
        policies = self._policies_in_use()
        if policies is None:
            return None
        from ._azure_core.transports.sender import async_sender

        return async_sender(self._transport, policies, asyncio.get_running_loop())


class FederatedApplicationCredential(BaseFederatedApplicationCredential, ManagedIdentityCredential):
    """Like `imds_identity.FederatedApplicationCredential`, for asyncio clients."""


async def _wait(flight: Flight) -> None:
    """Wait for the outcome of ``flight`` without blocking the loop, for `POLL_SECONDS` at most."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop was closed in the meantime
            loop.call_soon_threadsafe(done.cancel)

    flight.add_done_callback(wake)
    try:
        await asyncio.wait({done}, timeout=POLL_SECONDS)
    finally:
        flight.remove_done_callback(wake)


def get_bearer_token_provider(
    credential: AsyncTokenCredential, *scopes: str
) -> Callable[[], Awaitable[str]]:
    """Like `imds_identity.get_bearer_token_provider`, but its callable returns an awaitable."""

    async def bearer_token() -> str:
        return (await credential.get_token(*scopes)).token

    return bearer_token
