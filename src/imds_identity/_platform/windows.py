"""Users, groups and access control lists on Windows, through the Windows API."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

from .security_descriptor import ADMINISTRATORS, other_readers_in

_PROCESS_QUERY_LIMITED_INFORMATION = 0x1000
_TOKEN_QUERY = 8
_TOKEN_USER = 1
_OWNER_AND_DACL = 1 | 4
_DACL = 4
_MAX_SID_SIZE = 68
_LOCAL_DRIVES = (3, 6)  # fixed, and in memory


def library(name: str) -> ctypes.CDLL:
    """Load a library of the system."""
    loaded: ctypes.CDLL = vars(ctypes)["WinDLL"](name, use_last_error=True)
    return loaded


def user_of(process: int | None = None) -> str:
    """Return the SID of a process's user, by default this process's; empty if it is not known."""
    kernel, security = library("kernel32"), library("advapi32")
    for name in ("OpenProcess", "GetCurrentProcess"):
        getattr(kernel, name).restype = ctypes.c_void_p
    if process is None:
        handle = ctypes.c_void_p(kernel.GetCurrentProcess())
    else:
        handle = ctypes.c_void_p(kernel.OpenProcess(_PROCESS_QUERY_LIMITED_INFORMATION, 0, process))
    token = ctypes.c_void_p()
    sid = ""
    if handle and security.OpenProcessToken(handle, _TOKEN_QUERY, ctypes.byref(token)):
        sid = _user_of_token(token, kernel, security)
        kernel.CloseHandle(token)
    if handle and process is not None:
        kernel.CloseHandle(handle)
    return sid


def _user_of_token(token: ctypes.c_void_p, kernel: ctypes.CDLL, security: ctypes.CDLL) -> str:
    buffer = ctypes.create_string_buffer(256)
    needed = ctypes.c_ulong(0)
    size = ctypes.sizeof(buffer)
    if not security.GetTokenInformation(token, _TOKEN_USER, buffer, size, ctypes.byref(needed)):
        return ""
    # The buffer starts with a pointer to the SID.
    sid = ctypes.cast(buffer, ctypes.POINTER(ctypes.c_void_p))[0]
    text = ctypes.c_wchar_p()
    if not security.ConvertSidToStringSidW(ctypes.c_void_p(sid), ctypes.byref(text)):
        return ""
    found = text.value or ""
    kernel.LocalFree(text)
    return found


def local_drives() -> frozenset[int]:
    """Return the numbers (``st_dev``) of the drives that do not depend on a server."""
    kernel = library("kernel32")
    drives = kernel.GetLogicalDrives()
    found = set()
    for number in range(26):
        root = f"{chr(ord('A') + number)}:\\"
        if drives >> number & 1 and kernel.GetDriveTypeW(root) in _LOCAL_DRIVES:
            with suppress(OSError):
                found.add(os.stat(root).st_dev)
    return frozenset(found)


def is_administrator() -> bool:
    """Return whether this process is elevated: the user's membership alone is not sufficient."""
    security, sid = library("advapi32"), ctypes.c_void_p()
    if not security.ConvertStringSidToSidW(ctypes.c_wchar_p(ADMINISTRATORS), ctypes.byref(sid)):
        return False
    try:
        return _is_member(sid)
    finally:
        library("kernel32").LocalFree(sid)


def is_group_member(name: str) -> bool | None:
    """Return whether this process has the rights of a group; None if the group does not exist."""
    sid = ctypes.create_string_buffer(_MAX_SID_SIZE)
    domain = ctypes.create_unicode_buffer(256)
    sizes = ctypes.c_ulong(ctypes.sizeof(sid)), ctypes.c_ulong(len(domain))
    found = library("advapi32").LookupAccountNameW(
        None, ctypes.c_wchar_p(name), sid, ctypes.byref(sizes[0]),
        domain, ctypes.byref(sizes[1]), ctypes.byref(ctypes.c_ulong()),
    )  # fmt: skip
    return _is_member(sid) if found else None


def _is_member(sid: ctypes.c_void_p | ctypes.Array[ctypes.c_char]) -> bool:
    member = ctypes.c_int(0)
    succeeded = library("advapi32").CheckTokenMembership(None, sid, ctypes.byref(member))
    return bool(succeeded and member.value)


def other_readers(path: str) -> list[str]:
    """Return the SIDs that can access ``path``, except this user, SYSTEM and Administrators."""
    security = library("advapi32")
    size = ctypes.c_ulong(0)
    for _ in range(2):  # the first call returns the size
        buffer = ctypes.create_string_buffer(size.value)
        succeeded = security.GetFileSecurityW(
            ctypes.c_wchar_p(path), _OWNER_AND_DACL, buffer, size, ctypes.byref(size)
        )
    if not succeeded:
        raise _last_error(path)
    return other_readers_in(buffer.raw, user_of())


def restrict_to_user(path: str, *, inheritable: bool = False) -> None:
    """Deny everyone except this user, SYSTEM and Administrators access to ``path``.

    If ``inheritable``, new files in this directory get the same access list.
    """
    flags = "OICI" if inheritable else ""
    entries = "".join(f"(A;{flags};FA;;;{sid})" for sid in (user_of(), "SY", "BA"))
    set_access(path, f"D:P{entries}")


def set_access(path: str, sddl: str) -> None:
    """Set the access list of ``path``, given in the security descriptor definition language."""
    security, descriptor = library("advapi32"), ctypes.c_void_p()
    succeeded = security.ConvertStringSecurityDescriptorToSecurityDescriptorW(
        sddl, 1, ctypes.byref(descriptor), None
    ) and security.SetFileSecurityW(ctypes.c_wchar_p(path), _DACL, descriptor)
    error = None if succeeded else _last_error(path)
    library("kernel32").LocalFree(descriptor)
    if error:
        raise error


def how_to_restrict(path: str) -> str:
    """Return the command by which a user denies all others access to ``path``."""
    flags = "(OI)(CI)" if os.path.isdir(path) else ""
    return f'run icacls "{path}" /inheritance:r /grant:r "*{user_of()}:{flags}F"'


def _last_error(path: str) -> OSError:
    number = vars(ctypes)["get_last_error"]()
    return OSError(None, vars(ctypes)["FormatError"](number).strip(), path, number)
