"""Azure Arc: its host specification and token source."""

from __future__ import annotations

import os
import sys

from ..._core import source
from ..host import Condition, HostSpec, TokenSource, are_set

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..._core.token import Token
    from ..._core.token_request import TokenRequest
    from ..._http.runner import ExchangeRunner
    from ..._platform.environment import Environment

AGENT_PORT = 40342
_ENDPOINT = f"http://localhost:{AGENT_PORT}/metadata/identity/oauth2/token"
_LINUX_AGENT = "/opt/azcmagent/bin/himds"
_LINUX_TOKENS = "/var/opt/azcmagent/tokens"


class ArcSource(TokenSource):
    """The Azure Arc agent of a server outside Azure.

    Attributes:
        tokens_directory: where the agent keeps its key files.
    """

    def __init__(self, endpoint: str, tokens_directory: str, variable: str = "") -> None:
        super().__init__(ARC, endpoint, variable)
        self.tokens_directory = tokens_directory

    def preload(self) -> None:
        """Import the exchange, and the modules that read key files and identify the listener."""
        super().preload()
        from . import auth, exchange

        del auth, exchange
        if sys.platform == "win32":
            from . import peer_windows

            del peer_windows
        else:
            import pwd

            del pwd

    def fetch(self, token_request: TokenRequest, runner: ExchangeRunner) -> Token:
        """Request a token: usually two requests, because the agent challenges the first."""
        # Not at module level: every credential imports this module, few use Arc.
        from .auth import KeyFileAuth
        from .exchange import exchange

        def auth_for(path: str) -> KeyFileAuth:
            return KeyFileAuth(path, self.tokens_directory)

        return runner.run(
            exchange(
                self.spec,
                self.endpoint,
                token_request,
                runner.random,
                auth_for,
                runner.retry_options,
                is_named=bool(self.variable),
            )
        )


def _build(_: HostSpec, environment: Environment) -> ArcSource:
    variable = "IDENTITY_ENDPOINT"
    return ArcSource(environment[variable], _tokens_directory(environment), variable)


def _build_installed(_: HostSpec, environment: Environment) -> ArcSource:
    return ArcSource(_ENDPOINT, _tokens_directory(environment))


def _tokens_directory(environment: Environment) -> str:
    if sys.platform == "win32":
        data = environment["ProgramData"] or r"C:\ProgramData"
        return rf"{data}\AzureConnectedMachineAgent\Tokens"
    return _LINUX_TOKENS


def is_installed(environment: Environment) -> bool:
    """Whether the agent's program exists."""
    agent = _LINUX_AGENT
    if sys.platform == "win32":
        programs = environment["ProgramFiles"] or r"C:\Program Files"
        agent = rf"{programs}\AzureConnectedMachineAgent\himds.exe"
    return os.path.exists(agent)


_SELECTORS = {"client_id": "client_id", "object_id": "object_id", "resource_id": "msi_res_id"}
_LABEL = "Azure Arc (HIMDS)"
_IMDS_VARIABLE = "AZURE_POD_IDENTITY_AUTHORITY_HOST"

ARC = HostSpec(
    source.ARC,
    _LABEL,
    _build,
    conditions=are_set("IDENTITY_ENDPOINT", "IMDS_ENDPOINT"),
    variables=("IDENTITY_ENDPOINT", "IMDS_ENDPOINT"),
    selectors=_SELECTORS,
    is_per_machine=True,
    final_statuses=(),
)
ARC_INSTALLED = HostSpec(
    source.ARC,
    _LABEL,
    _build_installed,
    rule="arc-installed",
    conditions=(
        Condition(f"no {_IMDS_VARIABLE}", lambda environment: not environment[_IMDS_VARIABLE]),
        Condition("an installed Arc agent", is_installed),
    ),
    selectors=_SELECTORS,
    is_per_machine=True,
    final_statuses=(),
)
