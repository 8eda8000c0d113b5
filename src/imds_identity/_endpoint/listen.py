"""Sockets that listen."""

from __future__ import annotations

import socket

BACKLOG = 1024
LOOPBACK = "127.0.0.1"


def listen_at(address: str, port: int = 0) -> socket.socket:
    """A socket that listens at an address of this machine.

    Args:
        address: an IP address.
        port: 0 for any that is free.

    Raises:
        OSError: if that cannot be had.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family, backlog=BACKLOG)


def base_url(listener: socket.socket) -> str:
    """The URL of ``listener``, without a path."""
    address, port = listener.getsockname()[:2]
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
