"""Code snippets that get a token from the emulator."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode

from .._machine.identities import SystemAssigned
from .._profiles.profiles import BINDING_NAME, has_secret
from .._services.app_hosts import PATH as APP_PATH
from .._services.token import FORM_TOKEN_PATH, TOKEN_PATH

if TYPE_CHECKING:
    from .._machine.identities import Identity
    from .._state.state import EmulatorState

_RESOURCE = "https://vault.azure.net"
# Of hosts with a secret: the path, the api-version, the selector and the header with the secret.
_APP_SERVICE = (APP_PATH, "2019-08-01", "client_id", "X-IDENTITY-HEADER")
_APP_REQUESTS = {
    "aci": (TOKEN_PATH, "1.0", "principalId", "secret"),
    "azure-ml": (APP_PATH, "2017-09-01", "clientid", "secret"),
    "service-fabric": (TOKEN_PATH, "2020-05-01", "principalId", "Secret"),
}


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
        Snippet("curl", _curl(state, endpoint, identity, client_id)),
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


def _curl(state: EmulatorState, endpoint: str, identity: Identity, client_id: str) -> str:
    profile, header = state.profile, "Metadata: true"
    if profile == "cloud-shell":
        url = shlex.quote(endpoint + FORM_TOKEN_PATH)
        return f"curl -s -H {shlex.quote(header)} -d resource={_RESOURCE} {url}"
    if profile == "identity-binding":
        host, _, port = endpoint.partition("://")[2].rpartition(":")
        target = f"{BINDING_NAME}:{port}"
        options = f'--cacert "$AZURE_KUBERNETES_CA_FILE" --connect-to {target}:{host}:{port}'
        return _workload_curl(identity, options, f"https://{target}/")
    if profile == "workload-identity":
        return _workload_curl(identity, '--cacert "$SSL_CERT_FILE"', "$AZURE_AUTHORITY_HOST")
    path, version, selector = TOKEN_PATH, "2018-02-01", "client_id"
    if has_secret(profile, state.machine.os_type):
        path, version, selector, secret_header = _APP_REQUESTS.get(profile, _APP_SERVICE)
        header = f"{secret_header}: {state.identity_header}"
    if profile == "arc":
        version = "2020-06-01"
    query = {"api-version": version, "resource": _RESOURCE}
    if client_id:
        query[selector] = identity.object_id if selector == "principalId" else client_id
    url = shlex.quote(f"{endpoint}{path}?{urlencode(query)}")
    if profile == "arc":
        return (
            f"key=$(curl -si -H 'Metadata: true' {url} | tr -d '\\r' | sed -n 's/.*realm=//p')\n"
            f"curl -s -H 'Metadata: true' -H \"Authorization: Basic $(cat $key)\" {url}"
        )
    insecure = "k" if profile == "service-fabric" else ""
    return f"curl -s{insecure} -H {shlex.quote(header)} {url}"


def _workload_curl(identity: Identity, options: str, authority: str) -> str:
    return (
        f"curl -s {options} -d grant_type=client_credentials "
        f"-d client_id={identity.client_id} -d scope={_RESOURCE}/.default "
        "-d client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer "
        '--data-urlencode client_assertion@"$AZURE_FEDERATED_TOKEN_FILE" '
        f'"{authority}$AZURE_TENANT_ID/oauth2/v2.0/token"'
    )
