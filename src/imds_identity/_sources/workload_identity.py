"""Workload identity: the host specification and token source of a Kubernetes workload."""

from __future__ import annotations

from .._core.failure import Reason, Unavailable
from .host import Condition, HostSpec, TokenSource, are_set
from .token_proxy import URL, token_proxy_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._core.identity import Identity
    from .._core.token import Token
    from .._core.token_request import TokenRequest
    from .._http.runner import ExchangeRunner
    from .._platform.environment import Environment
    from .token_proxy import TokenProxy

AUTHORITY = "https://login.microsoftonline.com"
TENANT = r"[A-Za-z0-9.-]+"


class WorkloadSource(TokenSource):
    """The token endpoint of Microsoft Entra ID, or of a token proxy, for a Kubernetes workload.

    Attributes:
        token_file: the path of the token that Kubernetes writes for the workload.
        token_proxy: the proxy of an AKS identity binding, if there is one.
    """

    def __init__(
        self,
        authority: str,
        variable: str,
        client_id: str,
        token_file: str,
        token_proxy: TokenProxy | None = None,
    ) -> None:
        super().__init__(WORKLOAD_IDENTITY, authority, variable, client_id=client_id)
        self.token_file = token_file
        self.token_proxy = token_proxy

    def preload(self) -> None:
        """Import the exchange and MSAL."""
        super().preload()
        from .workload import import_msal

        import_msal()

    def check(self) -> None:
        """Raise Unavailable if the endpoint is not a URL, or the token proxy cannot be used."""
        super().check()
        if self.token_proxy and self.token_proxy.problem:
            raise Unavailable(self.token_proxy.problem, reason=Reason.INVALID_SETTING)

    @property
    def settings_to_unset(self) -> str:
        """The variables to unset if this source cannot be used, separated by spaces."""
        if self.token_proxy and self.token_proxy.problem:
            return self.token_proxy.to_unset
        return super().settings_to_unset

    def check_selector(self, identity: Identity) -> None:
        """Raise ValueError without a client ID, or if variables contradict each other."""
        if self.token_proxy and self.token_proxy.problem:
            raise ValueError(self.token_proxy.problem)
        if not identity.selector and not self.client_id:
            raise ValueError(
                "workload identity needs a client ID: pass client_id, or set AZURE_CLIENT_ID"
            )

    def fetch(self, token_request: TokenRequest, runner: ExchangeRunner) -> Token:
        """Request a token: usually one request."""
        from .workload import exchange, read_assertion

        token_request = token_request._replace(identity=self.resolve(token_request.identity))
        server_tls = self.token_proxy.server_tls() if self.token_proxy else None
        return runner.run(
            exchange(
                self.spec,
                self.endpoint,
                self.variable,
                token_request,
                runner.random,
                read_assertion(self.token_file),
                runner.retry_options,
                server_tls,
            )
        )


def _build(_: HostSpec, environment: Environment) -> WorkloadSource:
    import re

    proxy = token_proxy_of(environment)
    host = (proxy and proxy.url) or environment["AZURE_AUTHORITY_HOST"] or AUTHORITY
    if "://" not in host:
        host = f"https://{host}"
    tenant = environment["AZURE_TENANT_ID"]
    variable = URL if proxy and proxy.url else "AZURE_AUTHORITY_HOST"
    return WorkloadSource(
        f"{host.rstrip('/')}/{tenant}",
        variable if re.fullmatch(TENANT, tenant) else "AZURE_TENANT_ID",
        client_id=environment["AZURE_CLIENT_ID"],
        token_file=environment["AZURE_FEDERATED_TOKEN_FILE"],
        token_proxy=proxy,
    )


WORKLOAD_IDENTITY = HostSpec(
    "workload-identity",
    "workload identity",
    _build,
    conditions=(
        *are_set("AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE"),
        # Without both, the first two are meant for another program, such as the Azure CLI.
        Condition(
            "AZURE_AUTHORITY_HOST or AZURE_CLIENT_ID",
            lambda env: bool(env["AZURE_AUTHORITY_HOST"] or env["AZURE_CLIENT_ID"]),
        ),
    ),
    variables=("AZURE_FEDERATED_TOKEN_FILE",),
    misleading=(),
    selectors={"client_id": "client_id"},
    knows_cae=True,
    requires_https=True,
)
