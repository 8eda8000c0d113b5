"""Azure VM: the host specification and token source of the Instance Metadata Service."""

from __future__ import annotations

import sys

from .._core import source
from .._platform import proxy_agent
from .firmware import firmware
from .host import HostSpec, TokenSource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._core.token import Token
    from .._core.token_request import TokenRequest
    from .._http.runner import ExchangeRunner
    from .._platform.environment import Environment

_PATH = "/metadata/identity/oauth2/token"
_AUTHORITY = "http://169.254.169.254"
_VARIABLE = "AZURE_POD_IDENTITY_AUTHORITY_HOST"


class ImdsSource(TokenSource):
    """The Instance Metadata Service of an Azure VM."""

    def __init__(self, endpoint: str, variable: str = "") -> None:
        super().__init__(IMDS, endpoint, variable)

    @property
    def may_respond_later(self) -> bool:
        """Whether this may be an Azure VM although nothing indicates it, as in a container."""
        return _is_azure_firmware() is None

    def preload(self) -> None:
        """Import the exchange."""
        super().preload()
        from . import imds

        del imds
        if sys.platform == "win32":
            import ctypes  # the firmware is read with it

            del ctypes

    def fetch(self, token_request: TokenRequest, runner: ExchangeRunner) -> Token:
        """Request a token: usually one request."""
        from .imds import exchange, probe_options

        retry_options = runner.retry_options
        if self.is_probe:
            retry_options = probe_options(retry_options, may_be_azure=self.may_respond_later)
        steps = exchange(
            self.spec,
            self.endpoint,
            token_request,
            runner.random,
            retry_options,
            self.variable,
            is_azure_vm,
            has_azure_firmware=not self.variable and bool(_is_azure_firmware()),
        )
        return runner.run(steps)


def _build(_: HostSpec, environment: Environment) -> ImdsSource:
    authority = environment[_VARIABLE]
    endpoint = (authority or _AUTHORITY).strip("/") + _PATH
    return ImdsSource(endpoint, _VARIABLE if authority else "")


def _is_probe(source: TokenSource) -> bool:
    """Whether neither the caller, the environment, nor the firmware states that this is Azure."""
    return not (source.forced or source.variable or _is_azure_firmware())


def is_azure_vm() -> bool:
    """Whether this is certainly an Azure VM."""
    return bool(_is_azure_firmware()) or proxy_agent.is_visible()


def _is_azure_firmware() -> bool | None:
    """Return whether the firmware is that of an Azure VM; None if that is unknown."""
    if not _known_firmware:
        is_azure = firmware().is_azure
        # Read again next time: the process may have been out of file descriptors.
        if is_azure is None:
            return None
        _known_firmware.append(is_azure)
    return _known_firmware[0]


_known_firmware: list[bool] = []


IMDS = HostSpec(
    source.IMDS,
    "Azure VM (IMDS)",
    _build,
    misleading=(_VARIABLE,),
    selectors={"client_id": "client_id", "object_id": "object_id", "resource_id": "msi_res_id"},
    is_per_machine=True,
    final_statuses=(),
    is_probe=_is_probe,
)
