"""Gathers all the facts of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..._core.failure import Failure
from ..._core.identity import parse_identity
from ..._core.scope import resource_of
from ..._platform.clock import SYSTEM_CLOCK
from ..._platform.environment import Environment
from ..._sources.explain import explain
from ..._sources.firmware import firmware
from ..._sources.registry import detect
from ..._sources.sources import ArcSource, WorkloadSource
from .agent import agent_at
from .contact import contact_with
from .facts import Agent, Contact, Facts, Network, Workload
from .network import network_to
from .shared import shared_of
from .system import system_of, workload_in

if TYPE_CHECKING:
    import os

    from ..._core.identity import Identity
    from ..._sources.sources import TokenSource

_AGENT = "an installed Arc agent"
DEFAULT_RESOURCE = "https://management.azure.com/"


def gathered(
    resource: str | None = None,
    *,
    is_scope: bool = False,
    client_id: str | None = None,
    object_id: str | None = None,
    resource_id: str | None = None,
    source: str | None = None,
    arc_tokens_directory: str | os.PathLike[str] | None = None,
    cache: bool | str | os.PathLike[str] | None = None,
) -> Facts:
    """The facts; the parameters are those of `imds_identity.doctor.diagnose`.

    Raises:
        ValueError: for a setting that is not understood.
    """
    identity = parse_identity(client_id=client_id, object_id=object_id, resource_id=resource_id)
    environment = Environment()
    where = detect(source, tokens_directory=arc_tokens_directory, environment=environment)
    wanted = resource or DEFAULT_RESOURCE
    facts = Facts(
        wanted,
        identity,
        where,
        explain(source, environment=environment),
        environment,
        firmware(),
        is_scope,
        shared=shared_of(cache, where, environment),
        system=system_of(SYSTEM_CLOCK, environment),
    )
    try:
        where.check()
    except Failure as problem:
        return facts._replace(source_problem=problem.problem)
    return _asked(facts, where, identity, resource_of((wanted,)))


def _asked(facts: Facts, where: TokenSource, identity: Identity, resource: str) -> Facts:
    resting = facts.shared.paused_seconds > 0
    contact = contact_with(where, identity, resource, SYSTEM_CLOCK, resting=resting)
    return facts._replace(
        contact=contact,
        network=_network(where),
        agent=_agent(facts, where, contact),
        workload=_workload(where),
    )


def _network(where: TokenSource) -> Network:
    host, port = _host_and_port(where)
    return network_to(host, port)


def _host_and_port(where: TokenSource) -> tuple[str, int]:
    parts = urlsplit(where.endpoint)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _agent(facts: Facts, where: TokenSource, contact: Contact) -> Agent:
    installed = any(_AGENT in candidate.present for candidate in facts.explanation.candidates)
    if not isinstance(where, ArcSource):
        return Agent(installed)
    _, port = _host_and_port(where)
    listening = contact.connect_seconds is not None
    return agent_at(port, where.tokens_directory, installed=installed, listening=listening)


def _workload(where: TokenSource) -> Workload:
    return workload_in(where.token_file) if isinstance(where, WorkloadSource) else Workload()
