"""azure-core's asyncio face: `ManagedIdentityCredential` once more."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from threading import get_ident
from typing import TYPE_CHECKING, Any

from ._core.failure import Failure
from ._core.fork import load
from ._engine.broker import LOOK_SECONDS
from ._faces.face import Face, error_from

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from azure.core.credentials import AccessToken, AccessTokenInfo, TokenRequestOptions
    from azure.core.credentials_async import AsyncTokenCredential
    from typing_extensions import Self

    from ._core.token import Token
    from ._engine.flight import Flight
    from ._engine.provider import OpenSender
    from ._engine.slot import Slot
    from ._faces.face import Shown

__all__ = ["ManagedIdentityCredential", "get_bearer_token_provider"]


class ManagedIdentityCredential(Face):
    """A managed identity's tokens, for any asyncio client of the Azure SDK.

    The same engine and the same cache as the sync credential's. A cached token returns without
    touching a thread or the loop; a fetch runs in a thread of its own, so nothing is bound to an
    event loop, and cancelling one who waits harms no other.

    Args:
        client_id: as for `imds_identity.ManagedIdentityCredential`, like all that follow.
        object_id: likewise.
        resource_id: likewise.
        identity_config: likewise.
        source: likewise.
        arc_tokens_directory: likewise.
        cache: likewise.
        transport: an azure-core ``AsyncHttpTransport``, or an ``HttpTransport``. Its own proxies,
            cookies and passwords are not used.
        raw_request_hook: called with each request as azure-core's ``CustomHookPolicy`` does.
        raw_response_hook: likewise with each response.

    Raises:
        ValueError: for more than one selector, or one that is not understood; for a transport of a
            kind of its own that would use the environment's proxies.
        TypeError: for trio's transport.
    """

    async def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,
        enable_cae: bool = False,
        **kwargs: Any,
    ) -> AccessToken:
        """An access token for a scope, as `imds_identity.ManagedIdentityCredential.get_token`.

        Args:
            scopes: exactly one, as ``https://vault.azure.net/.default`` or as a bare resource.
            claims: the claims challenge with which a service refused the present token; skips
                every cache.
            tenant_id: not used: a managed identity has one tenant.
            enable_cae: not used: the metadata service decides.
            kwargs: not used.

        Returns:
            The token and when it expires, in Unix seconds on this machine's clock.

        Raises:
            ValueError: unless there is exactly one scope that names a resource.
            CredentialUnavailableError: if there is no managed identity here.
            ManagedIdentityError: if its token could not be had.
        """
        try:
            slot = self._slots[scopes]
            if self._tick() < slot.hit_until and not claims:
                return slot.access_token  # type: ignore[no-any-return]
        except (KeyError, TypeError):  # not asked for yet, or no scopes at all
            pass
        return (await self._get(scopes, claims))[0]

    async def get_token_info(
        self, *scopes: str, options: TokenRequestOptions | None = None
    ) -> AccessTokenInfo:
        """Like `get_token`, with ``refresh_on`` and ``token_type``.

        Args:
            scopes: exactly one, as for `get_token`.
            options: ``claims`` is used as in `get_token`, the rest is not.

        Returns:
            The token, its type, when it expires and when the next one will be fetched, in Unix
            seconds on this machine's clock.

        Raises:
            ValueError: unless there is exactly one scope that names a resource.
            CredentialUnavailableError: if there is no managed identity here.
            ManagedIdentityError: if its token could not be had.
        """
        claims = options.get("claims") if options else None
        try:
            slot = self._slots[scopes]
            if self._tick() < slot.hit_until and not claims:
                return slot.access_token_info  # type: ignore[no-any-return]
        except (KeyError, TypeError):  # not asked for yet, or no scopes at all
            pass
        return (await self._get(scopes, claims))[1]

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

    async def _get(self, scopes: tuple[str, ...], claims: str | None) -> Shown:
        slot = self._slot(scopes, claims)
        try:
            token = await self._token(slot, claims)
        except Failure as failure:
            reason = failure
        else:
            return self._show(slot, token)
        raise error_from(reason)

    async def _token(self, slot: Slot, claims: str | None) -> Token:
        sender = self._sender()
        needs = get_ident() if sender is not None else 0
        asked = self._provider.ask(slot, claims, sender, needs=needs, caller=asyncio.current_task())
        try:
            while True:
                await _wait(next(asked))
        except StopIteration as done:
            token: Token = done.value
            return token

    def _sender(self) -> OpenSender | None:
        if not self._sends_by_azure_core:
            return None
        transport = load("imds_identity._faces.transport")
        sender: OpenSender = transport.async_sender(
            self._transport, self._hooks, asyncio.get_running_loop()
        )
        return sender


async def _wait(flight: Flight) -> None:
    """Wait for the outcome of ``flight`` without blocking the loop, for a while at the most."""
    loop = asyncio.get_running_loop()
    landed = loop.create_future()

    def tell() -> None:
        with suppress(RuntimeError):  # the loop was closed in the meantime: nobody waits any more
            loop.call_soon_threadsafe(landed.cancel)

    flight.when_landed(tell)
    try:
        await asyncio.wait({landed}, timeout=LOOK_SECONDS)
    finally:
        flight.forget(tell)


def get_bearer_token_provider(
    credential: AsyncTokenCredential, *scopes: str
) -> Callable[[], Awaitable[str]]:
    """An async callable that gives a bearer token, as OpenAI-style async clients want one.

    Args:
        credential: any async azure-core credential.
        scopes: what to ask it for.

    Returns:
        An async callable without parameters; call it anew for each request.
    """

    async def bearer_token() -> str:
        return (await credential.get_token(*scopes)).token

    return bearer_token
