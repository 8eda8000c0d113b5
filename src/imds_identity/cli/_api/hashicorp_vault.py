"""A login to HashiCorp Vault with a managed identity's token."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..._core.failure import sanitize
from ..._platform.environment import Environment, add_variables
from ...hashicorp_vault import RESOURCE, machine_parameters
from .client import ApiError, api_client, error_text, json_of
from .hosts import origin_url
from .sender import ApiRequest, ApiResponse, Sender, tls_context

if TYPE_CHECKING:
    import argparse
    import ssl

MOUNT = "azure"
_TOKEN = re.compile(r"[!-~]+")
_CERTIFICATES = ("VAULT_CACERT", "VAULT_CAPATH")
add_variables("VAULT_ADDR", "VAULT_NAMESPACE", *_CERTIFICATES)


def vault_login(
    args: argparse.Namespace,
    role: str,
    address: str | None = None,
    mount: str = MOUNT,
    resource: str = RESOURCE,
) -> dict[str, Any]:
    """Return ``auth`` of Vault's response, which contains the ``client_token``.

    Raises:
        ApiError: if there is no token.
        ValueError: for an invalid flag or variable.
    """
    environment = Environment()
    address = (address or environment["VAULT_ADDR"]).rstrip("/")
    if not address:
        raise ValueError("the address of Vault is missing: set VAULT_ADDR")
    origin = origin_url(address)
    headers = {"Content-Type": "application/json", "X-Vault-Request": "true"}
    if environment["VAULT_NAMESPACE"]:
        headers["X-Vault-Namespace"] = environment["VAULT_NAMESPACE"]
    sender = Sender(_tls_context(environment))
    parameters = {"role": role, **machine_parameters(args.source)}

    def send(request: ApiRequest, token: str) -> ApiResponse:
        body = json.dumps({**parameters, "jwt": token}).encode()
        return sender(ApiRequest(request.method, request.url, body, request.headers), None)

    url = f"{address}/v1/auth/{quote(mount.strip('/'))}/login"
    response = api_client(args, resource, send).request(ApiRequest("POST", url, headers=headers))
    if response.status != 200:
        named = ", ".join(f"{name}={value}" for name, value in parameters.items())
        raise ApiError(
            f"{origin}: {error_text(response)}. The request to the method at {sanitize(mount)!r} "
            f"contained {sanitize(named)} and a token for {sanitize(resource)}. Does the role "
            "exist there, does it allow this identity and this machine, and is this the resource "
            "in the configuration of the method?"
        )
    body = json_of(response)
    auth = body.get("auth") if isinstance(body, dict) else None
    token = auth.get("client_token") if isinstance(auth, dict) else None
    if auth is None or not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise ApiError(f"{origin}: the response has no token: is this the address of Vault?")
    return dict(auth)


def _tls_context(environment: Environment) -> ssl.SSLContext:
    """Return a context that trusts VAULT_CACERT or VAULT_CAPATH, if they are set."""
    name = next((each for each in _CERTIFICATES if environment[each]), None)
    if name is None:
        return tls_context()
    try:
        return tls_context(environment[name])
    except OSError as error:  # also what OpenSSL raises
        reason = error.strerror or error
        problem = f"{name}={sanitize(environment[name])!r} cannot be used: {reason}"
    raise ValueError(problem)
