"""Who may open a file of Windows, by its security descriptor as bytes.

https://learn.microsoft.com/openspecs/windows_protocols/ms-dtyp/7d4dac05-9cef-4563-a058-f108abecce1d
"""

from __future__ import annotations

import struct

_HEADER = struct.Struct("<BBHIIII")  # revision, unused, control, owner, group, auditing, access
_LIST = struct.Struct("<BBHHH")  # revision, unused, size, count, unused
_ENTRY = struct.Struct("<BBHI")  # kind, flags, size, rights; then whom it is about
_ALLOWS = 0
_REFUSES = frozenset({1, 6, 10, 12})
_HAS_LIST = 0x0004

SYSTEM = "S-1-5-18"
ADMINISTRATORS = "S-1-5-32-544"
EVERYONE = "S-1-1-0"
# Who makes a file in the directory, and who owns it.
_STAND_INS = frozenset({"S-1-3-0", "S-1-3-4"})


def other_readers_in(descriptor: bytes, user: str) -> list[str]:
    """Who may open or change what ``descriptor`` is of, beside its user and the system.

    Args:
        descriptor: self-relative, with owner and access list.
        user: the SID of whom it should belong to.

    Returns:
        SIDs, and ``?`` for what is not understood. SYSTEM and Administrators open everything.
    """
    try:
        named = _named_in(descriptor)
    except (struct.error, IndexError):
        named = ["?"]
    trusted = _STAND_INS | {SYSTEM, ADMINISTRATORS, user}
    return [each for each in dict.fromkeys(named) if each not in trusted]


def _named_in(descriptor: bytes) -> list[str]:
    """The owner, and whom the access list lets in."""
    _, _, control, owner, _, _, access = _HEADER.unpack_from(descriptor)
    named = [_sid_at(descriptor, owner) if owner else "?"]
    if not control & _HAS_LIST or not access:
        return [*named, EVERYONE]
    count = _LIST.unpack_from(descriptor, access)[3]
    position = access + _LIST.size
    for _ in range(count):
        kind, _, size, _ = _ENTRY.unpack_from(descriptor, position)
        if kind == _ALLOWS:
            named.append(_sid_at(descriptor, position + _ENTRY.size))
        elif kind not in _REFUSES:
            named.append("?")
        position += size
    return named


def _sid_at(descriptor: bytes, position: int) -> str:
    revision, count = descriptor[position], descriptor[position + 1]
    authority = int.from_bytes(descriptor[position + 2 : position + 8], "big")
    rest = struct.unpack_from(f"<{count}I", descriptor, position + 8)
    return "-".join(map(str, ("S", revision, authority, *rest)))
