"""Sockets that listen."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress

BACKLOG = 1024
LOOPBACK = "127.0.0.1"
# Of the service manager: https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html
_FIRST_INHERITED = 3


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


def listen_on(path: str, mode: int) -> socket.socket:
    """A Unix socket that listens.

    Args:
        path: where it is; one that a killed process has left there is replaced.
        mode: who may connect to it.

    Raises:
        OSError: if it cannot be had, or another process listens there.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        _remove_left(path)
        listener.bind(path)
        os.chmod(path, mode)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener


def inherited(pid: str, count: str) -> list[socket.socket]:
    """The sockets that the service manager has opened for this process.

    Args:
        pid: what ``LISTEN_PID`` says.
        count: what ``LISTEN_FDS`` says.

    Raises:
        ValueError: if one of them does not listen.
    """
    if pid != str(os.getpid()) or not (count.isascii() and count.isdigit()):
        return []
    sockets = []
    for descriptor in range(_FIRST_INHERITED, _FIRST_INHERITED + int(count[:3])):
        try:
            listener = socket.socket(fileno=descriptor)
            is_logged = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError:
            is_logged = 0
        if not is_logged or listener.type != socket.SOCK_STREAM:
            raise ValueError(f"descriptor {descriptor} of LISTEN_FDS is no socket that listens")
        os.set_inheritable(descriptor, False)
        sockets.append(listener)
    return sockets


def address_of(listener: socket.socket) -> tuple[str, int] | None:
    """The IP address and port of ``listener``; None if it is a Unix socket."""
    if listener.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    address, port = listener.getsockname()[:2]
    return address, port


def base_url(address: str, port: int) -> str:
    """The URL of an endpoint, without a path."""
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def notify(where: str, state: str) -> None:
    """Tell the service manager.

    Args:
        where: what ``NOTIFY_SOCKET`` says.
        state: such as ``READY=1``.
    """
    if not where:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.sendto(state.encode(), f"\0{where[1:]}" if where.startswith("@") else where)


def _remove_left(path: str) -> None:
    """Remove a socket that nobody listens on any more.

    Raises:
        OSError: if somebody does, or something else is there.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(errno.EEXIST, "something else is there", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        try:
            other.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError(errno.EADDRINUSE, "another process listens there", path)
