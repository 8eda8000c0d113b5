"""The boot and the network namespace in which a token was fetched."""

from __future__ import annotations

import functools
import os
import sys
from contextlib import suppress
from typing import NamedTuple

from .._http.local_errors import local_failure

_SO_NETNS_COOKIE = 71


class Namespace(NamedTuple):
    """The place where a token was fetched. A token is not used in another namespace.

    169.254.169.254 is a different service in each network namespace: two containers may share
    /dev/shm and have a service each. Within one namespace this package treats an address as one
    service: a directory belongs to one user, and routes that depend on marks or control groups are
    not distinguished.

    Attributes:
        boot: the boot ID of the kernel; empty on systems other than Linux.
        network: the ID of the network namespace; empty on systems other than Linux.
    """

    boot: str = ""
    network: str = ""


def current_namespace() -> Namespace:
    """Return the namespace of this thread.

    Raise OSError if this process is out of file descriptors or memory.
    """
    return Namespace(_boot(), _network())


def other_network() -> str:
    """Return the ID of this thread's network namespace if it has changed since the import, else "".

    It makes one system call unless the program has entered another namespace (``setns``).
    """
    inode = network_inode()
    if not inode or not _INITIAL_INODE or inode == _INITIAL_INODE:
        return ""
    try:
        return _network()
    except OSError:  # out of file descriptors
        return inode


def namespace_of(network: str) -> Namespace:
    """Return the namespace with the network ID ``network``, from `other_network`."""
    return Namespace(_boot(), network)


@functools.cache
def _boot() -> str:
    # Only on Linux: on Windows every user can create C:\proc.
    if not sys.platform.startswith("linux"):
        return ""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read(100).strip().decode("ascii", "replace")
    except OSError as error:
        if local_failure(error):
            raise
        return ""


def _network() -> str:
    """Return the cookie of the network namespace, or before Linux 5.14 its inode number.

    The kernel uses an inode number again after its namespace is gone, and records may outlive a
    container. It does not use a cookie again until the next boot.
    """
    if not sys.platform.startswith("linux"):
        return ""
    import socket  # not at module level: a constructor does not need it, and it takes a megabyte

    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            return probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8).hex()
    except (OSError, RuntimeError) as error:  # RuntimeError: pytest-socket refuses all sockets
        if local_failure(error):
            raise
        return network_inode()


def network_inode() -> str:
    """Return the inode number of the network namespace, which is unique while it exists."""
    if not sys.platform.startswith("linux"):
        return ""
    for process in ("thread-self", "self"):  # a thread may be in a namespace of its own
        with suppress(OSError):
            status = os.stat(f"/proc/{process}/ns/net")
            return f"{status.st_dev}:{status.st_ino}"
    return ""


_INITIAL_INODE = network_inode()
