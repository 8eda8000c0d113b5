"""Gather all facts about this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._core.failure import Failure
from ..._core.identity import parse_identity
from ..._core.scope import resource_of
from ..._platform import proxy_agent
from ..._platform.clock import SYSTEM_CLOCK
from ..._platform.environment import Environment
from ..._sources.arc.source import ArcSource, is_installed
from ..._sources.explain import explain
from ..._sources.federated_application import FederatedSource
from ..._sources.firmware import firmware
from ..._sources.registry import detect
from ..._sources.workload_identity import AUTHORITY, WorkloadSource
from ..._token_cache.cache import TokenCache
from ..._token_cache.client import TokenClient
from ..._token_cache.options import CallOptions
from .agent import gather_agent
from .egress import EgressProbes, hosts_for
from .facts import Agent, Application, DiagnosisOptions, Facts, ServiceProbe, Tls, WorkloadToken
from .hosting import gather_hosting
from .network import gather_network
from .service_probe import host_and_port, no_jitter, once, probe_service
from .shared_cache import gather_cache
from .system import gather_system, read_pod, read_workload_token
from .tls import gather_tls

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..._core.identity import Identity
    from ..._sources.host import TokenSource

DEFAULT_RESOURCE = "https://management.azure.com/"


def collect_facts(resource: str | None = None, **options: Unpack[DiagnosisOptions]) -> Facts:
    """Return the facts; the parameters are those of `imds_identity.doctor.diagnose`."""
    if unknown := set(options) - set(DiagnosisOptions.__annotations__):
        raise TypeError(f"unexpected keyword argument {min(unknown)!r}")
    scope, source = options.get("scope"), options.get("source")
    if resource is not None and scope is not None:
        raise ValueError("pass either resource or scope, not both")
    identity = parse_identity(
        client_id=options.get("client_id"),
        object_id=options.get("object_id"),
        resource_id=options.get("resource_id"),
    )
    environment = Environment()
    directory = options.get("arc_tokens_directory")
    token_source = detect(source, tokens_directory=directory, environment=environment)
    resource = resource or scope or DEFAULT_RESOURCE
    application, application_source = Application(), None
    if options.get("as_application") or options.get("tenant"):
        application = Application(
            options.get("as_application") or "", options.get("tenant") or "", resource
        )
        application_source = _application_source(application, token_source, identity, environment)
        resource, scope = application_source.audience, None
    system, known_firmware = gather_system(SYSTEM_CLOCK, environment), firmware()
    facts = Facts(
        resource,
        identity,
        token_source,
        explain(source, environment=environment),
        environment,
        known_firmware,
        is_scope=scope is not None,
        cache=gather_cache(options.get("cache"), token_source, environment),
        system=system,
        hosting=gather_hosting(environment, known_firmware, system.platform),
        pod=read_pod(environment["AZURE_FEDERATED_TOKEN_FILE"]),
        application=application,
        has_proxy_agent=proxy_agent.is_visible(),
        has_enforced_rules=proxy_agent.is_enforcing(),
    )
    hosts = hosts_for(token_source, environment) if options.get("network") else ()
    probes = EgressProbes(hosts, environment, SYSTEM_CLOCK)
    try:
        token_source.check()
    except Failure as failure:
        facts = facts._replace(endpoint_problem=failure.problem)
    else:
        facts = _add_service_facts(facts, token_source, identity, application_source)
    return facts._replace(egress=probes.results()) if options.get("network") else facts


def _application_source(
    application: Application, source: TokenSource, identity: Identity, environment: Environment
) -> FederatedSource:
    """Return the source of the application's tokens; raise ValueError for an invalid setting."""
    if not parse_identity(client_id=application.client_id).selector:
        raise ValueError("as_application must be the client ID of the application")
    authority = environment["AZURE_AUTHORITY_HOST"] or AUTHORITY
    token_cache, options = TokenCache(SYSTEM_CLOCK, no_jitter), CallOptions(once())
    tokens = TokenClient(source, identity, token_cache, None, options)
    return FederatedSource(authority, application.tenant, application.client_id, tokens)


def _add_service_facts(
    facts: Facts, source: TokenSource, identity: Identity, application: FederatedSource | None
) -> Facts:
    request_token = facts.cache.backoff_seconds <= 0
    requested = (application, resource_of((facts.application.resource,))) if application else None
    probe = probe_service(
        source, identity, resource_of((facts.resource,)), SYSTEM_CLOCK,
        request_token=request_token, application=requested,
    )  # fmt: skip
    return facts._replace(
        probe=probe,
        tls=gather_tls(source, facts.environment, probe.failure) if probe.failure else Tls(),
        network=gather_network(*host_and_port(source)),
        agent=_agent(facts, source, probe),
        workload=_workload_token(source),
    )


def _agent(facts: Facts, source: TokenSource, probe: ServiceProbe) -> Agent:
    installed = is_installed(facts.environment)
    if not isinstance(source, ArcSource):
        return Agent(installed)
    _, port = host_and_port(source)
    listening = probe.connect_seconds is not None
    return gather_agent(port, source.tokens_directory, installed=installed, listening=listening)


def _workload_token(source: TokenSource) -> WorkloadToken:
    if isinstance(source, WorkloadSource):
        return read_workload_token(source.token_file)
    return WorkloadToken()
