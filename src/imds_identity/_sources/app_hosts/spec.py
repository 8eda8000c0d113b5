"""The specification of an app platform, such as App Service."""

from __future__ import annotations

from ..host import HostSpec, are_set

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..._platform.environment import Environment
    from ..host import TokenSource


class AppHostSpec(HostSpec):
    """An app platform, such as App Service.

    Args:
        name: see `HostSpec`.
        label: see `HostSpec`.
        build: see `HostSpec`.
        endpoint_variable: the environment variable with the endpoint.
        secret_variable: the one with the app's secret, if there is one.
        thumbprint_variable: the one with the thumbprint of the host's certificate, if any.
        secret_header: the request header for the secret.
        api_version: the version of the protocol; without one, requests are forms.
        also_sets: other variables that the host sets.
        selectors: see `HostSpec`.
    """

    def __init__(
        self,
        name: str,
        label: str,
        build: Callable[[AppHostSpec, Environment], TokenSource],
        endpoint_variable: str,
        secret_variable: str = "",
        thumbprint_variable: str = "",
        *,
        secret_header: str = "",
        api_version: str = "",
        also_sets: tuple[str, ...] = (),
        selectors: Mapping[str, str] | None = None,
    ) -> None:
        required = tuple(filter(None, (endpoint_variable, secret_variable, thumbprint_variable)))
        super().__init__(
            name,
            label,
            build,
            conditions=are_set(*required),
            variables=(*required, *also_sets),
            selectors=selectors,
        )
        self.endpoint_variable = endpoint_variable
        self.secret_variable = secret_variable
        self.thumbprint_variable = thumbprint_variable
        self.secret_header = secret_header
        self.api_version = api_version
