"""Checks of the network path to the service."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from .._http.exchange import ErrorKind
from ._facts.facts import Rejection, Route
from ._facts.network import VIRTUAL, best_route
from .finding import (
    ADDRESS,
    GATEWAY,
    INTERFACE,
    NETWORK,
    UNIT,
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

    from ._facts.facts import Facts, Network

_VPN = re.compile(r"(?:tun|tap|wg|ppp|utun|ipsec|gpd|cscotun|tailscale)[0-9]*\b", re.IGNORECASE)
_DEFAULT = "0.0.0.0/0"
_HOST_PREFIX_LENGTH = 32
_NO_GATEWAY = Route._field_defaults["gateway"]
_NO_ROUTES = "there is no IPv4 route at all: the network interface is down or has no address"
_LOCKED = "systemd.imds.network=locked"
_UNLOCK = (
    f"sudo sed -i 's/{_LOCKED}//' /etc/default/grub; sudo update-grub # kernel command line; "
    f"or: sudo grubby --update-kernel=ALL --remove-args={_LOCKED}; then reboot"
)
_ASSIGN_ADDRESS = (
    "assign an IPv4 address to the network interface (of the pod or the container network)"
)
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
        _network_remedy(facts),
    )


def _network_remedy(facts: Facts) -> str:
    """Return where a process without an address gets a network."""
    if facts.system.unit:
        return f"systemctl show {argument(facts.system.unit, UNIT)} -p PrivateNetwork"
    if facts.system.container in ("Docker", "Podman"):
        return f"{facts.system.container.lower()} run --network bridge, and not --network none"
    return _ASSIGN_ADDRESS


def check_route(facts: Facts) -> Verdict:
    """Check that the kernel, which applies its policy rules, has a route to the service."""
    network = facts.network
    if not network.address:
        return skipped(_HOST_NAME)
    if network.problem:
        return failure(f"{network.address}: {network.problem}", *_route_problem(facts))
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


def _route_problem(facts: Facts) -> tuple[str, str]:
    """Return why the kernel has no route to the service, and the remedy."""
    network, kind = facts.network, facts.network.rejection.value
    address, drops = argument(network.address, ADDRESS), f"drops requests to {network.address}"
    if network.is_locked:
        return f"{_LOCKED} on the kernel's command line makes the service unreachable", _UNLOCK
    if network.rejecting_route:
        destination = argument(network.rejecting_route, NETWORK)
        remedy = " ".join(filter(None, ("sudo ip route del", kind, destination)))
        return f"the {kind or 'throw'} route {network.rejecting_route} {drops}", remedy
    if network.rejecting_rule:
        rule = f"{network.rule_priority} to {argument(network.rejecting_rule, NETWORK)} {kind}"
        return f"the policy rule {rule} {drops}", f"sudo ip rule del pref {rule}"
    if network.rejection in (Rejection.BLACKHOLE, Rejection.PROHIBIT):
        meaning = f"a policy rule {drops}: {network.problem}"
        return meaning, f"ip rule; sudo ip rule del to {address} {kind}"
    meaning = f"there is no route to {network.address}: {network.problem}"
    if _default_route(network):
        return f"{meaning}, because of a policy rule", f"ip rule; ip route get {address}"
    if network.routes == ():
        interface = argument(network.interface, INTERFACE)
        return _NO_ROUTES, f"sudo ip link set {interface} up; ip -brief address"
    return meaning, _add_route_command(facts)


def _add_route_command(facts: Facts) -> str:
    """Return the command that routes requests through the primary interface."""
    network = facts.network
    default = _default_route(network) or _presumed_default_route(facts)
    interface = argument(default and default.interface, INTERFACE)
    gateway = argument(default and default.gateway, GATEWAY)
    target = f"{argument(network.address, ADDRESS)}/32"
    if re.fullmatch(ADDRESS.pattern, interface):  # Windows identifies interfaces by address
        return f"route add {target} {interface} metric 1 -p"
    return f"sudo ip route replace {target} via {gateway} dev {interface}"


def _presumed_default_route(facts: Facts) -> Route | None:
    """Return the default route of an Azure VM, whose gateway has its subnet's first address.

    https://learn.microsoft.com/azure/virtual-network/virtual-networks-faq
    """
    subnets = (r for r in facts.network.routes or () if 0 < r.prefix_length < _HOST_PREFIX_LENGTH)
    others = (_VPN, VIRTUAL)
    subnet = next((r for r in subnets if not any(o.match(r.interface) for o in others)), None)
    if subnet is None or not facts.firmware.is_azure:
        return subnet and subnet._replace(gateway="")
    return subnet._replace(gateway=str(ipaddress.ip_network(subnet.destination)[1]))


def _default_route(network: Network) -> Route | None:
    """Return the default route that does not lead into a VPN."""
    routes = network.routes or ()
    defaults = (r for r in routes if r.destination == _DEFAULT and not _VPN.match(r.interface))
    return min(defaults, key=lambda route: route.metric, default=None)


def _find_wrong_route(facts: Facts) -> Verdict | None:
    """Return the verdict if requests bypass the primary interface."""
    network = facts.network
    is_lost = facts.probe.connect_error and facts.probe.connect_kind is not ErrorKind.REFUSED
    problem = failure if is_lost else warning
    remedy = _add_route_command(facts)
    route = best_route(network.routes or (), network.address)
    default = _default_route(network)
    if route is not None and _VPN.match(route.interface):
        return problem(
            f"{network.address} is routed over {route.interface} ({route.destination})",
            f"the route to {network.address} leads into a VPN ({route.interface}), where the "
            "service is not available",
            remedy,
        )
    if route and default and _overrides_default(route, default, is_lost=problem is failure):
        wrong, right = (each.interface for each in (route, default))
        if wrong == right:
            wrong, right = (f"{each.interface} via {each.gateway}" for each in (route, default))
        return problem(
            f"{network.address} is routed over {wrong} ({route.destination}), the default route "
            f"over {right}",
            f"the route {route.destination} sends {network.address} over {wrong} and not over "
            f"the primary interface {right}, as on failover clusters and "
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


def _overrides_default(route: Route, default: Route, *, is_lost: bool) -> bool:
    """Return whether a route overrides the default route, other than by an intended host route."""
    if route.interface == default.interface:
        return is_lost and route.gateway not in (default.gateway, _NO_GATEWAY)
    is_host_route = route.prefix_length == _HOST_PREFIX_LENGTH
    return not is_host_route or (is_lost and route.gateway == _NO_GATEWAY)


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


def _is_loopback(address: str) -> bool:
    return address.startswith("127.")
