"""What tells the services of one address apart: the boot and the network they are reached in."""

from __future__ import annotations

import functools
import os
import sys

from .._platform.named_tuple import NamedTuple

_SO_NETNS_COOKIE = 71


class Namespace(NamedTuple):
    """Where a token was fetched. A token of one place is nobody's in another.

    169.254.169.254 is a different service in each network namespace: two containers may have a
    service each and one /dev/shm. Within one namespace an address is one service for one user;
    routes that depend on the user do not matter, since a directory belongs to one user, and those
    that depend on a mark or a control group are not told apart.

    Attributes:
        boot: of this boot of the machine; empty where nothing tells it.
        network: of the network namespace; empty where there is no such thing.
    """

    boot: str = ""
    network: str = ""


def current_namespace() -> Namespace:
    """The place of this process."""
    return Namespace(_boot(), _network())


@functools.cache
def _boot() -> str:
    # Elsewhere this would be a path like any other: on Windows every user may make C:\proc.
    if not sys.platform.startswith("linux"):
        return ""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read(100).strip().decode("ascii", "replace")
    except OSError:
        return ""


def _network() -> str:
    """The namespace's cookie, or before Linux 5.14 its number.

    A number is given anew once its namespace is gone, and the entries of a container may be there
    longer than the container; a cookie is never given twice in one boot.
    """
    if not sys.platform.startswith("linux"):
        return ""
    # `socket` would load ten modules more, at each start of the command line.
    import _socket

    try:
        asked = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        try:
            return asked.getsockopt(_socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8).hex()
        finally:
            asked.close()
    except OSError:
        return _namespace_number()


def _namespace_number() -> str:
    try:
        status = os.stat("/proc/self/ns/net")
    except OSError:
        return ""
    return f"{status.st_dev}:{status.st_ino}"
