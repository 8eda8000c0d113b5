"""What Windows tells and does by its own functions only: whose a process or a file is."""

from __future__ import annotations

import ctypes
import os
from typing import Any

from .security_descriptor import ADMINISTRATORS, other_readers_in

_QUERY_LIMITED_INFORMATION = 0x1000
_TOKEN_QUERY = 8
_TOKEN_USER = 1
_OWNER_AND_ACCESS = 1 | 4
_ACCESS = 4


def library(name: str) -> Any:
    """A library of the system's."""
    return vars(ctypes)["WinDLL"](name, use_last_error=True)


def user_of(process: int | None = None) -> str:
    """The SID of whom ``process`` runs as, of this process for None; empty if that is not told."""
    kernel, security = library("kernel32"), library("advapi32")
    for name in ("OpenProcess", "GetCurrentProcess"):
        getattr(kernel, name).restype = ctypes.c_void_p
    if process is None:
        handle = ctypes.c_void_p(kernel.GetCurrentProcess())
    else:
        handle = ctypes.c_void_p(kernel.OpenProcess(_QUERY_LIMITED_INFORMATION, 0, process))
    token = ctypes.c_void_p()
    sid = ""
    if handle and security.OpenProcessToken(handle, _TOKEN_QUERY, ctypes.byref(token)):
        sid = _sid_in(token, kernel, security)
        kernel.CloseHandle(token)
    if handle and process is not None:
        kernel.CloseHandle(handle)
    return sid


def _sid_in(token: ctypes.c_void_p, kernel: Any, security: Any) -> str:
    buffer = ctypes.create_string_buffer(256)  # a SID has at most 68 bytes
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


def acts_for_administrator() -> bool:
    """Whether this process has an administrator's rights, and not only an administrator's name."""
    security = library("advapi32")
    sid = ctypes.c_void_p()
    if not security.ConvertStringSidToSidW(ctypes.c_wchar_p(ADMINISTRATORS), ctypes.byref(sid)):
        return False
    try:
        return _acts_for(sid)
    finally:
        library("kernel32").LocalFree(sid)


def acts_for_group(name: str) -> bool | None:
    """Whether this process has the rights of a group; None if there is no such group."""
    sid = ctypes.create_string_buffer(68)
    domain = ctypes.create_unicode_buffer(256)
    sizes = ctypes.c_ulong(ctypes.sizeof(sid)), ctypes.c_ulong(len(domain))
    found = library("advapi32").LookupAccountNameW(
        None, ctypes.c_wchar_p(name), sid, ctypes.byref(sizes[0]),
        domain, ctypes.byref(sizes[1]), ctypes.byref(ctypes.c_ulong()),
    )  # fmt: skip
    return _acts_for(sid) if found else None


def _acts_for(sid: Any) -> bool:
    member = ctypes.c_int(0)
    told = library("advapi32").CheckTokenMembership(None, sid, ctypes.byref(member))
    return bool(told and member.value)


def other_readers(path: str) -> list[str]:
    """Who may open or change ``path`` beside this user, SYSTEM and the administrators: their SIDs.

    Raises:
        OSError: if that is not told.
    """
    security = library("advapi32")
    size = ctypes.c_ulong(0)
    for _ in range(2):  # how large it is, and then itself
        buffer = ctypes.create_string_buffer(size.value)
        told = security.GetFileSecurityW(
            ctypes.c_wchar_p(path), _OWNER_AND_ACCESS, buffer, size, ctypes.byref(size)
        )
    if not told:
        raise _last_error(path)
    return other_readers_in(buffer.raw, user_of())


def restrict_to_user(path: str, *, with_content: bool = False) -> None:
    """Let nobody but this user, SYSTEM and the administrators open ``path`` from now on.

    Args:
        path: of a file or a directory.
        with_content: whether the same is to hold for what is made in it.

    Raises:
        OSError: if that cannot be done.
    """
    inherited = "OICI" if with_content else ""
    entries = "".join(f"(A;{inherited};FA;;;{who})" for who in (user_of(), "SY", "BA"))
    set_access(path, f"D:P{entries}")


def set_access(path: str, written: str) -> None:
    """Give ``path`` the access list that is ``written`` in Windows's language for it (SDDL).

    Raises:
        OSError: if that cannot be done.
    """
    security = library("advapi32")
    descriptor = ctypes.c_void_p()
    made = security.ConvertStringSecurityDescriptorToSecurityDescriptorW(
        written, 1, ctypes.byref(descriptor), None
    )
    done = made and security.SetFileSecurityW(ctypes.c_wchar_p(path), _ACCESS, descriptor)
    error = None if done else _last_error(path)
    library("kernel32").LocalFree(descriptor)
    if error:
        raise error


def how_to_restrict(path: str) -> str:
    """What a person does to have ``path`` opened by nobody else."""
    with_content = "(OI)(CI)" if os.path.isdir(path) else ""
    return f'run icacls "{path}" /inheritance:r /grant:r "*{user_of()}:{with_content}F"'


def _last_error(path: str) -> OSError:
    number = vars(ctypes)["get_last_error"]()
    return OSError(None, vars(ctypes)["FormatError"](number).strip(), path, number)
