"""Checks which user listens on the port to which Arc's secret is sent.

Any user of the machine can listen on the agent's port while the agent is not running, and relay
its challenge. The secret is sent only to a socket of root, of the agent's user, or of this user.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from ..._core.failure import Reason, SecretUnreadable
from ..._http.local_errors import check_descriptors, local_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_AGENT_USER = "himds"
_ROOT = 0
# The thread's: each thread may be in another network namespace.
_TABLES = ("/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6")
_LISTEN = b"0A"
# In a user namespace, the kernel reports this one for every user that is not mapped.
_OVERFLOW_UID = 65534


def confirm(port: int) -> None:
    """Check that Arc's secret may be sent to ``port`` of 127.0.0.1.

    Systems other than Linux and Windows need no check: the agent can only be emulated there. Raise
    SecretUnreadable if another user listens there, or if the user cannot be determined.
    """
    if sys.platform == "linux":
        _check(port, "user", owners(port, _tables()), _is_trusted_user)
    elif sys.platform == "win32":
        from . import peer_windows

        _check(port, "process", peer_windows.owners(port), peer_windows.is_trusted)


def owners(port: int, tables: Iterable[bytes], byte_order: str = sys.byteorder) -> set[int]:
    """Return the user ids of the sockets that may receive data sent to ``port`` of 127.0.0.1.

    They listen on 127.0.0.1 or on every IPv4 address, else on every IPv6 address: next to the
    former, an IPv6 socket does not accept IPv4. Connections also count: they remain after a process
    has closed its listener, and a transport may reuse one. Empty if no socket listens.

    Args:
        port: the port.
        tables: ``/proc/net/tcp`` and ``/proc/net/tcp6``.
        byte_order: ``little`` or ``big``, the kernel's.
    """
    listening: dict[bytes, set[int]] = {}
    connected: dict[bytes, set[int]] = {}
    for line in b"\n".join(tables).split(b"\n"):
        fields = line.split()
        if len(fields) < 8:
            continue
        address, _, local_port = fields[1].rpartition(b":")
        uid = fields[7]
        if uid.isdigit() and local_port.upper() == b"%04X" % port:
            found = listening if fields[3] == _LISTEN else connected
            found.setdefault(address.upper(), set()).add(int(uid))
    ipv4, every_ipv6 = _addresses(byte_order)
    listeners = _at(ipv4, listening) or _at([every_ipv6], listening)
    return listeners | _at(ipv4, connected) if listeners else set()


def _at(addresses: Iterable[bytes], found: Mapping[bytes, set[int]]) -> set[int]:
    return set().union(*(found.get(address, set()) for address in addresses))


def _addresses(byte_order: str) -> tuple[list[bytes], bytes]:
    """Return 127.0.0.1 and 0.0.0.0, each as IPv4 and IPv4-mapped, and ``::``, as /proc has them."""
    little = byte_order == "little"
    loopback, mapped = (b"0100007F", b"FFFF0000") if little else (b"7F000001", b"0000FFFF")
    prefix = b"0" * 16 + mapped
    ipv4 = [loopback, b"0" * 8]
    return ipv4 + [prefix + address for address in ipv4], b"0" * 32


def _check(port: int, kind: str, found: set[int], is_trusted: Callable[[int], bool]) -> None:
    if not found:
        raise SecretUnreadable(
            f"cannot determine which user listens on port {port} of 127.0.0.1; Arc's secret was "
            "not sent there",
            "This process may be in a container, or the port forwarded. Run the process in the "
            "agent's network namespace, where the system shows the agent's socket.",
            reason=Reason.ARC_LISTENER_UNTRUSTED,
        )
    for owner in sorted(found):
        if not is_trusted(owner):
            raise SecretUnreadable(
                f"port {port} of 127.0.0.1 is served by {kind} {owner}; Arc's secret was not sent "
                "there",
                "The secret is sent only to the system, to the agent himds, and to this user. Find "
                "the program that listens on this port and stop it.",
                reason=Reason.ARC_LISTENER_UNTRUSTED,
            )


def _tables() -> list[bytes]:
    tables: list[bytes] = []
    for path in _TABLES:
        try:
            with open(path, "rb") as file:
                tables.append(file.read())
        except OSError as error:  # no second table without IPv6
            if failure := local_failure(error):
                raise failure from None
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
        check_descriptors()
        return None
