"""The kinds of token sources. What it takes to ask one is imported when it is asked first."""

from __future__ import annotations

import functools
from abc import abstractmethod

from .._core.identity import Identity
from .._core.source import ARC, CLOUD_SHELL, IMDS, Source
from .._platform.fork import fork_safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._core.secret import Secret
    from .._core.token import Token
    from .._core.token_request import TokenRequest
    from .._http.runner import ExchangeRunner


class TokenSource(Source):
    """A source that can be asked."""

    @property
    def is_probe(self) -> bool:
        """Whether there may be no such service: then it is asked once, and briefly."""
        return False

    def preload(self) -> None:
        """Import what a fetch from this source needs, beyond what every fetch needs."""

    @abstractmethod
    def fetch(self, token_request: TokenRequest, runner: ExchangeRunner) -> Token:
        """One token, from the service and from no cache.

        Args:
            token_request: whose token, and for what.
            runner: speaks to `endpoint`.

        Raises:
            Failure: when there is none to be had.
        """

    def check_selector(self, identity: Identity) -> None:
        """Refuse an identity that this source cannot give, where that can be told beforehand.

        Raises:
            ValueError: with what to do.
        """


class ImdsSource(TokenSource):
    """Azure VM: the Instance Metadata Service."""

    def __init__(self, endpoint: str, variable: str = "") -> None:
        super().__init__(IMDS, endpoint, variable)

    @property
    def is_probe(self) -> bool:
        """Whether neither the caller, the environment nor the firmware says that this is Azure."""
        return not (self.forced or self.variable or _firmware_says_azure())

    def preload(self) -> None:
        """Import what a fetch needs."""
        from . import imds

        del imds

    def fetch(self, token_request: TokenRequest, runner: ExchangeRunner) -> Token:
        """One token, by one request if all is well."""
        with fork_safe():
            from .imds import PROBE_RETRY, exchange
        retry_options = (
            runner.retry_options.with_defaults(PROBE_RETRY)
            if self.is_probe
            else runner.retry_options
        )
        return runner.run(
            exchange(self.endpoint, token_request, runner.random, retry_options, self.variable)
        )


@functools.cache
def _firmware_says_azure() -> bool:
    with fork_safe():
        from .firmware import firmware
    return firmware().is_azure is True


class ArcSource(TokenSource):
    """Azure Arc: the agent of a server elsewhere.

    Attributes:
        tokens_directory: where the agent leaves the key files that its challenges name.
    """

    def __init__(self, endpoint: str, tokens_directory: str, variable: str = "") -> None:
        super().__init__(ARC, endpoint, variable)
        self.tokens_directory = tokens_directory

    def preload(self) -> None:
        """Import what a fetch needs."""
        from .arc import auth, exchange

        del auth, exchange

    def fetch(self, token_request: TokenRequest, runner: ExchangeRunner) -> Token:
        """One token, by two requests if all is well: the first is met with a challenge."""
        with fork_safe():
            from .arc.auth import KeyFileAuth
            from .arc.exchange import exchange

        def auth_for(path: str) -> KeyFileAuth:
            return KeyFileAuth(path, self.tokens_directory)

        steps = exchange(
            self.endpoint, token_request, runner.random, auth_for, runner.retry_options
        )
        return runner.run(steps)


class AppSource(TokenSource):
    """A host of apps: App Service, Service Fabric, Azure ML or Cloud Shell.

    Attributes:
        secret: what this process proves itself to the host with, if anything.
        thumbprint: of the certificate that Service Fabric proves itself with.
    """

    def __init__(
        self,
        name: str,
        endpoint: str,
        variable: str,
        secret: Secret | None = None,
        thumbprint: str | None = None,
    ) -> None:
        super().__init__(name, endpoint, variable)
        self.secret = secret
        self.thumbprint = thumbprint
        # By resource and identity: Service Fabric is told which token was refused.
        self._last: dict[tuple[str, str], Token] = {}

    def check_selector(self, identity: Identity) -> None:
        """Refuse any selector in Cloud Shell, whose identity is the user who is logged in.

        Raises:
            ValueError: with what to do.
        """
        if self.name == CLOUD_SHELL and identity.selector:
            raise ValueError(
                f"Cloud Shell gives tokens of its own user only, and the {identity} was selected; "
                "leave the selector out"
            )

    def preload(self) -> None:
        """Import what a fetch needs."""
        from . import app_hosts

        del app_hosts

    def fetch(self, token_request: TokenRequest, runner: ExchangeRunner) -> Token:
        """One token, by one request if all is well."""
        with fork_safe():
            from .app_hosts import exchange
        whose = token_request.resource, token_request.identity.value
        steps = exchange(
            self.name,
            self.endpoint,
            token_request,
            runner.random,
            runner.retry_options,
            secret=self.secret,
            thumbprint=self.thumbprint,
            refused=self._last.get(whose) if token_request.claims else None,
        )
        token = self._last[whose] = runner.run(steps)
        return token


class WorkloadSource(TokenSource):
    """A Kubernetes workload, whose own token is exchanged for one of an app registration's.

    Attributes:
        token_file: where Kubernetes keeps the workload's token.
    """

    knows_cae = True

    def __init__(self, authority: str, variable: str, client_id: str, token_file: str) -> None:
        super().__init__("workload-identity", authority, variable, client_id=client_id)
        self.token_file = token_file

    def check_selector(self, identity: Identity) -> None:
        """Refuse to go without a client id.

        Raises:
            ValueError: if neither the caller nor the environment names one.
        """
        if not identity.selector and not self.client_id:
            raise ValueError(
                "workload identity needs a client id: pass client_id, or set AZURE_CLIENT_ID"
            )

    def preload(self) -> None:
        """Import what a fetch needs."""
        from . import workload

        del workload

    def fetch(self, token_request: TokenRequest, runner: ExchangeRunner) -> Token:
        """One token, by one request if all is well."""
        with fork_safe():
            from .workload import assertion_in, exchange
        if not token_request.identity.selector:
            token_request = token_request._replace(identity=Identity("client_id", self.client_id))
        assertion = assertion_in(self.token_file)
        steps = exchange(
            self.endpoint,
            self.variable,
            token_request,
            runner.random,
            assertion,
            runner.retry_options,
        )
        return runner.run(steps)
