"""PostgreSQL's password file, with a token as the password.

https://www.postgresql.org/docs/current/libpq-pgpass.html
https://learn.microsoft.com/azure/postgresql/flexible-server/security-entra-configure
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..metadata._services import OPEN_SOURCE_DATABASES
from ..metadata.clouds import CHINA, PUBLIC, US_GOVERNMENT
from ._api.hosts import cloud_getter

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

_ANY = "*"
_ADDRESS = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:\s]+)(:(?P<port>[0-9]{1,5}|\*)(:(?P<rest>.+))?)?"
)
_DOMAINS = {
    PUBLIC: ("postgres.database.azure.com", OPEN_SOURCE_DATABASES),
    US_GOVERNMENT: (
        "postgres.database.usgovcloudapi.net",
        "https://ossrdbms-aad.database.usgovcloudapi.net",
    ),
    CHINA: (
        "postgres.database.chinacloudapi.cn",
        "https://ossrdbms-aad.database.chinacloudapi.cn",
    ),
}


def pgpass_content(servers: Iterable[str], token: str) -> str:
    """Return the file's content: a line for each ``HOST[:PORT[:DATABASE[:USER]]]``.

    Raises:
        ValueError: if one of them is invalid.
    """
    return "".join(
        ":".join([*map(_escaped, _fields(server)), _escaped(token)]) + "\n" for server in servers
    )


def pgpass_resource(args: argparse.Namespace) -> str:
    """Return the resource whose tokens the servers of ``--pgpass`` accept.

    A server with a name of its own belongs to the cloud of ``--cloud``, or else of this machine.

    Raises:
        ValueError: if a server is invalid, or they belong to several clouds.
    """
    resources = {_resource_of(_fields(server)[0], args) for server in args.pgpass}
    if len(resources) > 1:
        raise ValueError("--pgpass: the servers belong to different clouds; run one exec for each")
    return resources.pop()


def _resource_of(host: str, args: argparse.Namespace) -> str:
    name = host.lower().rstrip(".")
    for domain, resource in _DOMAINS.values():
        if name.endswith(f".{domain}"):
            return resource
    cloud = cloud_getter(args)()
    if cloud not in _DOMAINS:
        raise ValueError(
            f"--pgpass: {cloud.name} has no Azure Database for PostgreSQL; pass --cloud"
        )
    return _DOMAINS[cloud][1]


def _fields(server: str) -> list[str]:
    """Return host, port, database and user; an omitted part is ``*``, which matches any."""
    found = _ADDRESS.fullmatch(server)
    database, _, user = (found["rest"] or "").partition(":") if found else ("", "", "")
    if not found or found["host"] == _ANY or ":" in user or not server.isprintable():
        raise ValueError(f"--pgpass: {server!r} is not HOST[:PORT[:DATABASE[:USER]]]")
    return [found["host"].strip("[]"), found["port"] or _ANY, database or _ANY, user or _ANY]


def _escaped(field: str) -> str:
    return re.sub(r"[\\:]", r"\\\g<0>", field)
