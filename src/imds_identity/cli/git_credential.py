"""``git-credential-imds-identity``: credentials for Azure Repos.

https://git-scm.com/docs/git-credential#IOFMT
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._core.failure import Failure
from ..metadata._services import AZURE_DEVOPS, is_azure_repos
from .arguments import add_application, add_token_options, print_failure, token_client
from .output import read_input

if TYPE_CHECKING:
    import argparse

    from .._core.token import Token

_USER = "VssSessionToken"
_AUTHTYPE = ("capability[]", "authtype")
_MAX_INPUT = 64 * 1024
_EXAMPLES = """\
examples:
  git config --global credential.https://dev.azure.com.helper imds-identity
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = _EXAMPLES
    parser.description = (
        "A credential helper for git. It returns credentials for Azure Repos and stores none."
    )
    parser.add_argument(
        "action", metavar="ACTION", help="get, store or erase; others are ignored, as git requires"
    )
    add_token_options(parser)
    add_application(parser)


def run(args: argparse.Namespace) -> int:
    """Execute one action of the protocol; return the exit status."""
    pairs = _pairs(read_input(_MAX_INPUT))
    fields = dict(pairs)
    host = fields.get("host", "").lower().removesuffix(":443")
    is_served = fields.get("protocol") == "https" and is_azure_repos(host)
    if not is_served or args.action not in ("get", "erase"):
        return 0
    client = token_client(args)
    entry = client.entry(AZURE_DEVOPS)
    try:
        token = client.token(entry)
        if args.action == "get":
            print(_credential(token, fields, has_types=_AUTHTYPE in pairs))
        elif token.value in (fields.get("password"), fields.get("credential")):
            client.fresh_token(entry)  # replaces the refused token
    except Failure as failure:
        return print_failure(args, AZURE_DEVOPS, failure)
    return 0


def _pairs(content: bytes) -> list[tuple[str, str]]:
    """Return the names and values in git's request.

    Only a line feed ends a line: a path may contain other line breaks, and after them a host.
    """
    lines = content.decode("utf-8", "replace").split("\n")
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]


def _credential(token: Token, fields: dict[str, str], *, has_types: bool) -> str:
    """Return git's response; if git knows types of credentials, other helpers do not store it."""
    if has_types:
        lines = ["capability[]=authtype", "authtype=Bearer", f"credential={token.value}"]
        lines.append("ephemeral=1")
    else:
        lines = [f"username={fields.get('username') or _USER}", f"password={token.value}"]
    return "\n".join([*lines, f"password_expiry_utc={token.expires_on}"])
