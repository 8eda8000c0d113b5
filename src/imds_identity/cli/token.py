"""``imds-identity token``: a token for scripts, pipes, curl and kubectl."""

from __future__ import annotations

import sys

from .._core.claims import claims_in
from .._core.failure import Failure, Malformed
from .._core.scope import resource_of
from .._platform.environment import Environment
from .arguments import (
    add_output,
    add_source_of_tokens,
    add_verbosity,
    client_of,
    doctor_command,
)
from .output import complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any

    from .._core.token import Token

_EXAMPLES = """\
examples:
  imds-identity token https://management.azure.com/
  imds-identity token https://vault.azure.net -o header | curl -H @- URL
  imds-identity token https://management.azure.com/ --client-id ID -o claims
"""
_KUBERNETES_API = "client.authentication.k8s.io/v1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments to its parser."""
    parser.usage = "imds-identity token [FLAGS] RESOURCE_OR_SCOPE"
    parser.description = "Prints a managed identity's token for a resource."
    parser.epilog = _EXAMPLES
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument(
        "resource_or_scope",
        nargs="?",
        metavar="RESOURCE_OR_SCOPE",
        help="what the token is for, such as https://management.azure.com/ or "
        "https://vault.azure.net/.default",
    )
    wanted.add_argument("--resource", help="the same, by the flag that az has")
    wanted.add_argument("--scope", help="the same, as a scope")
    add_source_of_tokens(parser)
    add_output(
        parser,
        _OUTPUTS,
        "text",
        "text: the token alone (default); json: as `az account get-access-token`; header: an "
        "Authorization header; env: lines for a shell to evaluate; exec-credential: for kubectl; "
        "claims: what the token says of itself, without the token",
    )
    add_verbosity(parser)


def run(args: argparse.Namespace) -> int:
    """Print the token that ``args`` ask for; the exit status.

    Raises:
        ValueError: if they ask for nonsense.
    """
    client = client_of(args)
    resource = resource_of((_wanted(args),))
    entry = client.entry(resource)
    try:
        token = client.token(entry)
        written = _OUTPUTS[args.output](token)
    except Failure as failure:
        complain(failure)
        return complain(f"what is the cause? {doctor_command(args, resource)}")
    sys.stdout.write(written + "\n")
    return 0


def _wanted(args: argparse.Namespace) -> str:
    given = (args.resource_or_scope, args.resource, args.scope)
    return str(next(name for name in given if name is not None))


def _text(token: Token) -> str:
    return token.value


def _header(token: Token) -> str:
    return f"Authorization: {token.token_type} {token.value}"


def _env(token: Token) -> str:
    import shlex

    return (
        f"export AZURE_ACCESS_TOKEN={shlex.quote(token.value)}\n"
        f"export AZURE_ACCESS_TOKEN_EXPIRES_ON={token.expires_on}"
    )


def _json(token: Token) -> str:
    from datetime import datetime

    claims = claims_in(token.value)
    # A token is the service's, and what it says of itself may be anything.
    tenant, resource_id = claims.get("tid"), claims.get("xms_mirid")
    # /subscriptions/<id>/resourcegroups/...
    path = resource_id.split("/") if isinstance(resource_id, str) else []
    return _dump(
        {
            "accessToken": token.value,
            # Local time with no zone, as az writes it; expires_on is the one to rely on.
            "expiresOn": datetime.fromtimestamp(token.expires_on).isoformat(  # noqa: DTZ006
                sep=" ", timespec="microseconds"
            ),
            "expires_on": token.expires_on,
            "subscription": path[2] if path[1:2] == ["subscriptions"] else None,
            "tenant": tenant if isinstance(tenant, str) else None,
            "tokenType": token.token_type,
        }
    )


def _exec_credential(token: Token) -> str:
    from datetime import datetime, timezone

    expiry = datetime.fromtimestamp(token.expires_on, timezone.utc)
    return _dump(
        {
            "apiVersion": _kubernetes_api(),
            "kind": "ExecCredential",
            "status": {
                "expirationTimestamp": expiry.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "token": token.value,
            },
        }
    )


def _claims_alone(token: Token) -> str:
    claims = claims_in(token.value)
    if not claims:
        raise Malformed("the token is no JWT: there are no claims to show", "Leave out -o claims.")
    return _dump(claims)


def _kubernetes_api() -> str:
    """The version that kubectl asks in; it takes no other in answer.

    https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
    """
    import json

    try:
        return str(json.loads(Environment()["KUBERNETES_EXEC_INFO"])["apiVersion"])
    except (KeyError, ValueError, TypeError, RecursionError):
        return _KUBERNETES_API


def _dump(value: dict[str, Any]) -> str:
    import json

    return json.dumps(value, indent=2)


_OUTPUTS: dict[str, Callable[[Token], str]] = {
    "text": _text,
    "json": _json,
    "header": _header,
    "env": _env,
    "exec-credential": _exec_credential,
    "claims": _claims_alone,
}
