"""Lines to copy: how clients ask the emulator for a token."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode

from .._machine.identities import SystemAssigned
from .._services.app_service import PATH as APP_SERVICE_PATH
from .._services.token import TOKEN_PATH

if TYPE_CHECKING:
    from .._machine.identities import Identity
    from .._state.state import World

_RESOURCE = "https://vault.azure.net"


class Snippet(NamedTuple):
    """Something to copy, with what it is for."""

    title: str
    text: str


def snippets(world: World, endpoint: str, identity: Identity) -> list[Snippet]:
    """How some clients ask for a token of an identity."""
    chosen = "" if isinstance(identity, SystemAssigned) else identity.client_id
    python = f'ManagedIdentityCredential(client_id="{chosen}")' if chosen else _PLAIN
    script = f'new ManagedIdentityCredential("{chosen}")' if chosen else "new " + _PLAIN
    flag = f" --client-id {chosen}" if chosen else ""
    return [
        Snippet("curl", _curl(world, endpoint, chosen)),
        Snippet(
            "Python",
            "from azure.identity import ManagedIdentityCredential\n"
            f'print({python}.get_token("{_RESOURCE}/.default"))',
        ),
        Snippet(
            "JavaScript",
            'import { ManagedIdentityCredential } from "@azure/identity";\n'
            f'console.log(await ({script}).getToken("{_RESOURCE}/.default"));',
        ),
        Snippet("Command", f"imds-identity token {_RESOURCE}{flag}"),
    ]


_PLAIN = "ManagedIdentityCredential()"


def _curl(world: World, endpoint: str, client_id: str) -> str:
    query = {"api-version": "2018-02-01", "resource": _RESOURCE}
    header = "Metadata: true"
    path = TOKEN_PATH
    if world.profile == "app-service":
        query["api-version"], path = "2019-08-01", APP_SERVICE_PATH
        header = f"X-IDENTITY-HEADER: {world.identity_header}"
    if world.profile == "arc":
        query["api-version"] = "2020-06-01"
    if client_id:
        query["client_id"] = client_id
    url = shlex.quote(f"{endpoint}{path}?{urlencode(query)}")
    if world.profile == "arc":
        return (
            f"key=$(curl -si -H 'Metadata: true' {url} | tr -d '\\r' | sed -n 's/.*realm=//p')\n"
            f"curl -s -H 'Metadata: true' -H \"Authorization: Basic $(cat $key)\" {url}"
        )
    return f"curl -s -H {shlex.quote(header)} {url}"
