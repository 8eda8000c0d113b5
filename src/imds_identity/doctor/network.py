"""Checks of the network path to the service."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .._core.failure import sanitize
from ._facts.network import best_route
from .finding import (
    ADDRESS,
    GATEWAY,
    HOST,
    HOST_AND_PORT,
    INTERFACE,
    Verdict,
    argument,
    failure,
    ok,
    skipped,
    unknown,
    warning,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ._facts.facts import Facts, Network, Route

_VPN = re.compile(r"(?:tun|tap|wg|ppp|utun|ipsec|gpd|cscotun|tailscale)[0-9]*\b", re.IGNORECASE)
_DEFAULT = "0.0.0.0/0"
_HOST_PREFIX_LENGTH = 32
_HOST_NAME = "the endpoint has a host name, which the doctor does not resolve"


def check_ipv4(facts: Facts) -> Verdict:
    """Check that this machine has an IPv4 address, which the service requires."""
    network = facts.network
    if not network.address or _is_loopback(network.address):
        return skipped("the endpoint is not an IPv4 address outside this machine")
    if network.has_ipv4 is None:
        return unknown("this machine's addresses cannot be read")
    if network.has_ipv4 or not network.problem:
        return ok("this machine has an IPv4 address")
    return failure(
        f"no IPv4 address except loopback, {'only' if network.has_ipv6 else 'and no'} IPv6; "
        f"{network.address}: {network.problem}",
        f"this machine or container has no IPv4 address, and {network.address} is not available "
        "over IPv6",
        "assign an IPv4 address to the network interface (of the pod or the container network)",
    )


def check_route(facts: Facts) -> Verdict:
    """Check that the kernel, which applies its policy rules, has a route to the service."""
    network = facts.network
    if not network.address:
        return skipped(_HOST_NAME)
    if network.problem:
        return failure(
            f"{network.address}: {network.problem}",
            f"there is no route to {network.address}: {network.problem}",
            f"ip route get {argument(network.address, ADDRESS)}; ip rule; "
            f"ip route add {argument(network.address, ADDRESS)}/32 via DEFAULT_GATEWAY",
        )
    if _is_loopback(network.address):
        return ok("loopback")
    route = best_route(network.routes or (), network.address)
    via = f" over {route.interface} via {route.gateway} ({route.destination})" if route else ""
    return ok(f"from {network.source_address}{via}")


def check_network_interface(facts: Facts) -> Verdict:
    """Check that requests leave through the primary interface, not through a VPN or another one."""
    network = facts.network
    if not network.address or _is_loopback(network.address) or network.problem:
        return skipped("requests do not leave this machine")
    if network.routes is None:
        return unknown("the routing table cannot be read")
    wrong_route = _find_wrong_route(facts)
    if not wrong_route or facts.probe.claims is not None:
        return ok("requests leave through the primary network interface")
    return wrong_route


def _add_route_command(network: Network) -> str:
    """Return the command that routes requests through the primary interface."""
    default = _default_route(network)
    interface = argument(default and default.interface, INTERFACE)
    gateway = argument(default and default.gateway, GATEWAY)
    target = f"{argument(network.address, ADDRESS)}/32"
    if re.fullmatch(ADDRESS.pattern, interface):  # Windows identifies interfaces by address
        return f"route add {target} {interface} metric 1 -p"
    return f"sudo ip route add {target} via {gateway} dev {interface}"


def _default_route(network: Network) -> Route | None:
    """Return the default route that does not lead into a VPN."""
    routes = network.routes or ()
    defaults = (r for r in routes if r.destination == _DEFAULT and not _VPN.match(r.interface))
    return min(defaults, key=lambda route: route.metric, default=None)


def _find_wrong_route(facts: Facts) -> Verdict | None:
    """Return the verdict if requests bypass the primary interface."""
    network = facts.network
    problem = failure if facts.probe.connect_error and not facts.probe.refused else warning
    remedy = _add_route_command(network)
    route = best_route(network.routes or (), network.address)
    default = _default_route(network)
    if route is not None and _VPN.match(route.interface):
        return problem(
            f"{network.address} is routed over {route.interface} ({route.destination})",
            f"the route to {network.address} leads into a VPN ({route.interface}), where the "
            "service is not available",
            remedy,
        )
    if route and default and _overrides_default(route, default):
        return problem(
            f"{network.address} is routed over {route.interface} ({route.destination}), the "
            f"default route over {default.interface}",
            f"the route {route.destination} sends {network.address} over {route.interface} and "
            f"not over the primary interface {default.interface}, as on failover clusters and "
            "machines with several interfaces: the service accepts requests from the primary "
            "one only",
            remedy,
        )
    primary, *others = list(_own_addresses(facts.probe.document or {})) or [""]
    if network.source_address in others:
        return problem(
            f"requests leave from {network.source_address}; the primary address is {primary}",
            f"requests leave from {network.source_address}, and the service accepts requests "
            f"only from the primary network interface's primary address {primary}",
            remedy,
        )
    return None


def _overrides_default(route: Route, default: Route) -> bool:
    """Return whether a network route, not an intended host route, overrides the default route."""
    return route.prefix_length != _HOST_PREFIX_LENGTH and route.interface != default.interface


def _own_addresses(document: Mapping[str, object]) -> Iterator[str]:
    """Yield this VM's addresses from its metadata, the primary address first."""
    try:
        interfaces: list[dict[str, dict[str, list[dict[str, str]]]]]
        interfaces = document["network"]["interface"]  # type: ignore[index]
        for interface in interfaces:
            for address in interface["ipv4"]["ipAddress"]:
                yield str(address["privateIpAddress"])
    except (KeyError, TypeError, IndexError):
        return


def check_connection(facts: Facts) -> Verdict:
    """Check that the endpoint accepts connections."""
    probe = facts.probe
    if probe.connect_seconds is not None and not probe.connect_error:
        return ok(f"connected in {probe.connect_seconds * 1000:.0f} ms")
    if facts.network.problem:
        return skipped("there is no route to connect over")
    if not probe.connect_error:
        return skipped("no connection was attempted, because requests may go through a proxy")
    host = sanitize(urlsplit(facts.source.endpoint).netloc)
    server = argument(host, HOST_AND_PORT)
    seen = f"{host}: {probe.connect_error}"
    if not facts.source.is_per_machine and facts.source.endpoint.startswith("https"):
        return failure(
            seen,
            f"{host} cannot be reached",
            f"curl -sv https://{server}; allow connections to this host, or set the proxy: export "
            "HTTPS_PROXY=…",
        )
    if probe.refused:
        return failure(
            seen,
            f"no process listens at {host}, or a firewall refuses the connection",
            f"look for {server} in the listening sockets: sudo ss -ltnp; in the firewall rules: "
            "sudo iptables -S OUTPUT",
        )
    return failure(
        seen,
        f"packets to {host}{_from_container(facts)} are lost: a firewall, a network policy or a "
        "wrong route drops them",
        f"curl -sv --noproxy '*' -m 2 -H Metadata:true http://{server}/metadata/versions; "
        "sudo iptables -S; sudo nft list ruleset",
    )


def _from_container(facts: Facts) -> str:
    container = facts.system.container
    return f" from this {container} container" if container else ""


def check_proxies(facts: Facts) -> Verdict:
    """Check whether clients that use proxy settings would send metadata requests to a proxy."""
    environment, host = facts.environment, urlsplit(facts.source.endpoint).hostname or ""
    scheme = urlsplit(facts.source.endpoint).scheme
    names = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY")
    proxies = [name for name in names if environment[name]]
    if not proxies:
        return ok("no proxy is set")
    if not facts.source.is_per_machine:
        return ok(f"{proxies[0]} is set, and is used for services on the internet")
    no_proxy = environment["no_proxy"] or environment["NO_PROXY"]
    if bypasses_proxy(host, no_proxy):
        return ok(f"{proxies[0]} is set, and NO_PROXY contains {host}")
    problem = f"does not contain {host}" if no_proxy else "is not set"
    return warning(
        f"{proxies[0]} is set, and NO_PROXY {problem}",
        f"{proxies[0]} makes other clients send requests for {host} to a proxy, which fails or "
        "returns a token of the proxy's own machine; this package never uses the proxy",
        f"export NO_PROXY={argument(host, HOST)}{',$NO_PROXY' if no_proxy else ''}",
    )


def bypasses_proxy(host: str, no_proxy: str) -> bool:
    """Return whether ``NO_PROXY`` has the host's name, a suffix, its address or its network."""
    for entry in no_proxy.replace(" ", "").lower().split(","):
        name = entry.partition(":")[0].lstrip(".")
        if entry == "*" or (name and (host == name or host.endswith(f".{name}"))):
            return True
        if "/" in entry and _is_in(host, entry):
            return True
    return False


def _is_in(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _is_loopback(address: str) -> bool:
    return address.startswith("127.")
