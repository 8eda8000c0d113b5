"""``imds-identity whoami``: as whom this machine gets tokens."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .._core.claims import claims_in
from .._core.failure import Failure, Malformed, sanitize
from .._core.scope import resource_of
from .arguments import (
    add_output,
    add_source_of_tokens,
    add_verbosity,
    client_of,
    doctor_command,
)
from .output import complain

if TYPE_CHECKING:
    import argparse

    from .._core.token import Token

_RESOURCE = "https://management.azure.com"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments to its parser."""
    parser.description = (
        "Tells which identity this machine's tokens are of, as they say themselves; never the "
        "token."
    )
    parser.add_argument(
        "resource",
        nargs="?",
        default=_RESOURCE,
        metavar="RESOURCE",
        help="what the token is for (default: %(default)s)",
    )
    add_source_of_tokens(parser)
    add_output(parser, ("text", "json"), "text")
    add_verbosity(parser)


def run(args: argparse.Namespace) -> int:
    """Tell what ``args`` ask for; the exit status.

    Raises:
        ValueError: if they ask for nonsense.
    """
    client = client_of(args)
    resource = resource_of((args.resource,))
    entry = client.entry(resource)
    try:
        token = client.token(entry)
        told = {**_told(token), "source": str(client.source)}
    except Failure as failure:
        complain(failure)
        return complain(f"what is the cause? {doctor_command(args, resource)}")
    if args.output == "json":
        import json

        sys.stdout.write(json.dumps(told, indent=2) + "\n")
    else:
        rows = [(name, value) for name, value in told.items() if value is not None]
        sys.stdout.writelines(f"{name:14}{sanitize(str(value))}\n" for name, value in rows)
    return 0


def _told(token: Token) -> dict[str, str | int | None]:
    claims = claims_in(token.value)
    if not claims:
        raise Malformed("the token is no JWT: it does not tell whose it is")

    def text(*names: str) -> str | None:
        # A token is the service's, and what it says of itself may be anything.
        values = (claims.get(name) for name in names)
        return next((sanitize(value) for value in values if isinstance(value, str) and value), None)

    identity = text("xms_mirid")
    path = (identity or "").split("/")
    return {
        "clientId": text("appid", "azp"),
        "objectId": text("oid", "sub"),
        "tenant": text("tid"),
        "subscription": path[2] if path[1:2] == ["subscriptions"] and path[2:] else None,
        "identity": identity,
        "audience": text("aud"),
        "expiresOn": _moment(token.expires_on),
        "expires_on": token.expires_on,
    }


def _moment(seconds: int) -> str:
    from datetime import datetime, timezone

    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
