"""The kinds of token sources. What it takes to ask one is imported when it is asked first."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from .._core.fork import whole
from .._core.source import ARC, IMDS, Source

if TYPE_CHECKING:
    from .._core.secret import Secret
    from .._core.token import Token
    from .._core.token_request import TokenRequest
    from .._wire.channel import Channel
    from .msal_hosts import MsalHost


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


class MsalSource(TokenSource):
    """A host that MSAL speaks to, which finds its endpoint in the environment by itself.

    Attributes:
        secret: what this process proves itself to the host with, if anything.
    """

    def __init__(
        self, name: str, endpoint: str, variable: str, secret: Secret | None = None
    ) -> None:
        super().__init__(name, endpoint, variable)
        self.secret = secret
        self._host: MsalHost | None = None

    def fetch(self, wanted: TokenRequest, channel: Channel) -> Token:
        """One token, by what MSAL sends for it."""
        if self._host is None:
            self._host = self._made()
        return self._host.fetch(wanted, channel)

    def _made(self) -> MsalHost:
        with whole():
            from . import msal_hosts
        return msal_hosts.ManagedIdentityHost(self, self.secret)


class CloudShellSource(MsalSource):
    """Cloud Shell, which needs no secret."""

    def _made(self) -> MsalHost:
        with whole():
            from . import msal_hosts
        return msal_hosts.CloudShellHost(self)


class WorkloadSource(MsalSource):
    """A Kubernetes workload, whose own token is exchanged for one of an app registration's.

    Attributes:
        token_file: where Kubernetes keeps the workload's token.
    """

    def __init__(self, authority: str, variable: str, client_id: str, token_file: str) -> None:
        super().__init__("workload-identity", authority, variable)
        self.client_id = client_id
        self.token_file = token_file

    def _made(self) -> MsalHost:
        with whole():
            from . import msal_hosts
        return msal_hosts.WorkloadHost(self, self.token_file)
