"""`ManagedIdentityCredential`, an azure-core credential."""

from __future__ import annotations

from ._azure_core.base import BaseCredential, error_from
from ._core.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    from azure.core.credentials import (
        AccessToken,
        AccessTokenInfo,
        TokenCredential,
        TokenRequestOptions,
    )
    from typing_extensions import Self

    from ._azure_core.base import Published
    from ._token_cache.token_exchange import OpenSender

__all__ = ["ManagedIdentityCredential", "get_bearer_token_provider"]


class ManagedIdentityCredential(BaseCredential):
    """A managed identity's tokens, for any Azure SDK client.

    Satisfies azure-core's ``TokenCredential`` and ``SupportsTokenInfo``. All credentials of a
    process share one cache, and may be used from any number of threads and after a fork. Pickling
    one carries its configuration and never a token.

    The constructor reads the environment. If it names no host then, the first request reads it
    again.

    Args:
        client_id: client id of a user-assigned identity.
        object_id: its object (principal) id instead.
        resource_id: its Azure resource id instead. With none of these: the system-assigned
            identity.
        identity_config: one of the above as azure-identity takes it, such as
            ``{"object_id": …}``; ``msi_res_id`` and ``mi_res_id`` mean ``resource_id``.
        source: ``"imds"`` (Azure VM) or ``"arc"``, instead of what is detected.
        arc_tokens_directory: where an Arc agent keeps its key files, if not in its platform's
            directory; for emulators.
        cache: a directory in which this user's processes share tokens; False or ``"off"`` for
            none. By default the value of ``IMDS_IDENTITY_CACHE``, else a private directory in
            memory, if there is one.
        transport: an azure-core ``HttpTransport`` that sends the requests. Its tokens are shared
            with other processes only if ``cache`` names a directory.
        raw_request_hook: called with each request, like azure-core's ``CustomHookPolicy``.
        raw_response_hook: called with each response in the same way.
        on_event: called with an `imds_identity.telemetry.Event` after each fetch, in a separate
            thread; exceptions that it raises are logged.
        options: azure-identity's other keywords. ``retry_total``, ``retry_connect``,
            ``retry_read``, ``retry_status``, ``retry_backoff_factor``, ``retry_backoff_max``
            (seconds), ``retry_mode``, ``retry_on_status_codes``, ``timeout``,
            ``connection_timeout`` and ``read_timeout`` (seconds) change retries and timeouts;
            ``headers``, ``user_agent``, ``per_call_policies``, ``policies`` and other keywords of
            azure-core's policies are passed to them; ``logging_enable`` logs each request.

    Warns:
        UserWarning: for keywords of azure-identity that have no effect here.

    Raises:
        ValueError: for more than one selector, or an invalid setting.
        TypeError: for an unknown keyword, and for an async transport or policy, which
            `imds_identity.aio` takes.
    """

    _is_async = False

    def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,
        enable_cae: bool = False,
        **kwargs: Any,
    ) -> AccessToken:
        """Return an access token for a scope. Azure SDK clients call this.

        Args:
            scopes: exactly one, as ``https://vault.azure.net/.default`` or as a bare resource.
            claims: the claims challenge with which a service refused the current token: the
                returned token was fetched for it, or issued later than it requires.
            tenant_id: not used: a managed identity has one tenant.
            enable_cae: whether the token may be revoked before its expiry (Continuous Access
                Evaluation); for workload identity only, elsewhere the service decides.
            kwargs: not used.

        Returns:
            The token and its expiry, in Unix seconds on this machine's clock.

        Raises:
            ValueError: unless there is exactly one scope that names a resource.
            CredentialUnavailableError: if no managed identity is available here.
            ManagedIdentityError: if fetching its token failed.
        """
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
        return self._get(scopes, claims, enable_cae)[0]

    def get_token_info(
        self, *scopes: str, options: TokenRequestOptions | None = None
    ) -> AccessTokenInfo:
        """Like `get_token`, with ``refresh_on`` and ``token_type``.

        Args:
            scopes: exactly one, as for `get_token`.
            options: ``claims`` and ``enable_cae`` have an effect, as in `get_token`.

        Returns:
            The token, its type, its expiry and the time of its refresh, in Unix seconds on this
            machine's clock.

        Raises:
            ValueError: unless there is exactly one scope that names a resource.
            CredentialUnavailableError: if no managed identity is available here.
            ManagedIdentityError: if fetching its token failed.
        """
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
        return self._get(scopes, claims, enable_cae)[1]

    def close(self) -> None:
        """Close the transport, if one was given. The credential itself holds nothing open."""
        self.__exit__()

    def __enter__(self) -> Self:
        if self._transport is not None:
            self._transport.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        if self._transport is not None:
            self._transport.__exit__(exc_type, exc_value, traceback)

    def _get(self, scopes: tuple[str, ...], claims: str | None, enable_cae: bool) -> Published:
        entry, challenge = self._entry(scopes, claims, enable_cae)
        try:
            token = self._client.token(entry, challenge, self._sender())
        except Failure as failure:
            reason = failure
        else:
            return self._publish(entry, token)
        raise error_from(reason)

    def _sender(self) -> OpenSender | None:
        policies = self._policies_in_use()
        if policies is None:
            return None
        from ._azure_core.transports.sender import sync_sender

        return sync_sender(self._transport, policies)

    def _check_transport(self) -> None:
        if self._transport is None:
            return
        from azure.core.pipeline.transport import AsyncHttpTransport

        if isinstance(self._transport, AsyncHttpTransport):
            raise TypeError(
                f"{type(self._transport).__name__} is an async transport; "
                "use imds_identity.aio.ManagedIdentityCredential, or a sync transport"
            )


def get_bearer_token_provider(credential: TokenCredential, *scopes: str) -> Callable[[], str]:
    """Return a callable that returns a bearer token, for clients such as OpenAI's.

    Args:
        credential: any azure-core credential.
        scopes: the scopes of the token.

    Returns:
        A callable without parameters; call it for each request.
    """

    def bearer_token() -> str:
        return credential.get_token(*scopes).token

    return bearer_token
