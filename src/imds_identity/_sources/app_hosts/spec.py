"""The specification of an app platform, such as App Service."""

from __future__ import annotations

from ..._platform.environment import add_variables
from ..host import Condition, HostSpec, are_set

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..._http.messages import Response
    from ..._platform.environment import Environment
    from ..host import TokenSource


class AppHostSpec(HostSpec):
    """An app platform, such as App Service.

    Args:
        endpoint_variable: the environment variable with the endpoint.
        secret_variable: the one with the app's secret, if there is one.
        thumbprint_variable: the one with the thumbprint of the host's certificate, if any.
        secret_header: the request header for the secret.
        api_version: the version of the protocol; empty if requests do not name it.
        sends_form: whether requests are forms.
        more_conditions: conditions in addition to the variables above.
        also_sets: other variables that the host sets.
        client_id_variable: the variable with the client ID of requests without a selector, if any.
        checks_selector_early: whether the constructor of a credential refuses other selectors.
        final_error: a text in errors with status 500 that are not retried.
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
        sends_form: bool = False,
        more_conditions: tuple[Condition, ...] = (),
        also_sets: tuple[str, ...] = (),
        client_id_variable: str = "",
        selectors: Mapping[str, str] | None = None,
        checks_selector_early: bool = True,
        knows_cae: bool = False,
        final_error: str = "",
    ) -> None:
        required = tuple(filter(None, (endpoint_variable, secret_variable, thumbprint_variable)))
        super().__init__(
            name,
            label,
            build,
            conditions=(*are_set(*required), *more_conditions),
            variables=(*required, *also_sets),
            selectors=selectors,
            knows_cae=knows_cae,
            requires_https=bool(thumbprint_variable),
        )
        self.endpoint_variable = endpoint_variable
        self.secret_variable = secret_variable
        self.thumbprint_variable = thumbprint_variable
        self.secret_header = secret_header
        self.api_version = api_version
        self.sends_form = sends_form
        self.client_id_variable = client_id_variable
        self.checks_selector_early = checks_selector_early
        self._final_error = final_error
        add_variables(*filter(None, (client_id_variable,)))

    def is_final(self, response: Response) -> bool:
        """Whether ``response`` is not retried although its status usually is."""
        text = self._final_error
        return bool(text) and response.status == 500 and text in response.error_text
