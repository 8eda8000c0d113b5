"""The way to the service, by the system's own tables. Nothing is sent."""

from __future__ import annotations

import ipaddress
import socket
import sys
from typing import TYPE_CHECKING

from .facts import Network, Route

if TYPE_CHECKING:
    from collections.abc import Iterable

# Of this thread: each may be in a network namespace of its own.
_TABLES = "/proc/thread-self/net/"
_UP, _REJECT = 0x1, 0x200
_HOST_SCOPE, _LINK_SCOPE = "10", "20"
_ROUTE_SECONDS = 1.0


def network_to(host: str, port: int) -> Network:
    """The way to ``host``.

    Args:
        host: an IPv4 address; a name is not looked up, and has no way here.
        port: the port.
    """
    address = "127.0.0.1" if host == "localhost" else host
    if not _is_ipv4(address):
        return Network()
    source, problem = _source_address(address, port)
    return Network(
        address,
        source,
        problem,
        _routes(),
        _has_ipv4(_text("fib_trie")),
        _has_ipv6(_text("if_inet6")),
    )


def best(routes: Iterable[Route], address: str) -> Route | None:
    """The route that the system takes to ``address`` where no policy says otherwise."""
    target = ipaddress.ip_address(address)
    fitting = [r for r in routes if target in ipaddress.ip_network(r.destination)]
    return max(fitting, key=lambda r: (r.length, -r.metric), default=None)


def linux_routes(table: str) -> tuple[Route, ...]:
    """The routes in ``/proc/net/route``, whose addresses are hexadecimal in the machine's order."""
    found = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8 or not int(fields[3], 16) & _UP or int(fields[3], 16) & _REJECT:
            continue
        destination, gateway, mask = (_address(fields[index]) for index in (1, 2, 7))
        network = ipaddress.ip_network(f"{destination}/{mask}", strict=False)
        found.append(Route(fields[0], str(network), gateway, int(fields[6])))
    return tuple(found)


def _address(written: str) -> str:
    number = int(written, 16)
    return str(ipaddress.IPv4Address(number.to_bytes(4, sys.byteorder)))


def windows_routes(said: str) -> tuple[Route, ...]:
    """The active routes in what ``route print -4`` says, in whatever language it says it.

    A line of them has a network, its mask, a gateway or the word for "on-link", the interface's
    address and a metric.
    """
    found = []
    for line in said.splitlines():
        fields = line.split()
        if len(fields) != 5 or not fields[4].isdigit():
            continue
        destination, mask, gateway, interface, metric = fields
        if all(map(_is_ipv4, (destination, mask, interface))):
            network = ipaddress.ip_network(f"{destination}/{mask}", strict=False)
            hop = gateway if _is_ipv4(gateway) else "0.0.0.0"  # noqa: S104 - nothing is bound
            found.append(Route(interface, str(network), hop, int(metric)))
    return tuple(found)


def _routes() -> tuple[Route, ...] | None:
    try:
        if sys.platform == "win32":
            return windows_routes(_route_print())
        table = _text("route")
        return None if table is None else linux_routes(table)
    except (OSError, ValueError):
        return None


def _route_print() -> str:
    import os
    import subprocess

    command = os.path.join(os.path.abspath(os.sep), "Windows", "System32", "route.exe")
    done = subprocess.run(  # noqa: S603 - the system's own program, by its path
        [command, "print", "-4"],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_ROUTE_SECONDS,
        check=False,
    )
    return done.stdout


def _source_address(address: str, port: int) -> tuple[str, str]:
    """Where a connection would leave from, or why it cannot; policy rules have been heeded."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect((address, port))  # UDP: that is a question to the kernel, no packet
            return str(asked.getsockname()[0]), ""
        except OSError as error:
            return "", error.strerror or str(error)


def _has_ipv4(table: str | None) -> bool | None:
    """Whether ``/proc/net/fib_trie`` has an address of this machine but the loopback's."""
    if table is None:
        return None
    address = ""
    for line in table.splitlines():
        word = line.strip()
        if word.startswith("|-- "):
            address = word.removeprefix("|-- ")
        elif word == "/32 host LOCAL" and not address.startswith("127."):
            return True
    return False


def _has_ipv6(table: str | None) -> bool | None:
    """Whether ``/proc/net/if_inet6`` has an address that leads farther than the next switch."""
    if table is None:
        return None
    scopes = {line.split()[3] for line in table.splitlines() if len(line.split()) == 6}
    return bool(scopes - {_HOST_SCOPE, _LINK_SCOPE})


def _text(name: str) -> str | None:
    try:
        with open(_TABLES + name, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return None


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True
