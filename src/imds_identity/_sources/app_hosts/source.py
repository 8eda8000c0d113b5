"""The token source of app platforms, such as App Service."""

from __future__ import annotations

from ..._core.failure import Failure
from ..._core.secret import Secret
from ..._platform.environment import variable_value
from ..._platform.log import is_logged, log
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
        client_id: str = "",
    ) -> None:
        super().__init__(spec, endpoint, spec.endpoint_variable, client_id=client_id)
        self.secret = secret
        self.thumbprint = thumbprint
        # Where the protocol has no version, the endpoint may contain one.
        self.allows_query = not spec.api_version

    def check_selector(self, identity: Identity) -> None:
        """Raise ValueError for a selector that the host does not support or ignores."""
        supported = self.spec.selectors
        if not identity.selector or identity.selector in supported:
            return
        if not supported:
            raise ValueError(
                f"{self.label} issues tokens for its own user only, and the {identity} was "
                "selected; omit the selector"
            )
        if self.spec.checks_selector_early:
            raise ValueError(
                f"{self.label} selects an identity by {' or '.join(supported)} only, and the "
                f"{identity} was selected"
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

        token_request = token_request._replace(identity=self.resolve(token_request.identity))
        steps = exchange(
            self.spec,
            self.endpoint,
            token_request,
            runner.random,
            runner.retry_options,
            secret=self.secret,
            thumbprint=self.thumbprint,
            replaced_secret=self._replaced_secret,
        )
        try:
            return runner.run(steps)
        except Failure as failure:
            name = self.spec.endpoint_variable
            if variable_value(name) not in ("", self.endpoint):
                failure.hint = (
                    f"{name} was replaced in this process: create a new credential. {failure.hint}"
                )
            raise

    def _replaced_secret(self) -> Secret | None:
        """Return the new secret if its variable has changed, and use it from now on.

        None if the endpoint's variable has changed, too: the secret is for another endpoint.
        """
        name, used = self.spec.secret_variable, self.secret
        if used is None or variable_value(self.spec.endpoint_variable) != self.endpoint:
            return None
        current = variable_value(name)
        if current in ("", used.reveal()):
            return None
        if is_logged("INFO"):
            log("INFO", "%s was replaced in this process: using its new value", name)
        self.secret = Secret(current)
        return self.secret


def build(spec: AppHostSpec, environment: Environment) -> AppHostSource:
    """Return the token source that the environment describes."""
    secret = Secret(environment[spec.secret_variable]) if spec.secret_variable else None
    thumbprint = environment[spec.thumbprint_variable] if spec.thumbprint_variable else None
    client_id = environment[spec.client_id_variable] if spec.client_id_variable else ""
    # Azure ML sets it to "clientid" if there is no managed identity.
    client_id = "" if client_id == "clientid" else client_id
    return AppHostSource(spec, environment[spec.endpoint_variable], secret, thumbprint, client_id)
