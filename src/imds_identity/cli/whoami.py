"""``imds-identity whoami``: show which identity tokens are issued for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._core.claims import claims_in
from .._core.failure import Failure, Malformed, sanitize
from .._core.scope import resource_of
from .arguments import add_output, add_token_options, print_failure, token_client
from .output import subscription_of, to_json, utc_time

if TYPE_CHECKING:
    import argparse

    from .._core.token import Token

_RESOURCE = "https://management.azure.com"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.description = (
        "Shows which identity this machine's tokens are issued for, according to their claims. "
        "It never prints a token."
    )
    parser.add_argument(
        "resource",
        nargs="?",
        default=_RESOURCE,
        metavar="RESOURCE",
        help="the resource of the token (default: %(default)s)",
    )
    add_token_options(parser)
    add_output(parser, ("text", "json"), "text")


def run(args: argparse.Namespace) -> int:
    """Print the identity; return the exit status."""
    client = token_client(args)
    resource = resource_of((args.resource,))
    entry = client.entry(resource)
    try:
        token = client.token(entry)
        fields = {**_identity_fields(token), "source": str(client.source)}
    except Failure as failure:
        return print_failure(args, resource, failure)
    if args.output == "json":
        print(to_json(fields))
    else:
        for name, value in fields.items():
            if value is not None:
                print(f"{name:14}{sanitize(str(value))}")
    return 0


def _identity_fields(token: Token) -> dict[str, str | int | None]:
    claims = claims_in(token.value)
    if not claims:
        raise Malformed("the token is not a JWT, so it does not name its identity")

    def claim(*names: str) -> str | None:
        # Claims are not validated, so they may have any type.
        values = (claims.get(name) for name in names)
        return next((sanitize(value) for value in values if isinstance(value, str) and value), None)

    identity = claim("xms_mirid")
    return {
        "clientId": claim("appid", "azp"),
        "objectId": claim("oid", "sub"),
        "tenant": claim("tid"),
        "subscription": subscription_of(identity),
        "identity": identity,
        "audience": claim("aud"),
        "expiresOn": utc_time(token.expires_on),
        "expires_on": token.expires_on,
    }
