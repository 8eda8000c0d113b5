"""Which token source this process has: the only reader of the environment.

The order is azure-identity's, with one addition: an Arc agent that is installed is preferred to
IMDS even where its variables are missing, as they are under systemd. On an EC2 host that is an
Arc server, 169.254.169.254 is somebody else's service.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from .._core.failure import Unavailable, quote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._core.secret import Secret

IMDS = "imds"
ARC = "arc"
_LABELS = {
    IMDS: "the Azure VM metadata service (IMDS)",
    ARC: "the Azure Arc agent (HIMDS)",
    "service-fabric": "Service Fabric",
    "app-service": "App Service",
    "azure-ml": "Azure Machine Learning",
    "cloud-shell": "Cloud Shell",
    "workload-identity": "workload identity",
}
_TOKEN_PATH = "/metadata/identity/oauth2/token"  # noqa: S105 - a path
_IMDS_AUTHORITY = "http://169.254.169.254"
_ARC_AUTHORITY = "http://localhost:40342"
_LINUX_AGENT = "/opt/azcmagent/bin/himds"
_WORKLOAD_VARIABLES = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE")
# No user, no query, no backslash: parsers of URLs disagree on those, and Arc's secret goes there.
_ENDPOINT = (
    r"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?(?:/[A-Za-z0-9_./~-]*)?"
)
_TENANT = r"[A-Za-z0-9.-]+"
_SECRETS = {
    "service-fabric": "IDENTITY_HEADER",
    "app-service": "IDENTITY_HEADER",
    "azure-ml": "MSI_SECRET",
}


class Source(NamedTuple):
    """A token endpoint and what kind it is.

    Attributes:
        name: the kind, such as ``imds`` or ``arc``.
        endpoint: its URL.
        variable: the environment variable that named it, if one did.
        path: where Arc's key files lie, or the file of a workload's federated token.
        client_id: the identity of a workload that selects none.
    """

    name: str
    endpoint: str
    variable: str = ""
    path: str = ""
    client_id: str = ""

    def __str__(self) -> str:
        return f"{_LABELS[self.name]} at {quote(self.endpoint)}"

    def check(self) -> None:
        """Refuse an endpoint that is no plain http(s) URL with a port that there is.

        Raises:
            Unavailable: with the variable to mend.
        """
        import re

        match = re.fullmatch(_ENDPOINT, self.endpoint)
        if match is None or not 0 < int(match[1] or 80) < 65536:
            raise Unavailable(
                f"{self.variable} must be an http or https URL and nothing else, "
                f"but it makes {quote(self.endpoint)!r}",
                f"Correct or unset {self.variable}.",
            )


def cache_setting(environment: Mapping[str, str] | None = None) -> tuple[str | None, str | None]:
    """What the environment says of the machine's cache.

    Returns:
        ``IMDS_IDENTITY_CACHE`` and ``XDG_RUNTIME_DIR``.
    """
    env = os.environ if environment is None else environment
    return env.get("IMDS_IDENTITY_CACHE") or None, env.get("XDG_RUNTIME_DIR") or None


def secret_of(source: Source, environment: Mapping[str, str] | None = None) -> Secret | None:
    """What the environment has for this process to prove itself to ``source`` with, if anything."""
    from .._core.secret import Secret

    env = os.environ if environment is None else environment
    value = env.get(_SECRETS.get(source.name, ""))
    return Secret(value) if value else None


def detect(
    forced: str | None = None,
    *,
    tokens_directory: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Source:
    """The token source of this process.

    Args:
        forced: ``imds`` or ``arc`` to look no further.
        tokens_directory: another place for Arc's key files; only code may name one.
        environment: to read instead of ``os.environ``.

    Raises:
        ValueError: for another ``forced``.
    """
    env = os.environ if environment is None else environment
    if forced is None:
        source = _hosted(env) or _arc(env) or _imds(env)
    elif forced == IMDS:
        source = _imds(env)
    elif forced == ARC:
        source = _arc(env) or _default_arc()
    else:
        raise ValueError(f"source is 'imds', 'arc' or None for what is found, not {forced!r}")
    if source.name != ARC:
        return source
    return source._replace(path=tokens_directory or _platform_tokens_directory(env))


def _hosted(env: Mapping[str, str]) -> Source | None:
    if endpoint := env.get("IDENTITY_ENDPOINT"):
        if env.get("IDENTITY_HEADER"):
            fabric = env.get("IDENTITY_SERVER_THUMBPRINT")
            name = "service-fabric" if fabric else "app-service"
            return Source(name, endpoint, "IDENTITY_ENDPOINT")
        if env.get("IMDS_ENDPOINT"):
            return Source(ARC, endpoint, "IDENTITY_ENDPOINT")
    if endpoint := env.get("MSI_ENDPOINT"):
        name = "azure-ml" if env.get("MSI_SECRET") else "cloud-shell"
        return Source(name, endpoint, "MSI_ENDPOINT")
    if all(env.get(name) for name in _WORKLOAD_VARIABLES):
        return _workload(env)
    return None


def _workload(env: Mapping[str, str]) -> Source:
    import re

    host = env.get("AZURE_AUTHORITY_HOST") or "https://login.microsoftonline.com"
    if "://" not in host:
        host = f"https://{host}"
    tenant = env["AZURE_TENANT_ID"]
    return Source(
        "workload-identity",
        f"{host.rstrip('/')}/{tenant}",
        "AZURE_AUTHORITY_HOST" if re.fullmatch(_TENANT, tenant) else "AZURE_TENANT_ID",
        path=env["AZURE_FEDERATED_TOKEN_FILE"],
        client_id=env["AZURE_CLIENT_ID"],
    )


def _arc(env: Mapping[str, str]) -> Source | None:
    if env.get("IDENTITY_ENDPOINT") and env.get("IMDS_ENDPOINT"):
        return Source(ARC, env["IDENTITY_ENDPOINT"], "IDENTITY_ENDPOINT")
    if env.get("AZURE_POD_IDENTITY_AUTHORITY_HOST"):
        return None
    agent = _LINUX_AGENT
    if sys.platform == "win32":
        programs = env.get("ProgramFiles", r"C:\Program Files")
        agent = rf"{programs}\AzureConnectedMachineAgent\himds.exe"
    return _default_arc() if os.path.exists(agent) else None


def _default_arc() -> Source:
    return Source(ARC, _ARC_AUTHORITY + _TOKEN_PATH)


def _imds(env: Mapping[str, str]) -> Source:
    named = env.get("AZURE_POD_IDENTITY_AUTHORITY_HOST")
    authority = (named or _IMDS_AUTHORITY).strip("/")
    variable = "AZURE_POD_IDENTITY_AUTHORITY_HOST" if named else ""
    return Source(IMDS, authority + _TOKEN_PATH, variable)


def _platform_tokens_directory(env: Mapping[str, str]) -> str:
    if sys.platform == "win32":
        data = env.get("ProgramData", r"C:\ProgramData")
        return rf"{data}\AzureConnectedMachineAgent\Tokens"
    return "/var/opt/azcmagent/tokens"
