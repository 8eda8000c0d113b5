"""``imds-identity token``: print a token for scripts, curl or kubectl."""

from __future__ import annotations

from .._core.claims import claims_in
from .._core.failure import Failure, Malformed, Reason
from .._core.scope import resource_of
from .._platform.environment import Environment
from .arguments import add_application, add_output, add_token_options, print_failure, token_client
from .output import subscription_of, to_json, utc_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from .._core.token import Token

_EXAMPLES = """\
examples:
  imds-identity token https://management.azure.com/
  imds-identity token https://vault.azure.net -o header | curl -H @- URL
  imds-identity token https://management.azure.com/ --client-id ID -o claims
"""
_KUBERNETES_API = "client.authentication.k8s.io/v1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.usage = "imds-identity token [FLAGS] RESOURCE_OR_SCOPE"
    parser.description = "Prints a managed identity's token for a resource."
    parser.epilog = _EXAMPLES
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument(
        "resource_or_scope",
        nargs="?",
        metavar="RESOURCE_OR_SCOPE",
        help="the token's resource or scope, such as https://management.azure.com/ or "
        "https://vault.azure.net/.default",
    )
    target.add_argument("--resource", help="the resource, as for az account get-access-token")
    target.add_argument("--scope", help="the scope, as for az account get-access-token")
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="fetch a new token, which replaces the cached one, and request that the service "
        "bypass its own cache; it may return the same token nevertheless",
    )
    add_token_options(parser)
    add_application(parser)
    add_output(
        parser,
        _OUTPUTS,
        "text",
        "text: the token only (default); json: like `az account get-access-token`; header: an "
        "Authorization header; env: export statements for a shell; exec-credential: for kubectl; "
        "claims: the token's claims, without the token",
    )


def run(args: argparse.Namespace) -> int:
    """Print the token; return the exit status."""
    client = token_client(args)
    resource = resource_of((_resource_or_scope(args),))
    entry = client.entry(resource)
    try:
        token = client.fresh_token(entry) if args.fresh else client.token(entry)
        output = _OUTPUTS[args.output](token)
    except Failure as failure:
        return print_failure(args, resource, failure, _question(resource, failure))
    print(output)
    return 0


def _question(resource: str, failure: Failure) -> str:
    """Return a question if ``resource`` may be a typing error."""
    if failure.reason not in (Reason.UNKNOWN_RESOURCE, Reason.BAD_REQUEST):
        return ""
    from ..metadata._services import suggested_resource

    meant = suggested_resource(resource)
    return f"{resource!r} may not be a resource; did you mean {meant}?" if meant else ""


def _resource_or_scope(args: argparse.Namespace) -> str:
    values = (args.resource_or_scope, args.resource, args.scope)
    return str(next(value for value in values if value is not None))


def _env(token: Token) -> str:
    import shlex

    return (
        f"export AZURE_ACCESS_TOKEN={shlex.quote(token.value)}\n"
        f"export AZURE_ACCESS_TOKEN_EXPIRES_ON={token.expires_on}"
    )


def _json(token: Token) -> str:
    from datetime import datetime

    claims = claims_in(token.value)
    tenant = claims.get("tid")
    # Local time without a zone, as az prints it; scripts should use expires_on.
    expiry = datetime.fromtimestamp(token.expires_on)  # noqa: DTZ006
    return to_json(
        {
            "accessToken": token.value,
            "expiresOn": expiry.isoformat(sep=" ", timespec="microseconds"),
            "expires_on": token.expires_on,
            "subscription": subscription_of(claims.get("xms_mirid")),
            "tenant": tenant if isinstance(tenant, str) else None,
            "tokenType": token.token_type,
        }
    )


def _exec_credential(token: Token) -> str:
    return to_json(
        {
            "apiVersion": _kubernetes_api(),
            "kind": "ExecCredential",
            "status": {"expirationTimestamp": utc_time(token.expires_on), "token": token.value},
        }
    )


def _claims(token: Token) -> str:
    claims = claims_in(token.value)
    if not claims:
        raise Malformed("the token is not a JWT, so it has no claims", "Omit -o claims.")
    return to_json(claims)


def _kubernetes_api() -> str:
    """Return the API version that kubectl requests; it accepts no other.

    https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
    """
    import json

    try:
        return str(json.loads(Environment()["KUBERNETES_EXEC_INFO"])["apiVersion"])
    except (KeyError, ValueError, TypeError, RecursionError):
        return _KUBERNETES_API


_OUTPUTS: dict[str, Callable[[Token], str]] = {
    "text": lambda token: token.value,
    "json": _json,
    "header": lambda token: f"Authorization: {token.token_type} {token.value}",
    "env": _env,
    "exec-credential": _exec_credential,
    "claims": _claims,
}
