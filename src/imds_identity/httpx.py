"""Authentication for httpx: ``httpx.Client(auth=ManagedIdentityAuth(scope))``, or `AsyncClient`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from ._platform.imports import not_installed

try:
    import httpx
except ModuleNotFoundError:
    raise not_installed("httpx", "httpx", __name__) from None

from ._azure_core.bearer import check_url, claims_of, origin_of
from .aio import ManagedIdentityCredential as AsyncManagedIdentityCredential
from .credential import ManagedIdentityCredential

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from azure.core.credentials import TokenCredential
    from azure.core.credentials_async import AsyncTokenCredential

__all__ = ["ManagedIdentityAuth"]


class ManagedIdentityAuth(httpx.Auth):
    """Adds a managed identity's token to each request, and handles one claims challenge.

    A request whose body is a stream is not sent again, because it can be sent only once: the
    caller receives the challenge.

    Args:
        scope: the scope of the token, such as ``https://management.azure.com/.default``.
        credential: any azure-core credential, instead of a new `ManagedIdentityCredential`; an
            ``AsyncClient`` needs an async one, a ``Client`` a sync one.
        settings: as `ManagedIdentityCredential` takes them, such as ``client_id``.

    Raises:
        TypeError: for both ``credential`` and ``settings``, and at the first request for a
            credential of the other kind.
        ValueError: as `ManagedIdentityCredential` raises it, and at the first request for an
            invalid scope, or for a URL that would send the token unencrypted to another machine.
    """

    def __init__(
        self,
        scope: str,
        *,
        credential: TokenCredential | AsyncTokenCredential | None = None,
        **settings: Any,
    ) -> None:
        if credential is not None and settings:
            raise TypeError(f"pass a credential or {', '.join(settings)}, not both")
        self._scope = scope
        self._settings = settings
        self._sync: Any = credential or ManagedIdentityCredential(**settings)
        self._async: Any = credential  # else created when an async client uses this

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._scope!r}, credential={self._sync!r})"

    def sync_auth_flow(
        self, request: httpx.Request
    ) -> Generator[httpx.Request, httpx.Response, None]:
        """Authorize ``request``; httpx calls this."""
        self._check(request, self._sync, is_async=False)
        _put(request, self._sync.get_token(self._scope).token)
        response = yield request
        claims = _claims_of(request, response)
        if claims is not None:
            _put(request, self._sync.get_token(self._scope, claims=claims).token)
            yield request

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Authorize ``request``; httpx calls this."""
        self._async = self._async or AsyncManagedIdentityCredential(**self._settings)
        self._check(request, self._async, is_async=True)
        _put(request, (await self._async.get_token(self._scope)).token)
        response = yield request
        claims = _claims_of(request, response)
        if claims is not None:
            _put(request, (await self._async.get_token(self._scope, claims=claims)).token)
            yield request

    def _check(self, request: httpx.Request, credential: Any, *, is_async: bool) -> None:
        check_url(str(request.url))
        if inspect.iscoroutinefunction(credential.get_token) is not is_async:
            client, kind = ("AsyncClient", "async") if is_async else ("Client", "sync")
            raise TypeError(f"an httpx.{client} needs {kind} credentials, not {credential!r}")


def _put(request: httpx.Request, token: str) -> None:
    request.headers["Authorization"] = f"Bearer {token}"


def _claims_of(request: httpx.Request, response: httpx.Response) -> str | None:
    # After a redirect the challenge may come from another server, which gets no token.
    if origin_of(str(response.url)) != origin_of(str(request.url)):
        return None
    # Other streams can be read only once.
    if not isinstance(request.stream, httpx.ByteStream):
        return None
    return claims_of(response.status_code, response.headers)
