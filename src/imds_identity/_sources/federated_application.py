"""An application that trusts a managed identity: the identity's token is the client assertion.

https://learn.microsoft.com/entra/workload-id/workload-identity-federation-config-app-trust-managed-identity
"""

from __future__ import annotations

import re
from contextlib import nullcontext
from urllib.parse import urlsplit

from .._core.claims import claims_in
from .._core.failure import Failure, Reason, Refused, sanitize
from .._core.secret import Secret, sha256
from .host import HostSpec, TokenSource
from .workload_identity import AUTHORITY, TENANT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import Protocol

    from .._core.key import Key
    from .._core.token import Token
    from .._core.token_request import TokenRequest
    from .._http.runner import ExchangeRunner, Sender
    from .._platform.clock import Clock

    class IdentityTokens(Protocol):
        """The tokens of the managed identity."""

        source: TokenSource

        def key(self, resource: str) -> Key: ...
        def token_for(
            self, resource: str, open_sender: Callable[[Clock], AbstractContextManager[Sender]]
        ) -> Token: ...


_AUDIENCES = {
    "login.microsoftonline.us": "api://AzureADTokenExchangeUSGov",
    "login.chinacloudapi.cn": "api://AzureADTokenExchangeChina",
    "login.partner.microsoftonline.cn": "api://AzureADTokenExchangeChina",
}
_AUTHORITY = r"(https://)?[a-z0-9.-]+(:[0-9]{1,5})?/*"
_AUDIENCE = "api://AzureADTokenExchange"
_NO_CREDENTIAL = frozenset(
    f"AADSTS{code}" for code in (70021, 70023, 70025, 700211, 700212, 700213, 700216)
)
"""No federated credential of the application matches the identity's token."""
_HINTS = {
    "AADSTS700016": "The application does not exist in this tenant: check the client ID, or add "
    "the application to the tenant.",
    "AADSTS7000112": "An administrator of the tenant has disabled the application.",
    "AADSTS90002": "The tenant does not exist: check the tenant ID and the authority.",
    "AADSTS700024": "The clock of this machine may be wrong: the identity's token is not valid at "
    "the present time.",
    "AADSTS700236": "The identity and the application must belong to the same tenant; another "
    "tenant may have a service principal of the application.",
    "AADSTS500011": "Is the resource known in this tenant, and is the scope correct?",
}
_UNREACHABLE_HINT = (
    "Do the firewall and the proxy allow requests to this host? The authority (in the environment: "
    "AZURE_AUTHORITY_HOST) selects it."
)


class ExchangedTokenSource(TokenSource):
    """A service that exchanges the token of a managed identity for another one.

    Args:
        spec: the host specification.
        endpoint: the URL of the service.
        audience: the resource of the identity's token.
        identity_tokens: the tokens of the managed identity.
    """

    def __init__(
        self,
        spec: HostSpec,
        endpoint: str,
        audience: str,
        identity_tokens: IdentityTokens,
        *,
        variable: str = "",
        client_id: str = "",
    ) -> None:
        super().__init__(spec, endpoint, variable, client_id=client_id)
        self.audience = audience
        self._identity_tokens = identity_tokens

    @property
    def is_shared(self) -> bool:
        """Whether the processes of a user share the tokens: if they share the identity's."""
        return self._identity_tokens.source.is_shared

    @property
    def key_endpoint(self) -> str:
        """The URL for cache keys, with a digest of the identity: another one may not be trusted."""
        identity = self._identity_tokens.key(self.audience)
        return f"{super().key_endpoint} ({sha256(repr(tuple(identity)).encode())[:16]})"

    def identity_token(self, runner: ExchangeRunner) -> str:
        """Return the token of the managed identity.

        Raise Failure if none is available; the message says whose token that is.
        """

        def open_sender(_: Clock) -> AbstractContextManager[Sender]:
            return nullcontext(runner.send)

        try:
            return self._identity_tokens.token_for(self.audience, open_sender).value
        except Failure as failure:
            copied = failure.copy()
            copied.problem = (
                f"the managed identity has no token for {self.audience}: {failure.problem}"
            )
            raise copied from None


class FederatedSource(ExchangedTokenSource):
    """Microsoft Entra ID's token endpoint for an application that trusts a managed identity.

    An invalid authority or tenant is a ValueError.

    Args:
        authority: the URL of the authority, without a tenant.
        tenant_id: the tenant in which the application gets tokens.
        client_id: the client ID of the application.
        identity_tokens: the tokens of the managed identity.
    """

    def __init__(
        self, authority: str, tenant_id: str, client_id: str, identity_tokens: IdentityTokens
    ) -> None:
        if not isinstance(tenant_id, str) or not re.fullmatch(TENANT, tenant_id):
            raise ValueError(f"tenant_id must be the ID or a domain of a tenant, not {tenant_id!r}")
        endpoint = f"{_checked_authority(authority)}/{tenant_id}"
        super().__init__(
            FEDERATED_APPLICATION,
            endpoint,
            _AUDIENCES.get(urlsplit(endpoint).netloc.lower(), _AUDIENCE),
            identity_tokens,
            variable="authority",
            client_id=client_id,
        )

    def preload(self) -> None:
        """Import the exchange and MSAL."""
        super().preload()
        from .workload import import_msal

        import_msal()

    def fetch(self, token_request: TokenRequest, runner: ExchangeRunner) -> Token:
        """Request a token: usually one request, and one more if the identity's has expired."""
        from .workload import exchange

        assertion = self.identity_token(runner)
        steps = exchange(
            self.spec,
            self.endpoint,
            self.variable,
            token_request,
            runner.random,
            Secret(assertion),
            runner.retry_options,
        )
        try:
            return runner.run(steps)
        except Refused as failure:
            if failure.service_code:
                failure.hint = self._hint(failure.service_code, assertion)
            elif failure.reason is Reason.UNREACHABLE:
                failure.hint = _UNREACHABLE_HINT
            raise

    def _hint(self, code: str, assertion: str) -> str:
        if code not in _NO_CREDENTIAL:
            return _HINTS.get(code, "")
        claims = claims_in(assertion)
        issuer, subject = (sanitize(str(claims.get(name, "unknown"))) for name in ("iss", "sub"))
        return (
            f"The application needs a federated credential with the issuer {issuer}, the subject "
            f"{subject} and the audience {self.audience}."
        )


def _checked_authority(authority: str) -> str:
    if not re.fullmatch(_AUTHORITY, authority, re.IGNORECASE):
        raise ValueError(
            f"authority must be the URL of Microsoft Entra ID, such as {AUTHORITY}, not "
            f"{authority!r}"
        )
    url = authority.rstrip("/")
    return url if "://" in url else f"https://{url}"


FEDERATED_APPLICATION = HostSpec(
    "federated-application",
    "federated application",
    selectors={"client_id": "client_id"},
    knows_cae=True,
    requires_https=True,
)
"""Not detected: only a caller names an application."""
