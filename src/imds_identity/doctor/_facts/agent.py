"""Azure Arc's agent: what of it is here, and whether this user may use it."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

from ..._core.failure import SecretUnreadable
from .facts import Agent

if TYPE_CHECKING:
    from collections.abc import Iterator

_GROUP = "himds"
_WINDOWS_GROUP = "Hybrid agent extension applications"
_CERTIFICATES = "/var/opt/azcmagent/certs"
_WINDOWS_CERTIFICATES = "Certs"  # beside the directory of key files
_LARGEST = 65536
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE = 0x30
_EXPLICIT_VERSION = 0xA0
_UTC_TIME = 0x17


def agent_at(port: int, tokens_directory: str, *, installed: bool, listening: bool) -> Agent:
    """The agent on this machine.

    Args:
        port: where it should listen.
        tokens_directory: where its key files should be.
        installed: whether its program is here.
        listening: whether somebody listens there.
    """
    user = _user()
    return Agent(
        installed,
        tokens_directory,
        _directory_problem(tokens_directory),
        _port_problem(port) if listening else "",
        *_in_group(user),
        user,
        certificate_ends(_certificates(tokens_directory)),
    )


def _certificates(tokens_directory: str) -> str:
    if sys.platform == "win32":
        return os.path.join(os.path.dirname(tokens_directory), _WINDOWS_CERTIFICATES)
    return _CERTIFICATES


def _directory_problem(path: str) -> str:
    try:
        if not os.path.isdir(path):
            os.stat(path)
            return "it is no directory"
    except OSError as error:
        return error.strerror or str(error)
    return "" if os.access(path, os.X_OK) else "Permission denied"


def _port_problem(port: int) -> str:
    from ..._http.peer import confirm

    try:
        confirm(port)
    except SecretUnreadable as reason:
        return reason.problem
    return ""


def _in_group(user: str) -> tuple[bool | None, bool]:
    """Whether this process is in the agent's group, or root, and whether its user is."""
    if sys.platform == "win32":
        from ..._platform.windows import acts_for_administrator, acts_for_group

        return acts_for_administrator() or acts_for_group(_WINDOWS_GROUP), False
    import grp

    if os.geteuid() == 0:
        return True, True
    try:
        group = grp.getgrnam(_GROUP)
    except KeyError:
        return None, False
    return group.gr_gid in (*os.getgroups(), os.getegid()), user in group.gr_mem


def _user() -> str:
    if sys.platform == "win32":
        return os.getlogin()
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def certificate_ends(directory: str) -> float | None:
    """When the last of the certificates in a directory expires, None where there is none to see.

    Args:
        directory: where the agent keeps the certificate by which Azure knows it.
    """
    ends = [end for text in _texts(directory) for end in _ends(text)]
    return max(ends, default=None)


def _texts(directory: str) -> Iterator[str]:
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return
    for name in names:
        path = os.path.join(directory, name)
        try:
            if os.path.isfile(path):
                with open(path, encoding="latin-1") as file:
                    yield file.read(_LARGEST)
        except OSError:
            continue


def _ends(text: str) -> Iterator[float]:
    import ssl

    for pem in _PEM.findall(text):
        try:
            yield not_after(ssl.PEM_cert_to_DER_cert(pem))
        except (ValueError, IndexError):
            continue


def not_after(certificate: bytes) -> float:
    """When a certificate (X.509, DER) expires, as Unix time.

    Raises:
        ValueError: if it is none; likewise IndexError.
    """
    _, outer = _element(certificate)[0:2]
    _, body = _element(outer)[0:2]
    elements: list[tuple[int, bytes]] = []
    while body and len(elements) < 5:
        kind, content, body = _element(body)
        if kind != _EXPLICIT_VERSION:
            elements.append((kind, content))
    kind, validity = elements[3]  # after the serial number, the algorithm and the issuer
    if kind != _SEQUENCE:
        raise ValueError("no certificate")
    _, _, rest = _element(validity)
    kind, moment, _ = _element(rest)
    return _unix_time(moment.decode("ascii"), short=kind == _UTC_TIME)


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """The kind and the content of the first element in ``data``, and what comes after it."""
    length, start = data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if len(data) < start + length:
        raise ValueError("cut short")
    return data[0], data[start : start + length], data[start + length :]


def _unix_time(written: str, *, short: bool) -> float:
    from datetime import datetime, timezone

    if short:  # two digits of the year: 50 to 99 are of the last century
        written = ("19" if written[:2] >= "50" else "20") + written
    moment = datetime.strptime(written, "%Y%m%d%H%M%SZ")  # noqa: DTZ007 - Z is UTC
    return moment.replace(tzinfo=timezone.utc).timestamp()
