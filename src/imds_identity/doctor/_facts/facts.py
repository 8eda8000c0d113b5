"""The facts that checks judge: plain values, so that a test can state any machine there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..._core.failure import Failure
    from ..._core.identity import Identity
    from ..._platform.environment import Environment
    from ..._sources.explain import Explanation
    from ..._sources.firmware import Firmware
    from ..._sources.sources import TokenSource


class Route(NamedTuple):
    """One line of the machine's table of IPv4 routes.

    Attributes:
        interface: by which it goes.
        destination: the network it leads to, as ``169.254.0.0/16``.
        gateway: the next hop; ``0.0.0.0`` if the network is at hand.
        metric: of two equal ones the lower is used.
    """

    interface: str
    destination: str
    gateway: str = "0.0.0.0"  # noqa: S104 - an address that is read, not bound
    metric: int = 0

    @property
    def length(self) -> int:
        """Bits of the destination's prefix: 32 for an address, 0 for the default route."""
        return int(self.destination.partition("/")[2])


class Network(NamedTuple):
    """The way to the service.

    Attributes:
        address: the service's IPv4 address; empty if a name was given, which is not looked up here.
        source_address: where requests would leave from, by the system's rules of routing.
        problem: why there is no way, in the system's words.
        routes: the main table; None where it cannot be read.
        has_ipv4: whether there is an IPv4 address but the loopback's; None if that is unknown.
        has_ipv6: likewise for IPv6.
    """

    address: str = ""
    source_address: str = ""
    problem: str = ""
    routes: tuple[Route, ...] | None = None
    has_ipv4: bool | None = None
    has_ipv6: bool | None = None


class Exchanged(NamedTuple):
    """One request that was sent, without what is secret in it or its answer.

    Attributes:
        path: of its URL, without the query.
        status: the HTTP status; 0 if there was no answer.
        headers: the answer's, by lower-case name.
        words: how the answer begins; empty for a token.
        problem: why there was no answer.
        seconds: how long it took.
        unreached: whether there was not even a connection.
        ahead: seconds by which this machine's clock is ahead of the answer's Date; None if unknown.
    """

    path: str
    status: int = 0
    headers: Mapping[str, str] = {}
    words: str = ""
    problem: str = ""
    seconds: float = 0.0
    unreached: bool = False
    ahead: float | None = None


class Contact(NamedTuple):
    """What came of asking the service.

    Attributes:
        connect_seconds: how long connecting took; None if it failed or was not tried by itself.
        connect_problem: why no connection was made, at once or by any request.
        refused: whether it was refused at once, and not lost on the way.
        metadata: the request for the machine's metadata, if one was sent.
        document: what that answered, if it was JSON.
        requests: every request that was sent, in order.
        claims: what the token says of itself; None if there is none.
        failure: why there is no token.
        default_works: whether the identity that needs no selector gets one; None if not tried.
    """

    connect_seconds: float | None = None
    connect_problem: str = ""
    refused: bool = False
    metadata: Exchanged | None = None
    document: Mapping[str, Any] | None = None
    requests: tuple[Exchanged, ...] = ()
    claims: Mapping[str, Any] | None = None
    failure: Failure | None = None
    default_works: bool | None = None


class Agent(NamedTuple):
    """Azure Arc's agent on this machine.

    Attributes:
        installed: whether its program is here.
        tokens_directory: where its key files should be.
        directory_problem: why that cannot be entered; empty if it can.
        port_problem: why who listens on its port is not to be trusted; empty if he is.
        in_group: whether this process is root or in the group himds; None if unknown.
        listed: whether its user is in that group by now, though the process may not be.
        user: who this process runs as.
        certificate_ends: when its certificate expires (Unix time); None if it cannot be read.
    """

    installed: bool = False
    tokens_directory: str = ""
    directory_problem: str = ""
    port_problem: str = ""
    in_group: bool | None = None
    listed: bool = False
    user: str = ""
    certificate_ends: float | None = None


class SharedToken(NamedTuple):
    """A token in the shared cache.

    Attributes:
        resource: what for.
        endpoint: where from.
        selector: whose, as it was selected.
        object_id: whose, as the token says; empty if it does not.
        seconds_left: until it ends.
    """

    resource: str
    endpoint: str
    selector: str
    object_id: str
    seconds_left: float


class Shared(NamedTuple):
    """What this user's processes share.

    Attributes:
        is_off: whether nothing is shared because somebody said so.
        path: where it is; empty if there is no place for it.
        problem: why it is not used.
        tokens: what is in it.
        failures: how many failures are in it, which spare other processes the request.
        paused_seconds: for how long the service asked this machine to rest.
    """

    is_off: bool = False
    path: str = ""
    problem: str = ""
    tokens: tuple[SharedToken, ...] = ()
    failures: int = 0
    paused_seconds: float = 0.0


class Workload(NamedTuple):
    """The file with a Kubernetes workload's own token.

    Attributes:
        path: where it should be.
        problem: why it cannot be read.
        expires: the token's ``exp``; None if it tells none.
        subject: its ``sub``.
        audience: its ``aud``.
    """

    path: str = ""
    problem: str = ""
    expires: float | None = None
    subject: str = ""
    audience: str = ""


class System(NamedTuple):
    """Where this process runs.

    Attributes:
        wall: Unix time by this machine's clock.
        python: its version.
        platform: the operating system.
        packages: versions by name, of those that are installed.
        container: what kind of container it is; empty if none is seen.
    """

    wall: float = 0.0
    python: str = ""
    platform: str = ""
    packages: Mapping[str, str] = {}
    container: str = ""


class Facts(NamedTuple):
    """All that is known of a machine.

    Attributes:
        resource: as it was asked for, a scope maybe.
        is_scope: whether it was given as a scope.
        identity: whose token.
        source: where tokens come from.
        source_problem: what is wrong with the source's endpoint.
        explanation: why that source was chosen.
        environment: the variables.
        firmware: what the firmware says.
        network: the way to the service.
        contact: what came of asking.
        agent: Arc's.
        shared: the cache.
        workload: a Kubernetes workload's own token.
        system: where this runs.
    """

    resource: str
    identity: Identity
    source: TokenSource
    explanation: Explanation
    environment: Environment
    firmware: Firmware
    is_scope: bool = False
    source_problem: str = ""
    network: Network = Network()
    contact: Contact = Contact()
    agent: Agent = Agent()
    shared: Shared = Shared()
    workload: Workload = Workload()
    system: System = System()
