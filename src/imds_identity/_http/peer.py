"""Who listens on the port that Arc's secret is about to be sent to.

Any user of the machine may listen where the agent does not, and relay its challenge. So the secret
goes only to a socket of root, of the agent's own user, or of this very user.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from .._core.failure import Reason, SecretUnreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_AGENT_USER = "himds"
_ROOT = 0
# Of this thread: each may be in a network namespace of its own.
_TABLES = ("/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6")
_LISTEN = b"0A"
# In a user namespace the kernel writes this one for every user that has no name there.
_OVERFLOW_UID = 65534


def confirm(port: int) -> None:
    """Make sure that whoever listens on ``port`` of 127.0.0.1 may have Arc's secret.

    On Linux and Windows the system tells; elsewhere there is no Arc agent, and an emulated one is
    not asked who it is.

    Raises:
        SecretUnreadable: if another user listens there, or if it cannot be told who does.
    """
    if sys.platform == "linux":
        _check(port, "user", owners(port, _tables()), _is_trusted_user)
    elif sys.platform == "win32":
        from . import peer_windows as listener_windows

        _check(port, "process", listener_windows.owners(port), listener_windows.is_trusted)


def owners(port: int, tables: Iterable[bytes], byte_order: str = sys.byteorder) -> set[int]:
    """The users of the sockets that may take what is sent to ``port`` of 127.0.0.1.

    A connection outlives its listener: who left the port to another keeps those that it had taken,
    and a transport may send by one of them once more.

    Args:
        port: the port.
        tables: ``/proc/net/tcp`` and ``/proc/net/tcp6``.
        byte_order: ``little`` or ``big``, as the kernel has it that wrote them.

    Returns:
        Those of the connections there, and of the sockets that listen on 127.0.0.1 or on every IPv4
        address; else of those that listen on every IPv6 address: beside the former these can only
        be for IPv6 alone. Nobody if nobody listens.
    """
    listening: dict[bytes, set[int]] = {}
    connect_within: dict[bytes, set[int]] = {}
    for line in b"\n".join(tables).split(b"\n"):
        fields = line.split()
        if len(fields) < 8:
            continue
        address, _, local_port = fields[1].rpartition(b":")
        uid = fields[7]
        if uid.isdigit() and local_port.upper() == b"%04X" % port:
            found = listening if fields[3] == _LISTEN else connect_within
            found.setdefault(address.upper(), set()).add(int(uid))
    ipv4, every_ipv6 = _addresses(byte_order)
    listeners = _at(ipv4, listening) or _at([every_ipv6], listening)
    return listeners | _at(ipv4, connect_within) if listeners else set()


def _at(addresses: Iterable[bytes], found: Mapping[bytes, set[int]]) -> set[int]:
    return set().union(*(found.get(address, set()) for address in addresses))


def _addresses(byte_order: str) -> tuple[list[bytes], bytes]:
    """127.0.0.1 and 0.0.0.0, each as IPv4 and as IPv6 has it, and ``::``, as the kernel writes."""
    little = byte_order == "little"
    loopback, mapped = (b"0100007F", b"FFFF0000") if little else (b"7F000001", b"0000FFFF")
    prefix = b"0" * 16 + mapped
    ipv4 = [loopback, b"0" * 8]
    return ipv4 + [prefix + address for address in ipv4], b"0" * 32


def _check(port: int, kind: str, found: set[int], is_trusted: Callable[[int], bool]) -> None:
    if not found:
        raise SecretUnreadable(
            f"it cannot be told who listens on port {port} of 127.0.0.1, "
            "so Arc's secret was not sent there",
            "Is this process in a container, or behind a forwarded port? It must run beside the "
            "agent, where the system shows the agent's socket.",
            reason=Reason.ARC_LISTENER_UNTRUSTED,
        )
    for owner in sorted(found):
        if not is_trusted(owner):
            raise SecretUnreadable(
                f"port {port} of 127.0.0.1 is served by {kind} {owner}, "
                "so Arc's secret was not sent there",
                "Only the system, the agent himds and this very user are trusted with it: "
                "find out what runs there, and stop it.",
                reason=Reason.ARC_LISTENER_UNTRUSTED,
            )


def _tables() -> list[bytes]:
    tables: list[bytes] = []
    for path in _TABLES:
        try:
            with open(path, "rb") as file:
                tables.append(file.read())
        except OSError:  # without IPv6 there is no second one
            continue
    return tables


def _is_trusted_user(uid: int) -> bool:
    if uid == _OVERFLOW_UID:
        return False
    return uid in (_ROOT, os.geteuid()) or uid == _agent_uid()


def _agent_uid() -> int | None:
    import pwd

    try:
        return pwd.getpwnam(_AGENT_USER).pw_uid
    except KeyError:
        return None
