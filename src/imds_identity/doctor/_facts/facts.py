"""The facts that the checks read: plain values, so that a test can describe any machine."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from ..._http.exchange import ErrorKind

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from ..._core.failure import Failure
    from ..._core.identity import Identity
    from ..._platform.environment import Environment
    from ..._sources.explain import Explanation
    from ..._sources.firmware import Firmware
    from ..._sources.host import TokenSource


class Route(NamedTuple):
    """One line of the IPv4 routing table."""

    interface: str  # the name on Linux, the address on Windows
    destination: str  # in CIDR notation, such as 169.254.0.0/16
    gateway: str = "0.0.0.0"  # noqa: S104 - no gateway: the network is directly connected
    metric: int = 0  # of routes with the same prefix, the system uses the one with the lowest

    @property
    def prefix_length(self) -> int:
        """The destination's prefix length: 32 for a host route, 0 for the default route."""
        return int(self.destination.partition("/")[2])


class Rejection(enum.Enum):
    """A kind of route or rule that rejects packets, in the terms of ``ip route``."""

    NONE = ""
    BLACKHOLE = "blackhole"
    PROHIBIT = "prohibit"
    UNREACHABLE = "unreachable"


class Network(NamedTuple):
    """The network path to the service."""

    address: str = ""  # IPv4; empty if the endpoint has a host name, which is not resolved
    source_address: str = ""  # the local address that the kernel selects for requests
    problem: str = ""  # why the kernel has no route; empty if it has one
    rejection: Rejection = Rejection.NONE  # the same, for code
    rejecting_route: str = ""  # the destination of the route that drops packets, if it is known
    rejecting_rule: str = ""  # the same for a policy rule
    rule_priority: int = 0  # of that policy rule
    is_locked: bool = False  # systemd's setting that makes the service unreachable
    routes: tuple[Route, ...] | None = None  # the main routing table; None if not readable
    interface: str = ""  # the first that is not virtual
    has_ipv4: bool | None = None  # apart from the loopback address; None if unknown
    has_ipv6: bool | None = None


class RequestRecord(NamedTuple):
    """One request that was sent, without the secrets in it and in its response."""

    path: str  # without the query
    status: int = 0  # 0 if there was no response
    headers: Mapping[str, str] = {}  # selected response headers, by lower-case name
    body_start: str = ""  # of a metadata response; empty for token responses
    error: str = ""  # why there was no response
    kind: ErrorKind = ErrorKind.OTHER  # the same, for code
    seconds: float = 0.0
    connect_failed: bool = False
    clock_offset: float | None = None  # seconds that this clock is ahead of the Date header


class ServiceProbe(NamedTuple):
    """The outcome of connecting to the service and of requesting its metadata and a token."""

    connect_seconds: float | None = None  # None if it failed or was left to the requests
    connect_error: str = ""  # of the first attempt or of any request
    connect_kind: ErrorKind = ErrorKind.OTHER
    metadata: RequestRecord | None = None
    document: Mapping[str, object] | None = None  # the metadata, if it was a JSON object
    requests: tuple[RequestRecord, ...] = ()  # in the order in which they were sent
    claims: Mapping[str, object] | None = None  # None if there is no token
    failure: Failure | None = None  # why there is no token
    default_identity_works: bool | None = None  # a token request without a selector succeeds
    application_claims: Mapping[str, object] | None = None  # None if it has no token
    application_failure: Failure | None = None  # why the application has no token
    application_requests: tuple[RequestRecord, ...] = ()


class CertificateFault(enum.Enum):
    """What is wrong with a certificate, according to OpenSSL."""

    UNTRUSTED = "untrusted"  # its issuer, or another reason
    EXPIRED = "expired"  # it, or a certificate of an issuer
    NOT_YET_VALID = "not-yet-valid"
    OTHER_NAME = "other-name"  # of another host


class Tls(NamedTuple):
    """Why the server's certificate is not trusted."""

    issuer: str = ""  # of the server's certificate; empty if unknown
    fault: CertificateFault = CertificateFault.UNTRUSTED
    expiry: float | None = None  # of the server's certificate, as Unix time; None if unknown
    bundle_problem: str = ""  # why the file in REQUESTS_CA_BUNDLE cannot be read


class EgressProbe(NamedTuple):
    """A connection to a server on the internet."""

    host: str
    error: str = ""  # empty if the connection was made
    kind: ErrorKind = ErrorKind.OTHER
    proxy: str = ""  # the variable that names the proxy, if there is one


class Agent(NamedTuple):
    """The Azure Arc agent on this machine."""

    installed: bool = False
    tokens_directory: str = ""  # for the agent's key files
    directory_problem: str = ""  # why this process cannot enter it; empty if it can
    directory_denied: bool = False  # whether the reason is a missing permission
    port_problem: str = ""  # why the listener on the agent's port is not trusted; empty if it is
    in_group: bool | None = None  # or root; None if there is no group himds
    listed: bool = False  # the group database lists the user, though the process may lack the group
    user: str = ""  # the user name of this process
    certificate_expiry: float | None = None  # Unix time; None if unknown
    certificate_problem: str = ""  # why the expiry is unknown
    resource: str | None = None  # its Azure resource; empty if not connected, None if unknown
    version: str = ""  # empty if unknown


class CachedToken(NamedTuple):
    """A token in the shared token cache, without the token itself."""

    resource: str
    endpoint: str
    selector: str
    object_id: str
    seconds_left: float


class Application(NamedTuple):
    """The application whose tokens the user needs; the identity's token is its assertion."""

    client_id: str = ""  # empty if none was named
    tenant: str = ""
    resource: str = ""  # the resource or scope that the user named


class CacheState(NamedTuple):
    """The shared token cache of this user's processes."""

    is_off: bool = False  # a setting turns the cache off
    path: str = ""  # empty if no location is suitable
    problem: str = ""  # why the directory is not used
    is_own: bool = False  # this user owns the directory
    tokens: tuple[CachedToken, ...] = ()
    failures: int = 0  # the number of cached failures, which spare other processes a request
    backoff_seconds: float = 0.0  # remaining seconds of the pause of all processes after throttling


class WorkloadToken(NamedTuple):
    """The federated token of a Kubernetes workload, without the token itself."""

    path: str = ""  # of the file that should contain it
    problem: str = ""  # why the file cannot be used
    is_missing: bool = False
    is_denied: bool = False
    is_empty: bool = False
    is_directory: bool = False
    token_file: str = ""  # in that directory, if there is one
    expiry: float | None = None  # the claim exp
    subject: str = ""  # the claim sub
    issuer: str = ""  # the claim iss
    audience: str = ""  # the first of the claim aud


class System(NamedTuple):
    """The system that this process runs on."""

    wall_time: float = 0.0  # Unix time by this machine's clock
    python: str = ""  # version
    platform: str = ""  # the operating system and its release
    packages: Mapping[str, str] = {}  # versions of installed packages, by name
    container: str = ""  # the type of container; empty if none is detected
    unit: str = ""  # the systemd service that this process belongs to


class Pod(NamedTuple):
    """The Kubernetes pod of this process, according to its tokens."""

    name: str = ""
    namespace: str = ""
    account: str = ""  # its service account


class HostKind(enum.Enum):
    """A kind of host whose identities are configured in its own way."""

    UNKNOWN = ""  # an Azure VM, or a machine that nothing identifies
    APP_SERVICE = "App Service"
    FUNCTIONS = "Azure Functions"
    CONTAINER_APPS = "Container Apps"
    CONTAINER_APP_JOBS = "Container Apps jobs"
    CONTAINER_INSTANCES = "Container Instances"
    KUBERNETES = "a Kubernetes pod"
    GITHUB_RUNNER = "a GitHub-hosted runner"
    PIPELINES_AGENT = "a Microsoft-hosted agent of Azure Pipelines"
    CODESPACES = "GitHub Codespaces"
    GITLAB_RUNNER = "a GitLab-hosted runner"
    DATABRICKS = "a Databricks cluster"
    AUTOMATION = "Azure Automation"
    BATCH = "Azure Batch"
    SYNAPSE = "Apache Spark in Azure Synapse or Microsoft Fabric"
    WSL = "the Windows Subsystem for Linux"
    OTHER_CLOUD = "another cloud"
    OTHER_PLATFORM = "a platform of another cloud"
    NOT_AZURE = "a machine outside Azure"


class Hosting(NamedTuple):
    """The host of this process, according to variables, the kernel and the firmware."""

    kind: HostKind = HostKind.UNKNOWN
    name: str = ""  # of the app, the cloud or the manufacturer
    group: str = ""  # the resource group, if known


class DiagnosisOptions(TypedDict, total=False):
    """The keywords of `diagnose`.

    Attributes:
        scope: The resource as a scope, such as ``https://vault.azure.net/.default``.
        client_id: The client ID of a user-assigned identity.
        object_id: The object ID of a user-assigned identity.
        resource_id: The resource ID of a user-assigned identity.
        as_application: The client ID of an application that trusts the identity, with ``tenant``.
        tenant: The tenant in which that application gets tokens.
        source: ``imds`` or ``arc``, to skip the detection of the token source.
        arc_tokens_directory: The directory of the Azure Arc agent's key files, if not the default.
        cache: The directory of the shared token cache; ``off`` or False for none.
        network: Also connect to Microsoft Entra ID, Azure Resource Manager and the services of the
            Azure Arc agent, through the proxy if there is one. No request is sent there.
    """

    scope: str | None
    client_id: str | None
    object_id: str | None
    resource_id: str | None
    as_application: str | None
    tenant: str | None
    source: str | None
    arc_tokens_directory: str | os.PathLike[str] | None
    cache: bool | str | os.PathLike[str] | None
    network: bool


class Facts(NamedTuple):
    """Everything that the checks may read."""

    resource: str  # the resource or scope that the user named, or the audience for an application
    identity: Identity
    source: TokenSource
    explanation: Explanation
    environment: Environment
    firmware: Firmware
    is_scope: bool = False  # the user named a scope
    endpoint_problem: str = ""  # why the source's endpoint cannot be used
    network: Network = Network()
    probe: ServiceProbe = ServiceProbe()
    tls: Tls = Tls()
    agent: Agent = Agent()
    cache: CacheState = CacheState()
    workload: WorkloadToken = WorkloadToken()
    system: System = System()
    hosting: Hosting = Hosting()
    pod: Pod = Pod()
    application: Application = Application()
    egress: tuple[EgressProbe, ...] | None = None  # None if they were not requested
    has_proxy_agent: bool = False  # Azure's guest proxy agent, which intercepts requests to IMDS
    has_enforced_rules: bool = False  # that agent enforces access rules; only root can read it

    @property
    def in_pod(self) -> bool:
        """Whether this process runs in a Kubernetes pod."""
        return bool(self.environment["KUBERNETES_SERVICE_HOST"])
