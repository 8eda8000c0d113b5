"""Code snippets that get a token from the emulator."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode

from .._machine.identities import SystemAssigned
from .._services.app_service import PATH as APP_SERVICE_PATH
from .._services.token import TOKEN_PATH

if TYPE_CHECKING:
    from .._machine.identities import Identity
    from .._state.state import EmulatorState

_RESOURCE = "https://vault.azure.net"


class Snippet(NamedTuple):
    """A snippet with its title."""

    title: str
    text: str


def snippets(state: EmulatorState, endpoint: str, identity: Identity) -> list[Snippet]:
    """Return snippets that get a token for an identity."""
    client_id = "" if isinstance(identity, SystemAssigned) else identity.client_id
    python_arguments = f'client_id="{client_id}"' if client_id else ""
    javascript_arguments = f'"{client_id}"' if client_id else ""
    flag = f" --client-id {client_id}" if client_id else ""
    return [
        Snippet("curl", _curl(state, endpoint, client_id)),
        Snippet(
            "Python",
            "from azure.identity import ManagedIdentityCredential\n"
            f"credential = ManagedIdentityCredential({python_arguments})\n"
            f'print(credential.get_token("{_RESOURCE}/.default"))',
        ),
        Snippet(
            "JavaScript",
            'import { ManagedIdentityCredential } from "@azure/identity";\n'
            f"const credential = new ManagedIdentityCredential({javascript_arguments});\n"
            f'console.log(await credential.getToken("{_RESOURCE}/.default"));',
        ),
        Snippet("Command line", f"imds-identity token {_RESOURCE}{flag}"),
    ]


def _curl(state: EmulatorState, endpoint: str, client_id: str) -> str:
    query = {"api-version": "2018-02-01", "resource": _RESOURCE}
    header = "Metadata: true"
    path = TOKEN_PATH
    if state.profile == "app-service":
        query["api-version"], path = "2019-08-01", APP_SERVICE_PATH
        header = f"X-IDENTITY-HEADER: {state.identity_header}"
    if state.profile == "arc":
        query["api-version"] = "2020-06-01"
    if client_id:
        query["client_id"] = client_id
    url = shlex.quote(f"{endpoint}{path}?{urlencode(query)}")
    if state.profile == "arc":
        return (
            f"key=$(curl -si -H 'Metadata: true' {url} | tr -d '\\r' | sed -n 's/.*realm=//p')\n"
            f"curl -s -H 'Metadata: true' -H \"Authorization: Basic $(cat $key)\" {url}"
        )
    return f"curl -s -H {shlex.quote(header)} {url}"
