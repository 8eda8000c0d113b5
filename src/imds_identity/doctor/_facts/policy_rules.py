"""The kernel's IPv4 policy rules, which no file shows, from a netlink socket.

https://man7.org/linux/man-pages/man7/rtnetlink.7.html
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
from typing import NamedTuple

from .facts import Rejection

_GET_RULES = 34
_REQUEST_DUMP = 0x301
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_RULE = struct.Struct("=BBBBBBBBI")  # family, lengths of destination and source, ..., action, flags
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_DESTINATION, _PRIORITY = 1, 6
_ACTIONS = {6: Rejection.BLACKHOLE, 7: Rejection.UNREACHABLE, 8: Rejection.PROHIBIT}
_SECONDS = 0.5
_DONE = 3
_ENDS = (2, _DONE)  # 2: an error
_PART_SIZE = 65536
_MAX_SIZE = 1 << 22  # tens of thousands of rules


class Rule(NamedTuple):
    """A policy rule that rejects packets."""

    priority: int
    destination: str  # in CIDR notation
    action: Rejection


def rejecting_rule(address: str, rejection: Rejection) -> Rule | None:
    """Return the first rule that rejects packets to ``address`` in this way, if there is one."""
    if sys.platform != "linux":
        return None
    request = _HEADER.pack(_HEADER.size + _RULE.size, _GET_RULES, _REQUEST_DUMP, 1, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as netlink:
            netlink.settimeout(_SECONDS)
            netlink.send(request + _RULE.pack(socket.AF_INET, *[0] * 8))
            rules = parse_rules(_receive(netlink))
    except (OSError, ValueError, struct.error):
        return None
    target = ipaddress.ip_address(address)
    for rule in rules:  # the kernel keeps bits of the address after the prefix
        network = ipaddress.ip_network(rule.destination, strict=False)
        if target in network and rule.action is rejection:
            return rule
    return None


def _receive(netlink: socket.socket) -> bytes:
    """Return all messages of a response: the kernel sends a long one in several parts."""
    messages = b""
    while len(messages) < _MAX_SIZE:
        part = netlink.recv(_PART_SIZE)
        messages += part
        if _last_type(part) in _ENDS:
            break
    return messages


def _last_type(part: bytes) -> int:
    """Return the type of the last message in ``part``; `_DONE` if it is not a message."""
    kind = _DONE
    while len(part) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(part)
        part = part[_aligned(max(length, _HEADER.size)) :]
    return kind


def parse_rules(messages: bytes) -> list[Rule]:
    """Return the rules that reject packets, in the order in which the kernel applies them."""
    rules = []
    while len(messages) >= _HEADER.size + _RULE.size:
        length = max(_HEADER.unpack_from(messages)[0], _HEADER.size)
        message, messages = messages[_HEADER.size : length], messages[_aligned(length) :]
        if len(message) < _RULE.size:
            break
        fields = _RULE.unpack_from(message)
        attributes = _attributes(message[_RULE.size :])
        if action := _ACTIONS.get(fields[7]):
            target = ipaddress.IPv4Address(attributes.get(_DESTINATION, bytes(4)))
            (priority,) = struct.unpack("=I", attributes.get(_PRIORITY, bytes(4)))
            rules.append(Rule(priority, f"{target}/{fields[1]}", action))
    return rules


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        found[kind] = data[_ATTRIBUTE.size : length]
        data = data[_aligned(max(length, _ATTRIBUTE.size)) :]
    return found


def _aligned(length: int) -> int:
    return (length + 3) & ~3
