"""The facts that the checks read: plain values, so that a test can describe any machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..._core.failure import Failure
    from ..._core.identity import Identity
    from ..._platform.environment import Environment
    from ..._sources.explain import Explanation
    from ..._sources.firmware import Firmware
    from ..._sources.host import TokenSource


class Route(NamedTuple):
    """One line of the IPv4 routing table.

    Attributes:
        interface: the outgoing interface: its name on Linux, its address on Windows.
        destination: the destination network in CIDR notation, such as ``169.254.0.0/16``.
        gateway: the next hop; ``0.0.0.0`` if the network is directly connected.
        metric: of two routes with the same prefix, the system uses the one with the lower metric.
    """

    interface: str
    destination: str
    gateway: str = "0.0.0.0"  # noqa: S104 - an address that is read, not bound
    metric: int = 0

    @property
    def prefix_length(self) -> int:
        """The destination's prefix length: 32 for a host route, 0 for the default route."""
        return int(self.destination.partition("/")[2])


class Network(NamedTuple):
    """The network path to the service.

    Attributes:
        address: the service's IPv4 address; empty if the endpoint has a host name, which the
            doctor does not resolve.
        source_address: the local address that the kernel selects for requests to the service.
        problem: why the kernel has no route; empty if it has one.
        routes: the main routing table; None if it cannot be read.
        has_ipv4: whether the machine has an IPv4 address besides the loopback address; None if
            that is unknown. ``has_ipv6`` is the same for IPv6.
    """

    address: str = ""
    source_address: str = ""
    problem: str = ""
    routes: tuple[Route, ...] | None = None
    has_ipv4: bool | None = None
    has_ipv6: bool | None = None


class RequestRecord(NamedTuple):
    """One request that was sent, without the secrets in it and in its response.

    Attributes:
        path: the URL's path, without the query.
        status: the HTTP status; 0 if there was no response.
        headers: selected response headers, by lower-case name.
        body_start: the start of a metadata response's body; empty for token responses.
        error: why there was no response.
        seconds: how long the request took.
        connect_failed: whether the connection itself failed.
        clock_offset: seconds by which this machine's clock is ahead of the response's Date; None
            if there is no Date.
    """

    path: str
    status: int = 0
    headers: Mapping[str, str] = {}
    body_start: str = ""
    error: str = ""
    seconds: float = 0.0
    connect_failed: bool = False
    clock_offset: float | None = None


class ServiceProbe(NamedTuple):
    """The outcome of connecting to the service and of requesting its metadata and a token.

    Attributes:
        connect_seconds: how long connecting took; None if it failed or was left to the requests.
        connect_error: why no connection was made, by the first attempt or by any request.
        refused: whether the connection was refused, as opposed to timing out.
        metadata: the metadata request, if one was sent.
        document: the metadata response, if it was a JSON object.
        requests: all requests that were sent, in order.
        claims: the token's claims; None if there is no token.
        failure: why there is no token.
        default_identity_works: whether a token request without a selector succeeds; None if none
            was sent.
    """

    connect_seconds: float | None = None
    connect_error: str = ""
    refused: bool = False
    metadata: RequestRecord | None = None
    document: Mapping[str, object] | None = None
    requests: tuple[RequestRecord, ...] = ()
    claims: Mapping[str, object] | None = None
    failure: Failure | None = None
    default_identity_works: bool | None = None


class Agent(NamedTuple):
    """The Azure Arc agent on this machine.

    Attributes:
        installed: whether the agent's program exists.
        tokens_directory: the directory for the agent's key files.
        directory_problem: why this process cannot enter that directory; empty if it can.
        directory_denied: whether the reason is a missing permission.
        port_problem: why the process that listens on the agent's port is not trusted; empty if it
            is.
        in_group: whether this process is root or in the group himds; None if there is no group.
        listed: whether the group database lists the user, though the process may lack the group.
        user: the user name of this process.
        certificate_expiry: expiry of the agent's certificate (Unix time); None if unknown.
        certificate_problem: why the expiry is unknown.
    """

    installed: bool = False
    tokens_directory: str = ""
    directory_problem: str = ""
    directory_denied: bool = False
    port_problem: str = ""
    in_group: bool | None = None
    listed: bool = False
    user: str = ""
    certificate_expiry: float | None = None
    certificate_problem: str = ""


class CachedToken(NamedTuple):
    """A token in the shared token cache, without the token itself."""

    resource: str
    endpoint: str
    selector: str
    object_id: str
    seconds_left: float


class CacheState(NamedTuple):
    """The shared token cache of this user's processes.

    Attributes:
        is_off: whether a setting turns the cache off.
        path: the cache directory; empty if no location is suitable.
        problem: why the directory is not used.
        tokens: the cached tokens.
        failures: how many failures are cached, which spare other processes a request.
        backoff_seconds: how long this user's processes still send no requests because the service
            throttled one of them; 0 if it did not.
    """

    is_off: bool = False
    path: str = ""
    problem: str = ""
    tokens: tuple[CachedToken, ...] = ()
    failures: int = 0
    backoff_seconds: float = 0.0


class WorkloadToken(NamedTuple):
    """The federated token of a Kubernetes workload, without the token itself.

    Attributes:
        path: the file that should contain it.
        problem: why the file cannot be used.
        expiry: the token's ``exp``; None if it has none.
        subject: the token's ``sub``.
    """

    path: str = ""
    problem: str = ""
    expiry: float | None = None
    subject: str = ""


class System(NamedTuple):
    """The system that this process runs on.

    Attributes:
        wall_time: Unix time by this machine's clock.
        python: the Python version.
        platform: the operating system and its release.
        packages: versions of installed packages, by name.
        container: the type of container; empty if none is detected.
    """

    wall_time: float = 0.0
    python: str = ""
    platform: str = ""
    packages: Mapping[str, str] = {}
    container: str = ""


class Facts(NamedTuple):
    """Everything that the checks may read.

    Attributes:
        resource: the resource or scope that the user named.
        is_scope: whether the user named it as a scope.
        endpoint_problem: why the source's endpoint cannot be used.
    """

    resource: str
    identity: Identity
    source: TokenSource
    explanation: Explanation
    environment: Environment
    firmware: Firmware
    is_scope: bool = False
    endpoint_problem: str = ""
    network: Network = Network()
    probe: ServiceProbe = ServiceProbe()
    agent: Agent = Agent()
    cache: CacheState = CacheState()
    workload: WorkloadToken = WorkloadToken()
    system: System = System()
