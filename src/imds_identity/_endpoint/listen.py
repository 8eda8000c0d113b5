"""Listening sockets, and the protocol of service managers."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress

from .._platform.output_files import check_parent, open_trusted_parent

LOOPBACK = "127.0.0.1"
_BACKLOG = 1024
_UNPRIVILEGED = 1024
# https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html
_FIRST_INHERITED = 3


def listen_tcp(address: str, port: int = 0) -> socket.socket:
    """Return a socket that listens on an IP address of this machine; port 0 means any free one."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family, backlog=_BACKLOG)


def first_unprivileged_port() -> int:
    """Return the lowest port on which any user can listen."""
    try:
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return _UNPRIVILEGED


def listen_unix(path: str, mode: int) -> socket.socket:
    """Return a listening Unix socket with the file mode ``mode``.

    It replaces a socket of this user that a killed process has left. Raise OSError if the path
    cannot be used, or other users could replace the socket.
    """
    with open_trusted_parent(path) as (directory, name):
        if directory is not None:
            check_parent(path, os.fstat(directory))
            _remove_stale_socket(path, name, directory)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Not chmod after bind: in between, another user could put a symbolic link in place.
    previous_umask = os.umask(0o777 & ~mode)
    try:
        listener.bind(path)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(previous_umask)
    return listener


def inherited_sockets(pid: str, count: str) -> list[socket.socket]:
    """Return the service manager's sockets, by the values of LISTEN_PID and LISTEN_FDS."""
    if pid != str(os.getpid()) or not (count.isascii() and count.isdigit()):
        return []
    sockets = []
    for descriptor in range(_FIRST_INHERITED, _FIRST_INHERITED + int(count[:3])):
        try:
            listener = socket.socket(fileno=descriptor)
            listens = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError:
            listens = 0
        if not listens or listener.type != socket.SOCK_STREAM:
            raise ValueError(f"descriptor {descriptor} of LISTEN_FDS is not a listening socket")
        os.set_inheritable(descriptor, False)
        sockets.append(listener)
    return sockets


def ip_address_of(listener: socket.socket) -> tuple[str, int] | None:
    """Return the IP address and port of ``listener``; None if it is a Unix socket."""
    if listener.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    address, port = listener.getsockname()[:2]
    return address, port


def base_url(address: str, port: int) -> str:
    """Return the URL of an endpoint, without a path."""
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def notify_service_manager(notify_socket: str, state: str) -> None:
    """Send ``state``, such as ``READY=1``, to the socket of ``NOTIFY_SOCKET``, if it is set."""
    if not notify_socket:
        return
    address = f"\0{notify_socket[1:]}" if notify_socket.startswith("@") else notify_socket
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.sendto(state.encode(), address)


def _remove_stale_socket(path: str, name: str, directory: int) -> None:
    """Remove a socket on which no process listens any more."""
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(errno.EEXIST, "the file exists and is not a socket", path)
    if found.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, f"it belongs to user {found.st_uid}", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        try:
            other.connect(path)
        except ConnectionRefusedError:
            os.unlink(name, dir_fd=directory)
            return
    raise OSError(errno.EADDRINUSE, "another process listens on this socket", path)
