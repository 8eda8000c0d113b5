"""Which token source this process has, by an ordered table of rules: the first that fits is used.

The order is azure-identity's, with one addition: an Arc agent that is installed is preferred to
IMDS even where its variables are missing, as they are under systemd. On an EC2 host that is an
Arc server, 169.254.169.254 is somebody else's service.
"""

from __future__ import annotations

import os
import sys

from .._core.source import ARC, IMDS
from .._platform.environment import Environment
from .sources import AppSource, ArcSource, ImdsSource, WorkloadSource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.secret import Secret
    from .sources import TokenSource

_TOKEN_PATH = "/metadata/identity/oauth2/token"  # noqa: S105 - a path
_IMDS_AUTHORITY = "http://169.254.169.254"
_IMDS_VARIABLE = "AZURE_POD_IDENTITY_AUTHORITY_HOST"
_ARC_ENDPOINT = "http://localhost:40342" + _TOKEN_PATH
_LINUX_AGENT = "/opt/azcmagent/bin/himds"
_LINUX_TOKENS = "/var/opt/azcmagent/tokens"
_AUTHORITY = "https://login.microsoftonline.com"
_TENANT = r"[A-Za-z0-9.-]+"


class Condition:
    """What must be so for a rule to fit.

    Attributes:
        error_text: it, for people; a variable's name if it is that the variable is set.
        holds: whether it is so.
    """

    def __init__(self, error_text: str, holds: Callable[[Environment], bool]) -> None:
        self.error_text = error_text
        self.holds = holds


class Rule:
    """One way to know a source.

    Attributes:
        name: the rule's.
        conditions: all must hold.
        build: makes the source.
    """

    def __init__(
        self,
        name: str,
        conditions: tuple[Condition, ...],
        build: Callable[[Environment], TokenSource],
    ) -> None:
        self.name = name
        self.conditions = conditions
        self.build = build

    def fits(self, environment: Environment) -> bool:
        """Whether all conditions hold; looks no further than the first that does not."""
        return all(condition.holds(environment) for condition in self.conditions)


def detect(
    forced: str | None = None,
    *,
    tokens_directory: str | os.PathLike[str] | None = None,
    environment: Environment | None = None,
) -> TokenSource:
    """The token source of this process.

    Args:
        forced: ``imds`` or ``arc`` to look no further.
        tokens_directory: another place for Arc's key files; only code may name one.
        environment: that of the process, unless it has been read already.

    Raises:
        ValueError: for another ``forced``.
    """
    env = environment or Environment()
    source = rule_for(forced, env).build(env)
    source.forced = forced is not None
    if tokens_directory is not None and isinstance(source, ArcSource):
        source.tokens_directory = os.fspath(tokens_directory) or source.tokens_directory
    return source


def rule_for(forced: str | None, environment: Environment) -> Rule:
    """The rule by which `detect` builds the source.

    Raises:
        ValueError: for another ``forced`` than ``imds`` and ``arc``.
    """
    if forced is not None and forced not in _FORCED:
        raise ValueError(f"source is 'imds', 'arc' or None for what is found, not {forced!r}")
    rules = RULES if forced is None else _FORCED[forced]
    return next((rule for rule in rules if rule.fits(environment)), rules[-1])


def _set(*variables: str) -> tuple[Condition, ...]:
    return tuple(Condition(name, _is_set(name)) for name in variables)


def _is_set(variable: str) -> Callable[[Environment], bool]:
    return lambda environment: bool(environment[variable])


def _service_fabric(environment: Environment) -> TokenSource:
    return _by_header("service-fabric", environment, environment["IDENTITY_SERVER_THUMBPRINT"])


def _app_service(environment: Environment) -> TokenSource:
    return _by_header("app-service", environment)


def _by_header(name: str, environment: Environment, thumbprint: str | None = None) -> TokenSource:
    secret = _secret(environment["IDENTITY_HEADER"])
    endpoint = environment["IDENTITY_ENDPOINT"]
    return AppSource(name, endpoint, "IDENTITY_ENDPOINT", secret, thumbprint)


def _secret(value: str) -> Secret:
    from .._core.secret import Secret

    return Secret(value)


def _arc(environment: Environment) -> TokenSource:
    return ArcSource(
        environment["IDENTITY_ENDPOINT"], _tokens_directory(environment), "IDENTITY_ENDPOINT"
    )


def _azure_ml(environment: Environment) -> TokenSource:
    secret = _secret(environment["MSI_SECRET"])
    return AppSource("azure-ml", environment["MSI_ENDPOINT"], "MSI_ENDPOINT", secret)


def _cloud_shell(environment: Environment) -> TokenSource:
    return AppSource("cloud-shell", environment["MSI_ENDPOINT"], "MSI_ENDPOINT")


def _workload_identity(environment: Environment) -> TokenSource:
    import re

    host = environment["AZURE_AUTHORITY_HOST"] or _AUTHORITY
    if "://" not in host:
        host = f"https://{host}"
    tenant = environment["AZURE_TENANT_ID"]
    return WorkloadSource(
        f"{host.rstrip('/')}/{tenant}",
        "AZURE_AUTHORITY_HOST" if re.fullmatch(_TENANT, tenant) else "AZURE_TENANT_ID",
        client_id=environment["AZURE_CLIENT_ID"],
        token_file=environment["AZURE_FEDERATED_TOKEN_FILE"],
    )


def _installed_arc(environment: Environment) -> TokenSource:
    return ArcSource(_ARC_ENDPOINT, _tokens_directory(environment))


def _imds(environment: Environment) -> TokenSource:
    named = environment[_IMDS_VARIABLE]
    authority = (named or _IMDS_AUTHORITY).strip("/")
    return ImdsSource(authority + _TOKEN_PATH, _IMDS_VARIABLE if named else "")


def _tokens_directory(environment: Environment) -> str:
    """Where the Arc agent of this platform leaves its key files."""
    if sys.platform == "win32":
        data = environment["ProgramData"] or r"C:\ProgramData"
        return rf"{data}\AzureConnectedMachineAgent\Tokens"
    return _LINUX_TOKENS


def _agent_is_installed(environment: Environment) -> bool:
    agent = _LINUX_AGENT
    if sys.platform == "win32":
        programs = environment["ProgramFiles"] or r"C:\Program Files"
        agent = rf"{programs}\AzureConnectedMachineAgent\himds.exe"
    return os.path.exists(agent)


_NO_OTHER_IMDS = Condition(f"no {_IMDS_VARIABLE}", lambda env: not env[_IMDS_VARIABLE])
# Where both are missing, those two are set for somebody else, such as the Azure command line.
_AUTHORITY_OR_CLIENT = Condition(
    "AZURE_AUTHORITY_HOST or AZURE_CLIENT_ID",
    lambda env: bool(env["AZURE_AUTHORITY_HOST"] or env["AZURE_CLIENT_ID"]),
)
_AGENT = Condition("an installed Arc agent", _agent_is_installed)

_NAMED_ARC = Rule("arc", _set("IDENTITY_ENDPOINT", "IMDS_ENDPOINT"), _arc)
_INSTALLED_ARC = Rule("arc-installed", (_NO_OTHER_IMDS, _AGENT), _installed_arc)
_VM = Rule("imds", (), _imds)

RULES = (
    Rule(
        "service-fabric",
        _set("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IDENTITY_SERVER_THUMBPRINT"),
        _service_fabric,
    ),
    Rule("app-service", _set("IDENTITY_ENDPOINT", "IDENTITY_HEADER"), _app_service),
    _NAMED_ARC,
    Rule("azure-ml", _set("MSI_ENDPOINT", "MSI_SECRET"), _azure_ml),
    Rule("cloud-shell", _set("MSI_ENDPOINT"), _cloud_shell),
    Rule(
        "workload-identity",
        (*_set("AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE"), _AUTHORITY_OR_CLIENT),
        _workload_identity,
    ),
    _INSTALLED_ARC,
    _VM,
)
# Who names a source gets it: where none of its rules fits, the last one builds it all the same.
_FORCED = {IMDS: (_VM,), ARC: (_NAMED_ARC, _INSTALLED_ARC)}
