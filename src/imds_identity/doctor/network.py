"""Checks of the way to the service."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .._core.failure import sanitize
from .._core.source import ARC
from ._facts.network import best
from .finding import Verdict, failure, ok, skipped, unknown, warning

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ._facts.facts import Facts, Network, Route

_VPN = re.compile(r"(?:tun|tap|wg|ppp|utun|ipsec|gpd|cscotun|tailscale)[0-9]*\b", re.IGNORECASE)
_DEFAULT = "0.0.0.0/0"
_WHOLE_ADDRESS = 32
_NO_ADDRESS = "the service is named, not numbered: a way to it is not looked for"


def has_ipv4(facts: Facts) -> Verdict:
    """Whether there is any IPv4 here: the service has no other address."""
    network = facts.network
    if not network.address or _is_loopback(network.address):
        return skipped("the service is not at an IPv4 address outside this machine")
    if network.has_ipv4 is None:
        return unknown("the addresses of this machine cannot be read")
    if network.has_ipv4 or not network.problem:
        return ok("there is an IPv4 address")
    return failure(
        f"no IPv4 address but the loopback's, {'IPv6' if network.has_ipv6 else 'nor IPv6'}; "
        f"{network.address}: {network.problem}",
        f"this machine or container has no IPv4, and {network.address} has no other address"
        + (": IPv6 alone does not do" if network.has_ipv6 else ""),
        "give the network interface (the pod, the container network) an IPv4 address",
    )


def there_is_a_route(facts: Facts) -> Verdict:
    """Whether the system knows a way, its policy rules heeded."""
    network = facts.network
    if not network.address:
        return skipped(_NO_ADDRESS)
    if network.problem:
        return failure(
            f"{network.address}: {network.problem}",
            f"there is no route to {network.address}: {network.problem}",
            f"ip route get {network.address}; ip rule; "
            f"ip route add {network.address}/32 via THE_DEFAULT_GATEWAY",
        )
    if _is_loopback(network.address):
        return ok("it stays on this machine")
    route = best(network.routes or (), network.address)
    by = f" by {route.interface} via {route.gateway} ({route.destination})" if route else ""
    return ok(f"from {network.source_address}{by}")


def route_is_the_first_nics(facts: Facts) -> Verdict:
    """Whether requests leave by the primary interface, and not by a VPN or another one."""
    network = facts.network
    if not network.address or _is_loopback(network.address) or network.problem:
        return skipped("there is no way out of this machine to look at")
    if network.routes is None:
        return unknown("the table of routes cannot be read")
    detour = _detour(facts)
    if not detour or facts.contact.claims is not None:
        return ok("it is the way of the primary network interface")
    lost = facts.contact.connect_problem and not facts.contact.refused
    return (failure if lost else warning)(*detour, _route_to_add(network))


def _route_to_add(network: Network) -> str:
    """The command that leads requests by the primary interface."""
    default = _default_route(network)
    interface = default.interface if default else "THE_PRIMARY_INTERFACE"
    gateway = default.gateway if default else "THE_DEFAULT_GATEWAY"
    if interface.replace(".", "").isdigit():  # Windows has it by its address
        return f"route add {network.address}/32 {interface} metric 1 -p"
    return f"sudo ip route add {network.address}/32 via {gateway} dev {interface}"


def _default_route(network: Network) -> Route | None:
    """The default route that leads into no VPN."""
    routes = network.routes or ()
    ours = (r for r in routes if r.destination == _DEFAULT and not _VPN.match(r.interface))
    return min(ours, key=lambda route: route.metric, default=None)


def _detour(facts: Facts) -> tuple[str, str] | None:
    """What was seen and what it means, if requests do not leave by the primary interface."""
    network = facts.network
    route = best(network.routes or (), network.address)
    default = _default_route(network)
    if route is not None and _VPN.match(route.interface):
        return (
            f"{network.address} goes by {route.interface} ({route.destination})",
            (
                f"the route to {network.address} leads into a VPN ({route.interface}), where the "
                "service is not"
            ),
        )
    if route and default and _is_caught(route, default):
        return (
            (
                f"{network.address} goes by {route.interface} ({route.destination}), "
                f"the default route by {default.interface}"
            ),
            (
                f"the route {route.destination} sends {network.address} by {route.interface} and "
                f"not by the primary interface {default.interface}, as on failover clusters and "
                "with several interfaces: the service takes only what comes from the primary one"
            ),
        )
    first, others = _own_addresses(facts)
    if network.source_address in others:
        return (
            f"requests leave from {network.source_address}; the primary address is {first}",
            (
                f"requests leave from {network.source_address}, and the service takes those "
                f"from the primary network interface's primary address {first} alone"
            ),
        )
    return None


def _is_caught(route: Route, default: Route) -> bool:
    """Whether a network's route takes the address away from the default route.

    A route for the address alone is meant for it.
    """
    return route.length != _WHOLE_ADDRESS and route.interface != default.interface


def _own_addresses(facts: Facts) -> tuple[str, list[str]]:
    """This VM's primary address and its others, as its metadata have them."""
    addresses = list(_addresses(facts.contact.document or {}))
    return (addresses[0], addresses[1:]) if addresses else ("", [])


def _addresses(document: Mapping[str, object]) -> Iterator[str]:
    try:
        interfaces: list[dict[str, dict[str, list[dict[str, str]]]]]
        interfaces = document["network"]["interface"]  # type: ignore[index]
        for interface in interfaces:
            for address in interface["ipv4"]["ipAddress"]:
                yield str(address["privateIpAddress"])
    except (KeyError, TypeError, IndexError):
        return


def connection_is_made(facts: Facts) -> Verdict:
    """Whether somebody takes a connection."""
    contact = facts.contact
    if contact.connect_seconds is not None and not contact.connect_problem:
        return ok(f"connected in {contact.connect_seconds * 1000:.0f} ms")
    if facts.network.problem:
        return skipped("there is no route by which to connect")
    if not contact.connect_problem:
        return skipped("no connection was tried: the way there is a proxy's matter")
    where = sanitize(urlsplit(facts.source.endpoint).netloc)
    seen = f"{where}: {contact.connect_problem}"
    if facts.firmware.is_azure is False and facts.source.name != ARC and not facts.source.variable:
        return failure(
            f"{seen}; the machine's maker is {sanitize(facts.firmware.maker)}",
            "this is no Azure VM, says its firmware, and nobody answers at the metadata service's "
            "address",
            "use another credential here, such as AzureCliCredential; or run the emulator: "
            "imds-identity emulator --help",
        )
    if not facts.source.is_per_machine and facts.source.endpoint.startswith("https"):
        return failure(
            seen,
            f"{where} cannot be reached",
            f"curl -sv https://{where}; allow this host, or name the proxy: export HTTPS_PROXY=…",
        )
    if contact.refused:
        return failure(
            seen,
            f"nobody listens at {where}, or a firewall refuses the connection",
            f"look for {where} in: sudo ss -ltnp (who listens), sudo iptables -S OUTPUT (firewall)",
        )
    return failure(
        seen,
        f"packets to {where} get lost{_in_container(facts)}: a firewall, a network policy or a "
        "route that leads nowhere",
        f"curl -sv --noproxy '*' -m 2 -H Metadata:true http://{where}/metadata/versions; "
        "sudo iptables -S; sudo nft list ruleset",
    )


def _in_container(facts: Facts) -> str:
    kind = facts.system.container
    return f" from this {kind} container" if kind else ""


def proxies_are_bypassed(facts: Facts) -> Verdict:
    """Whether clients that heed proxies would send metadata requests to one."""
    environment, host = facts.environment, urlsplit(facts.source.endpoint).hostname or ""
    scheme = urlsplit(facts.source.endpoint).scheme
    names = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY")
    proxies = [name for name in names if environment[name]]
    if not proxies:
        return ok("no proxy is set")
    if not facts.source.is_per_machine:
        return ok(f"{proxies[0]} is set, and used where the service is on the internet")
    spared = environment["no_proxy"] or environment["NO_PROXY"]
    if is_spared(host, spared):
        return ok(f"{proxies[0]} is set, and NO_PROXY has {host}")
    return warning(
        f"{proxies[0]} is set, and NO_PROXY {'lacks ' + host if spared else 'is not set'}",
        f"{proxies[0]} sends other clients' requests for {host} to a proxy, whose machine they "
        "would get a token of, if any; this package never uses it",
        f"export NO_PROXY={host}{',$NO_PROXY' if spared else ''}",
    )


def is_spared(host: str, no_proxy: str) -> bool:
    """Whether ``NO_PROXY`` keeps a host's requests from the proxy.

    Args:
        host: its name or address.
        no_proxy: names, suffixes of names, addresses or networks with commas between them.
    """
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
