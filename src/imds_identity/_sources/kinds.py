"""The kinds of token sources. What it takes to ask one is imported when it is asked first."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from .._core.source import ARC, IMDS, Source
from .._runtime.fork import whole

if TYPE_CHECKING:
    from .._core.secret import Secret
    from .._core.token import Token
    from .._core.token_request import TokenRequest
    from .._wire.channel import Channel


class TokenSource(Source):
    """A source that can be asked."""

    @abstractmethod
    def fetch(self, wanted: TokenRequest, channel: Channel) -> Token:
        """One token, from the service and from no cache.

        Args:
            wanted: whose token, and for what.
            channel: speaks to `endpoint`.

        Raises:
            Failure: when there is none to be had.
        """


class ImdsSource(TokenSource):
    """Azure VM: the Instance Metadata Service."""

    def __init__(self, endpoint: str, variable: str = "") -> None:
        super().__init__(IMDS, endpoint, variable)

    def fetch(self, wanted: TokenRequest, channel: Channel) -> Token:
        """One token, by one request if all is well."""
        with whole():
            from .imds import exchange
        return channel.run(exchange(self.endpoint, wanted, channel.random))


class ArcSource(TokenSource):
    """Azure Arc: the agent of a server elsewhere.

    Attributes:
        tokens_directory: where the agent leaves the key files that its challenges name.
    """

    def __init__(self, endpoint: str, tokens_directory: str, variable: str = "") -> None:
        super().__init__(ARC, endpoint, variable)
        self.tokens_directory = tokens_directory

    def fetch(self, wanted: TokenRequest, channel: Channel) -> Token:
        """One token, by two requests if all is well: the first is met with a challenge."""
        with whole():
            from .arc import exchange
        steps = exchange(self.endpoint, wanted, channel.random)
        return channel.run(steps, self.tokens_directory)


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

    def fetch(self, wanted: TokenRequest, channel: Channel) -> Token:
        """One token, by one request if all is well."""
        with whole():
            from .app_hosts import exchange
        whose = wanted.resource, wanted.identity.value
        steps = exchange(
            self.name,
            self.endpoint,
            wanted,
            channel.random,
            secret=self.secret,
            thumbprint=self.thumbprint,
            refused=self._last.get(whose) if wanted.claims else None,
        )
        token = self._last[whose] = channel.run(steps)
        return token


class WorkloadSource(TokenSource):
    """A Kubernetes workload, whose own token is exchanged for one of an app registration's.

    Attributes:
        token_file: where Kubernetes keeps the workload's token.
    """

    def __init__(self, authority: str, variable: str, client_id: str, token_file: str) -> None:
        super().__init__("workload-identity", authority, variable, client_id=client_id)
        self.token_file = token_file

    def fetch(self, wanted: TokenRequest, channel: Channel) -> Token:
        """One token, by what MSAL sends for it."""
        with whole():
            from . import workload
        return workload.fetch(self, self.token_file, wanted, channel)
