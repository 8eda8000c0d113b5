"""Checks of the addresses, ports and host names that an emulator listens on."""

from __future__ import annotations

import ipaddress
import re

# Addresses that a server can listen on but a client cannot connect to, with the loopback address.
WILDCARD_ADDRESSES = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def url(scheme: str, host: str, port: int) -> str:
    """Return the URL of a port on an address."""
    host = WILDCARD_ADDRESSES.get(host, host)
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def check_port(option: str, port: int | None) -> None:
    """Raise ValueError if a port number is out of range."""
    if port is not None and not 0 <= port <= 65535:
        raise ValueError(f"{option} must be between 0 and 65535, not {port}.")


def check_host(option: str, host: str, *, allow_remote: bool) -> None:
    """Raise ValueError if a host is not an address, or not a loopback address unless allowed."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise ValueError(
            f"{option} must be an IP address such as 127.0.0.1, not {host!r}."
        ) from None
    if not loopback and not allow_remote:
        raise ValueError(
            f"{option} {host} can be reached from other machines, and every client that reaches "
            "the emulator gets its tokens. To allow that, use allow_remote=True or --allow-remote."
        )


def check_name(option: str, name: str) -> None:
    """Raise ValueError if a name is not a host name."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{option} must be host names without a port; {name!r} is not one.")
