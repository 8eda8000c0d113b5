"""The Azure Arc agent of this machine, and what this user may do with it."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from ..._core.failure import SecretUnreadable, sanitize
from ..._sources.arc.key_file import LINUX_GROUP, WINDOWS_GROUP
from .facts import Agent

if TYPE_CHECKING:
    from collections.abc import Iterator

_CERTIFICATES = "/var/opt/azcmagent/certs"
_WINDOWS_CERTIFICATES = "Certs"  # next to the directory of the key files
_CONFIG = "/var/opt/azcmagent/agentconfig.json"
_WINDOWS_CONFIG = os.path.join("Config", "agentconfig.json")
_RESOURCE = ("subscriptionid", "resourcegroup", "resourcename")  # in upper or lower case
_MAX_FILE_SIZE = 65536
_PACKAGES = "/var/lib/dpkg/status"
_PACKAGE = rb"(?m)^Package: azcmagent\n(?:[^\n]+\n)*?Version: ([^\n]+)"
_MAX_PACKAGES = 1 << 24


def gather_agent(port: int, tokens_directory: str, *, installed: bool, listening: bool) -> Agent:
    """Return the state of the agent that should listen on ``port``."""
    user = _user_name()
    return Agent(
        installed,
        tokens_directory,
        *_directory_problem(tokens_directory),
        _port_problem(port) if listening else "",
        *_group_membership(user),
        user,
        *certificate_expiry(_path(_CERTIFICATES, _WINDOWS_CERTIFICATES, tokens_directory)),
        connected_resource(_path(_CONFIG, _WINDOWS_CONFIG, tokens_directory)),
        package_version(_PACKAGES),
    )


def _path(linux: str, windows: str, tokens_directory: str) -> str:
    """Return the path of another file of the agent; on Windows, next to its tokens."""
    on_windows = sys.platform == "win32"
    return os.path.join(os.path.dirname(tokens_directory), windows) if on_windows else linux


def connected_resource(path: str) -> str | None:
    """Return the resource in the agent's configuration; empty if it is not connected to Azure."""
    try:
        with open(path, "rb") as file:
            known = json.loads(file.read(_MAX_FILE_SIZE))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(known, dict):
        return None
    values = {name.lower(): value for name, value in known.items() if isinstance(value, str)}
    parts = [sanitize(values.get(name, "")) for name in _RESOURCE]
    return "/".join(parts) if all(parts) else ""


def package_version(path: str) -> str:
    """Return the version of the agent's package, which every user may read on Debian and Ubuntu.

    The database of rpm is binary, and running a program of the agent might change something.
    """
    try:
        with open(path, "rb") as file:
            found = re.search(_PACKAGE, file.read(_MAX_PACKAGES))
    except OSError:
        return ""
    return sanitize(found[1].decode("latin-1"), 40) if found else ""


def _directory_problem(path: str) -> tuple[str, bool]:
    """Return why this process cannot enter the directory, and whether it lacks permission."""
    try:
        if not os.path.isdir(path):
            os.stat(path)
            return "it is not a directory", False
    except OSError as error:
        return error.strerror or str(error), error.errno == errno.EACCES
    return ("", False) if os.access(path, os.X_OK) else (os.strerror(errno.EACCES), True)


def _port_problem(port: int) -> str:
    from ..._sources.arc.peer import confirm

    try:
        confirm(port)
    except SecretUnreadable as failure:
        return failure.problem
    return ""


def _group_membership(user: str) -> tuple[bool | None, bool]:
    """Return whether this process is root or in the agent's group, and whether its user is."""
    if sys.platform == "win32":
        from ..._platform.windows import is_administrator, is_group_member

        return is_administrator() or is_group_member(WINDOWS_GROUP), False
    import grp

    if os.geteuid() == 0:
        return True, True
    try:
        group = grp.getgrnam(LINUX_GROUP)
    except KeyError:
        return None, False
    return group.gr_gid in (*os.getgroups(), os.getegid()), user in group.gr_mem


def _user_name() -> str:
    if sys.platform == "win32":
        return os.getlogin()
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def certificate_expiry(directory: str) -> tuple[float | None, str]:
    """Return the latest expiry of the certificates in ``directory``, or why it is unknown."""
    files = list(_read_files(directory))
    if not files:
        return None, "this user cannot read the agent's certificate, or it is in another directory"
    try:
        from cryptography import x509
    except ImportError:
        return None, "the expiry is unknown because the package cryptography is not installed"
    expiries = []
    for content in files:
        try:
            certificates = x509.load_pem_x509_certificates(content)
        except ValueError:
            continue
        expiries += [certificate.not_valid_after_utc.timestamp() for certificate in certificates]
    if not expiries:
        return None, f"the directory {directory} contains no certificate in PEM format"
    return max(expiries), ""


def _read_files(directory: str) -> Iterator[bytes]:
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return
    for path in [os.path.join(directory, name) for name in names]:
        with suppress(OSError):
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    yield file.read(_MAX_FILE_SIZE)
