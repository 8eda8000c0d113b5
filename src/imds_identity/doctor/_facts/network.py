"""Read the network path to the service from the system's tables, without sending anything."""

from __future__ import annotations

import base64
import errno
import ipaddress
import re
import socket
import sys
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

from .facts import Network, Rejection, Route
from .policy_rules import rejecting_rule

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..._platform.environment import Environment

# The tables of this thread, because each thread may be in its own network namespace.
_TABLES = "/proc/thread-self/net/"
_UP = 0x1
_NO_INTERFACE = "*"  # of a route that rejects packets
_CMDLINE = "/proc/cmdline"
_LOCKED = "systemd.imds.network=locked"
_REJECTIONS = {
    errno.EINVAL: Rejection.BLACKHOLE,
    errno.EACCES: Rejection.PROHIBIT,
    errno.EHOSTUNREACH: Rejection.UNREACHABLE,
}
_HOST_SCOPE, _LINK_SCOPE = "10", "20"
_ROUTE_SECONDS = 1.0
VIRTUAL = re.compile(r"lo$|docker|br-|veth|cni|virbr|podman|dummy")
"""Names of interfaces that do not lead out of this machine."""


def gather_network(host: str, port: int) -> Network:
    """Return the network path to an IPv4 address; empty for a host name, which is not resolved."""
    address = "127.0.0.1" if host == "localhost" else host
    if not _is_ipv4(address):
        return Network()
    source_address, problem, rejection = _source_address(address, port)
    route = rejecting_route(_read_table("route") or "", address) if problem else ""
    is_by_rule = not route and rejection is not Rejection.NONE
    rule = rejecting_rule(address, rejection) if is_by_rule else None
    return Network(
        address,
        source_address,
        problem,
        rejection,
        route,
        rule.destination if rule else "",
        rule.priority if rule else 0,
        bool(problem) and _LOCKED in (_read(_CMDLINE) or "").split(),
        _routes(),
        _first_interface(),
        _has_ipv4(_read_table("fib_trie")),
        _has_ipv6(_read_table("if_inet6")),
    )


class Proxy(NamedTuple):
    """A proxy that the environment names."""

    variable: str
    server: str  # host and port; empty if the value is not a URL


def proxy_for(environment: Environment, endpoint: str) -> Proxy | None:
    """Return the proxy that clients use for ``endpoint``, if NO_PROXY does not exempt it."""
    parts = urlsplit(endpoint)
    scheme = parts.scheme
    if scheme not in ("http", "https"):
        return None
    for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"):
        if environment[name]:
            exempt = environment["no_proxy"] or environment["NO_PROXY"]
            if bypasses_proxy(parts.hostname or "", exempt):
                return None
            return Proxy(name, proxy_server(environment[name]))
    return None


def proxy_server(url: str) -> str:
    """Return the host and the port in a proxy's URL, without user and password."""
    return (url if "://" in url else f"//{url}").partition("//")[2].rpartition("@")[2].strip("/")


def proxy_headers(url: str) -> dict[str, str]:
    """Return the header with the user and the password in a proxy's URL, if it has them."""
    login, at, _ = (url if "://" in url else f"//{url}").partition("//")[2].rpartition("@")
    encoded = base64.b64encode(unquote(login).encode()).decode()
    return {"Proxy-Authorization": f"Basic {encoded}"} if at else {}


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


def best_route(routes: Iterable[Route], address: str) -> Route | None:
    """Return the route that the system uses for ``address``, if no policy rule overrides it."""
    target = ipaddress.ip_address(address)
    matching = [r for r in routes if target in ipaddress.ip_network(r.destination)]
    return max(matching, key=lambda r: (r.prefix_length, -r.metric), default=None)


def parse_linux_routes(table: str) -> tuple[Route, ...]:
    """Parse ``/proc/net/route``, whose addresses are hexadecimal in native byte order."""
    routes = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8 or not int(fields[3], 16) & _UP:
            continue
        destination, gateway, mask = (_parse_address(fields[index]) for index in (1, 2, 7))
        network = ipaddress.ip_network(f"{destination}/{mask}", strict=False)
        routes.append(Route(fields[0], str(network), gateway, int(fields[6])))
    return tuple(routes)


def rejecting_route(table: str, address: str) -> str:
    """Return the destination of the route that rejects packets to ``address``, if there is one."""
    try:
        route = best_route(parse_linux_routes(table), address)
    except ValueError:
        return ""
    return route.destination if route and route.interface == _NO_INTERFACE else ""


def _parse_address(hexadecimal: str) -> str:
    number = int(hexadecimal, 16)
    return str(ipaddress.IPv4Address(number.to_bytes(4, sys.byteorder)))


def parse_windows_routes(output: str) -> tuple[Route, ...]:
    """Parse the active routes in the output of ``route print -4``, in any language."""
    routes = []
    for line in output.splitlines():
        fields = line.split()
        if len(fields) != 5 or not fields[4].isdigit():
            continue
        destination, mask, gateway, interface, metric = fields  # gateway: or "on-link", translated
        if all(map(_is_ipv4, (destination, mask, interface))):
            network = ipaddress.ip_network(f"{destination}/{mask}", strict=False)
            hop = gateway if _is_ipv4(gateway) else "0.0.0.0"  # noqa: S104 - nothing is bound
            routes.append(Route(interface, str(network), hop, int(metric)))
    return tuple(routes)


def _routes() -> tuple[Route, ...] | None:
    try:
        if sys.platform == "win32":
            return parse_windows_routes(run_route_print())
        table = _read_table("route")
        if table is None:
            return None
        return tuple(r for r in parse_linux_routes(table) if r.interface != _NO_INTERFACE)
    except (OSError, ValueError):
        return None


def _first_interface() -> str:
    try:
        names = [name for _, name in socket.if_nameindex()]
    except OSError:
        return ""
    return next((name for name in names if not VIRTUAL.match(name)), "")


def run_route_print() -> str:
    """Return the output of ``route print -4``; raise OSError if the program fails."""
    import os
    import subprocess

    command = os.path.join(os.path.abspath(os.sep), "Windows", "System32", "route.exe")
    try:
        completed = subprocess.run(  # noqa: S603 - a system program, by its full path
            [command, "print", "-4"],
            capture_output=True,
            encoding="ascii",  # enough for addresses
            errors="replace",
            timeout=_ROUTE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(str(error)) from None
    return completed.stdout


def _source_address(address: str, port: int) -> tuple[str, str, Rejection]:
    """Return the local address for requests to ``address``, or why the kernel has no route."""
    try:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    except OSError:  # forbidden, which is not a problem of the route
        return "", "", Rejection.NONE
    with udp:
        try:
            udp.connect((address, port))  # a UDP connect looks up the route and sends nothing
            return str(udp.getsockname()[0]), "", Rejection.NONE
        except OSError as error:
            if error.errno == errno.EPERM or _is_forbidden(error):
                return "", "", Rejection.NONE
            rejection = _REJECTIONS.get(error.errno or 0, Rejection.NONE)
            return "", error.strerror or str(error), rejection


def _is_forbidden(error: OSError) -> bool:
    """Return whether a security policy, and no route, is the reason: it concerns all addresses."""
    if error.errno != errno.EACCES:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        return udp.connect_ex(("127.0.0.1", 9)) == errno.EACCES


def _has_ipv4(table: str | None) -> bool | None:
    """Return whether ``/proc/net/fib_trie`` has a local address that is not a loopback address."""
    if table is None:
        return None
    address = ""
    for line in table.splitlines():
        text = line.strip()
        if text.startswith("|-- "):
            address = text.removeprefix("|-- ")
        elif text == "/32 host LOCAL" and not address.startswith("127."):
            return True
    return False


def _has_ipv6(table: str | None) -> bool | None:
    """Return whether ``/proc/net/if_inet6`` has an address with more than link scope."""
    if table is None:
        return None
    scopes = {line.split()[3] for line in table.splitlines() if len(line.split()) == 6}
    return bool(scopes - {_HOST_SCOPE, _LINK_SCOPE})


def _read_table(name: str) -> str | None:
    return _read(_TABLES + name)


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return None


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True
