"""The specification of a kind of host, and the base of token sources.

To support another host, write a module with a `HostSpec` and add it to `registry.HOSTS`. Detection,
its explanation, the doctor, and ``exec`` read the specification.
"""

from __future__ import annotations

from abc import abstractmethod

from .._core.failure import Reason, Refused, sanitize
from .._core.source import Source
from .._platform.environment import add_variables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from .._core.identity import Identity
    from .._core.token import Token
    from .._core.token_request import TokenRequest
    from .._http.retry import RetryRule
    from .._http.runner import ExchangeRunner
    from .._platform.environment import Environment


class Condition:
    """A condition under which a host is detected.

    Attributes:
        text: the condition, for people; the variable's name if the condition is that it is set.
        holds: whether it is met.
    """

    def __init__(self, text: str, holds: Callable[[Environment], bool]) -> None:
        self.text = text
        self.holds = holds


def are_set(*variables: str) -> tuple[Condition, ...]:
    """Return the conditions that these variables are set."""
    return tuple(Condition(name, _is_set(name)) for name in variables)


def _is_set(variable: str) -> Callable[[Environment], bool]:
    return lambda environment: bool(environment[variable])


class HostSpec:
    """A kind of host.

    Args:
        name: its name in settings and events, such as ``app-service``.
        label: its name for people.
        build: creates the token source from the specification and the environment.
        conditions: all must be met for the host to be detected.
        rule: the name of this detection rule, if a host has several.
        variables: environment variables that this host sets. On another host they are leftovers.
        misleading: variables that make other programs use this host; by default ``variables``.
        selectors: the query parameter for each selector that the host supports.
        is_per_machine: whether its tokens and limits are the machine's and not those of one app.
        knows_cae: whether clients that support continuous access evaluation get other tokens.
        requires_https: whether an endpoint with http is refused.
        is_probe: whether the service may be absent, so that a fetch is one short request.
        final_statuses: HTTP statuses that are not retried. IMDS and the Arc agent return 404 and
            410 while they are updated; elsewhere the identity or the endpoint does not exist.
    """

    def __init__(
        self,
        name: str,
        label: str,
        build: Callable[[Any, Environment], TokenSource] | None = None,
        *,
        conditions: tuple[Condition, ...] = (),
        rule: str = "",
        variables: tuple[str, ...] = (),
        misleading: tuple[str, ...] | None = None,
        selectors: Mapping[str, str] | None = None,
        is_per_machine: bool = False,
        knows_cae: bool = False,
        requires_https: bool = False,
        is_probe: Callable[[TokenSource], bool] | None = None,
        final_statuses: tuple[int, ...] = (404, 410),
    ) -> None:
        self.name = name
        self.label = label
        self._build = build
        self.conditions = conditions
        self.rule: str = rule or name
        self.variables = variables
        self.misleading: tuple[str, ...] = variables if misleading is None else misleading
        self.selectors: Mapping[str, str] = selectors or {}
        self.is_per_machine = is_per_machine
        self.knows_cae = knows_cae
        self.requires_https = requires_https
        self.is_probe = is_probe
        self.final_statuses = final_statuses
        add_variables(*self.variables, *self.misleading)

    @property
    def retry_rules(self) -> Mapping[int, RetryRule]:
        """The retry rules for HTTP statuses that are not final."""
        from .._http.retry import TOKEN_RULES  # not needed where a token is cached

        if not self.final_statuses:
            return TOKEN_RULES
        return {s: rule for s, rule in TOKEN_RULES.items() if s not in self.final_statuses}

    def create_source(self, environment: Environment) -> TokenSource:
        """Return the token source that the environment describes."""
        assert self._build is not None, "only a caller creates this source"
        return self._build(self, environment)

    def matches(self, environment: Environment) -> bool:
        """Whether all conditions are met; stops at the first that is not."""
        return all(condition.holds(environment) for condition in self.conditions)

    def identity_query(self, identity: Identity) -> dict[str, str]:
        """Return the query parameter that selects ``identity``, if it has a selector.

        Raise Refused if the host does not support this selector.
        """
        if not identity.selector:
            return {}
        if identity.selector not in self.selectors:
            raise Refused(
                f"{self.label} cannot select an identity by {identity.selector}",
                "Omit the selector, or configure the identity in the host itself.",
                reason=Reason.UNSUPPORTED,
            )
        return {self.selectors[identity.selector]: identity.value}


class TokenSource(Source):
    """A source of tokens.

    Attributes:
        spec: the host specification.
        has_responded: whether it has returned a token, so that it certainly exists.
    """

    def __init__(
        self, spec: HostSpec, endpoint: str, variable: str = "", *, client_id: str = ""
    ) -> None:
        super().__init__(
            spec.name,
            endpoint,
            variable,
            label=spec.label,
            client_id=client_id,
            is_per_machine=spec.is_per_machine,
            knows_cae=spec.knows_cae,
        )
        self.spec = spec
        self.has_responded = False

    @property
    def is_probe(self) -> bool:
        """Whether the service may be absent, so that a fetch is one short request."""
        if self.has_responded or self.spec.is_probe is None:
            return False
        return self.spec.is_probe(self)

    @property
    def is_shared(self) -> bool:
        """Whether the processes of a user share the tokens; apps do not share theirs."""
        return self.is_per_machine

    @property
    def may_respond_later(self) -> bool:
        """Whether a service that did not respond to a probe may still exist."""
        return False

    def preload(self) -> None:
        """Import the modules that a fetch from this source needs in addition to the common ones."""
        if self.endpoint.lower().startswith("https:"):
            from .._http import requests_transport

            del requests_transport

    @abstractmethod
    def fetch(self, token_request: TokenRequest, runner: ExchangeRunner) -> Token:
        """Request a token from the service, without any cache; Failure if no token is available."""

    def check_selector(self, identity: Identity) -> None:
        """Raise ValueError if this source can never return a token for ``identity``."""

    def unused_variable_note(self, identity: Identity) -> str:
        """Return a note if AZURE_CLIENT_ID is set, but not used for requests as ``identity``."""
        if identity.selector or not self.unused_client_id:
            return ""
        note = f"AZURE_CLIENT_ID={sanitize(self.unused_client_id)!r} is set but not used: "
        if "client_id" in self.spec.selectors:
            return f"{note}to request that identity, pass it as client_id"
        return f"{note}{self.label} cannot select an identity by client_id"
