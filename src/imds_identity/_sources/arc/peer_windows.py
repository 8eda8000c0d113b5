"""Determines on Windows which process listens on a port, and its user.

https://learn.microsoft.com/windows/win32/api/iphlpapi/nf-iphlpapi-getextendedtcptable
"""

from __future__ import annotations

import ctypes
import struct
from typing import Any

from ..._platform.security_descriptor import SYSTEM
from ..._platform.windows import library, user_of

_SERVICE = "himds"
_IPV4, _IPV6 = 2, 23
_LISTENERS_WITH_PROCESS = 3
_TOO_SMALL = 122
_ROW_IPV4 = struct.Struct("<6I")  # state, address, port, remote address and port, process
_ROW_IPV6 = struct.Struct("<16sII16s4I")  # address, scope, port, remote, state, process
_LOOPBACK, _EVERY_IPV4 = bytes([127, 0, 0, 1]), bytes(4)
_MAPPED, _EVERY_IPV6 = bytes(10) + b"\xff\xff", bytes(16)

_SC_MANAGER_CONNECT = 1
_SERVICE_QUERY_STATUS = 4
_PROCESS_ID = 7  # the eighth number of SERVICE_STATUS_PROCESS


def owners(port: int) -> set[int]:
    """Return the processes whose sockets may accept a connection to ``port`` of 127.0.0.1."""
    return listening(port, _table(_IPV4), _table(_IPV6))


def is_trusted(process: int) -> bool:
    """Whether ``process`` is the agent's service, or runs as SYSTEM or as this user."""
    return process == _service_process() or user_of(process) in {SYSTEM, user_of()} - {""}


def listening(port: int, ipv4: bytes, ipv6: bytes) -> set[int]:
    """Return the processes that listen on ``port``, from the tables of listeners.

    They listen on 127.0.0.1 or on every IPv4 address, else on every IPv6 address, which may accept
    IPv4 connections.
    """
    found: dict[bytes, set[int]] = {}
    for _, address, its_port, _, _, process in _rows(_ROW_IPV4, ipv4):
        _add(found, struct.pack("<I", address), its_port, port, process)
    for address, _, its_port, _, _, _, _, process in _rows(_ROW_IPV6, ipv6):
        _add(found, address, its_port, port, process)
    of_ipv4 = (_LOOPBACK, _EVERY_IPV4, _MAPPED + _LOOPBACK, _MAPPED + _EVERY_IPV4)
    return set().union(*(found.get(a, set()) for a in of_ipv4)) or found.get(_EVERY_IPV6, set())


def _rows(row: struct.Struct, table: bytes) -> list[tuple[Any, ...]]:
    if len(table) < 4:
        return []
    [count] = struct.unpack_from("<I", table)
    count = min(count, (len(table) - 4) // row.size)
    return [row.unpack_from(table, 4 + i * row.size) for i in range(count)]


def _add(found: dict[bytes, set[int]], address: bytes, its: int, port: int, process: int) -> None:
    # The two low bytes are the port in network byte order.
    if ((its & 0xFF) << 8 | its >> 8 & 0xFF) == port:
        found.setdefault(address, set()).add(process)


def _table(family: int) -> bytes:
    get = library("iphlpapi").GetExtendedTcpTable
    size = ctypes.c_ulong(0)
    for _ in range(8):  # it may grow between the two calls
        buffer = ctypes.create_string_buffer(size.value)
        error = get(buffer, ctypes.byref(size), 0, family, _LISTENERS_WITH_PROCESS, 0)
        if error == 0:
            return buffer.raw
        if error != _TOO_SMALL:
            break
    return b""


def _service_process() -> int | None:
    """Return the process of the agent's service: only an administrator can install a service."""
    services = library("advapi32")
    for name in ("OpenSCManagerW", "OpenServiceW"):
        getattr(services, name).restype = ctypes.c_void_p
    manager = ctypes.c_void_p(services.OpenSCManagerW(None, None, _SC_MANAGER_CONNECT))
    service = ctypes.c_void_p(services.OpenServiceW(manager, _SERVICE, _SERVICE_QUERY_STATUS))
    status = (ctypes.c_ulong * 9)()
    needed = ctypes.c_ulong(0)
    size = ctypes.sizeof(status)
    succeeded = services.QueryServiceStatusEx(service, 0, status, size, ctypes.byref(needed))
    for handle in (service, manager):
        services.CloseServiceHandle(handle)
    return (status[_PROCESS_ID] or None) if succeeded else None
