"""A parser of Windows security descriptors: which users can access a file.

https://learn.microsoft.com/openspecs/windows_protocols/ms-dtyp/7d4dac05-9cef-4563-a058-f108abecce1d
"""

from __future__ import annotations

import struct

_HEADER = struct.Struct("<BBHIIII")  # revision, unused, control, owner, group, SACL, DACL
_ACL = struct.Struct("<BBHHH")  # revision, unused, size, count, unused
_ACE = struct.Struct("<BBHI")  # type, flags, size, rights; then the SID
_ACCESS_ALLOWED = 0
_ACCESS_DENIED = frozenset({1, 6, 10, 12})
_DACL_PRESENT = 0x0004

SYSTEM = "S-1-5-18"
ADMINISTRATORS = "S-1-5-32-544"
EVERYONE = "S-1-1-0"
_CREATOR_AND_OWNER = frozenset({"S-1-3-0", "S-1-3-4"})


def other_readers_in(descriptor: bytes, user: str) -> list[str]:
    """Return the SIDs that can access a file, except ``user``, SYSTEM and Administrators.

    The descriptor is self-relative. ``?`` stands for each entry that is not understood.
    """
    try:
        sids = _sids_in(descriptor)
    except (struct.error, IndexError):
        sids = ["?"]
    trusted = _CREATOR_AND_OWNER | {SYSTEM, ADMINISTRATORS, user}
    return [sid for sid in dict.fromkeys(sids) if sid not in trusted]


def _sids_in(descriptor: bytes) -> list[str]:
    """Return the owner and everyone to whom the DACL grants any access."""
    _, _, control, owner, _, _, acl = _HEADER.unpack_from(descriptor)
    sids = [_sid_at(descriptor, owner) if owner else "?"]
    if not control & _DACL_PRESENT or not acl:
        return [*sids, EVERYONE]
    count = _ACL.unpack_from(descriptor, acl)[3]
    position = acl + _ACL.size
    for _ in range(count):
        kind, _, size, _ = _ACE.unpack_from(descriptor, position)
        if kind == _ACCESS_ALLOWED:
            sids.append(_sid_at(descriptor, position + _ACE.size))
        elif kind not in _ACCESS_DENIED:
            sids.append("?")
        position += size
    return sids


def _sid_at(descriptor: bytes, position: int) -> str:
    revision, count = descriptor[position], descriptor[position + 1]
    authority = int.from_bytes(descriptor[position + 2 : position + 8], "big")
    rest = struct.unpack_from(f"<{count}I", descriptor, position + 8)
    return "-".join(map(str, ("S", revision, authority, *rest)))
