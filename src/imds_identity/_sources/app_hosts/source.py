"""The token source of app platforms, such as App Service."""

from __future__ import annotations

from ..._core.secret import Secret
from ..host import TokenSource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..._core.identity import Identity
    from ..._core.token import Token
    from ..._core.token_request import TokenRequest
    from ..._http.runner import ExchangeRunner
    from ..._platform.environment import Environment
    from .spec import AppHostSpec


class AppHostSource(TokenSource):
    """The token endpoint of an app platform, such as App Service.

    Attributes:
        secret: identifies this app, if the platform requires that.
        thumbprint: the thumbprint of Service Fabric's certificate.
    """

    spec: AppHostSpec

    def __init__(
        self,
        spec: AppHostSpec,
        endpoint: str,
        secret: Secret | None = None,
        thumbprint: str | None = None,
    ) -> None:
        super().__init__(spec, endpoint, spec.endpoint_variable)
        self.secret = secret
        self.thumbprint = thumbprint
        # By resource and identity: requests to Service Fabric name the token that was refused.
        self._last: dict[tuple[str, str], Token] = {}

    def check_selector(self, identity: Identity) -> None:
        """Raise ValueError for any selector in Cloud Shell: its identity is the user's own."""
        if not self.spec.secret_variable and identity.selector:
            raise ValueError(
                f"{self.label} issues tokens for its own user only, and the {identity} was "
                "selected; omit the selector"
            )

    def preload(self) -> None:
        """Import the exchange, and what a claims challenge needs."""
        super().preload()
        from . import exchange

        del exchange
        if self.thumbprint is not None:
            import hashlib

            del hashlib

    def fetch(self, token_request: TokenRequest, runner: ExchangeRunner) -> Token:
        """Request a token: usually one request."""
        from .exchange import exchange

        key = token_request.resource, token_request.identity.value
        steps = exchange(
            self.spec,
            self.endpoint,
            token_request,
            runner.random,
            runner.retry_options,
            secret=self.secret,
            thumbprint=self.thumbprint,
            refused=self._last.get(key) if token_request.claims else None,
        )
        token = self._last[key] = runner.run(steps)
        return token


def build(spec: AppHostSpec, environment: Environment) -> AppHostSource:
    """Return the token source that the environment describes."""
    secret = Secret(environment[spec.secret_variable]) if spec.secret_variable else None
    thumbprint = environment[spec.thumbprint_variable] if spec.thumbprint_variable else None
    return AppHostSource(spec, environment[spec.endpoint_variable], secret, thumbprint)
