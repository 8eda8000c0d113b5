"""Addresses, ports and names: where an emulator listens, and how it is called."""

from __future__ import annotations

import ipaddress
import re

# Addresses to listen on but none to connect to, each with one to connect to.
EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def url(scheme: str, host: str, port: int) -> str:
    """The URL of a port on an address."""
    host = EVERY_ADDRESS.get(host, host)
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def check_port(name: str, port: int | None) -> None:
    """Refuse what is no port; the error names the option."""
    if port is not None and not 0 <= port <= 65535:
        raise ValueError(f"{name} must lie between 0 and 65535; {port} does not.")


def check_host(name: str, host: str, *, allow_remote: bool) -> None:
    """Refuse what is no address, or one that is reached from elsewhere where that is not meant."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise ValueError(f"{name} must be an IP address such as 127.0.0.1, not {host!r}.") from None
    if not loopback and not allow_remote:
        raise ValueError(
            f"{name} {host} is reachable from other machines, and whoever reaches the emulator "
            "gets its tokens. Say allow_remote=True, or --allow-remote, if that is meant."
        )


def check_name(option: str, name: str) -> None:
    """Refuse what no request could name as its host; the error names the option."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{option} are names alone, with no port; {name!r} is none.")
