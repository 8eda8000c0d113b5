"""The supported hosts in the order of detection, and the detection itself.

The order is that of azure-identity, with two additions: Container Instances on Windows, and an Arc
agent that is installed but not named by variables, as for systemd services. This agent precedes
IMDS: on an Arc server in another cloud, 169.254.169.254 is that cloud's metadata service.
"""

from __future__ import annotations

import os

from .._core.identity import ascii_lower
from .._platform.environment import Environment
from .app_hosts.app_service import APP_SERVICE
from .app_hosts.azure_ml import AZURE_ML
from .app_hosts.cloud_shell import CLOUD_SHELL
from .app_hosts.container_instances import CONTAINER_INSTANCES
from .app_hosts.service_fabric import SERVICE_FABRIC
from .arc.source import ARC, ARC_INSTALLED, ArcSource
from .azure_vm import IMDS
from .workload_identity import WORKLOAD_IDENTITY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .host import HostSpec, TokenSource

HOSTS: tuple[HostSpec, ...] = (
    SERVICE_FABRIC,
    CONTAINER_INSTANCES,
    APP_SERVICE,
    ARC,
    AZURE_ML,
    CLOUD_SHELL,
    WORKLOAD_IDENTITY,
    ARC_INSTALLED,
    IMDS,
)


def detect(
    forced: str | None = None,
    *,
    tokens_directory: str | os.PathLike[str] | None = None,
    environment: Environment | None = None,
) -> TokenSource:
    """Return the token source of this process.

    Raise ValueError if ``forced`` is neither ``imds`` nor ``arc``.

    Args:
        forced: ``imds`` or ``arc`` instead of detection.
        tokens_directory: another directory of Arc's key files; never taken from the environment.
        environment: a snapshot of the environment, if there is one.
    """
    environment = environment or Environment()
    source = create_source(spec_for(forced, environment), environment, is_forced=forced is not None)
    if tokens_directory is not None and isinstance(source, ArcSource):
        source.tokens_directory = os.fspath(tokens_directory) or source.tokens_directory
    return source


def create_source(spec: HostSpec, environment: Environment, *, is_forced: bool) -> TokenSource:
    """Return the token source that the environment describes for this kind of host."""
    source = spec.create_source(environment)
    source.forced = is_forced
    client_id = environment["AZURE_CLIENT_ID"]
    if ascii_lower(client_id) != ascii_lower(source.client_id):
        source.unused_client_id = client_id
    return source


def spec_for(forced: str | None, environment: Environment) -> HostSpec:
    """Return the specification by which `detect` builds the source.

    Raise ValueError if ``forced`` is neither ``imds`` nor ``arc``.
    """
    specs = [spec for spec in HOSTS if forced is None or is_forced(spec, forced)]
    if not specs:
        raise ValueError(f"source must be 'imds', 'arc' or None (to detect it), not {forced!r}")
    # The last one builds a forced source if no conditions are met.
    return next((spec for spec in specs if spec.matches(environment)), specs[-1])


def is_forced(spec: HostSpec, forced: str) -> bool:
    """Return whether the caller named this source; app platforms cannot be named."""
    return spec.is_per_machine and spec.name == forced


def spec_of_rule(rule: str) -> HostSpec:
    """Return the specification whose rule has this name; raise KeyError if there is none."""
    return {spec.rule: spec for spec in HOSTS}[rule]


def leftover_variables(rule: str, environment: Environment) -> list[str]:
    """Return the variables of other hosts that are set although ``rule`` was used."""
    own = spec_of_rule(rule).variables
    names = dict.fromkeys(name for spec in HOSTS for name in spec.variables)
    return [name for name in names if environment[name] and name not in own]


def misleading_variables() -> list[str]:
    """Return the variables that make other programs use one of the hosts."""
    return sorted({name for spec in HOSTS for name in spec.misleading})
