"""``imds-identity vault-login``: sign in to HashiCorp Vault."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..hashicorp_vault import RESOURCE
from ._api.client import ApiError, print_api_error
from ._api.hashicorp_vault import MOUNT, vault_login
from .arguments import add_output, add_token_options
from .output import to_json

if TYPE_CHECKING:
    import argparse

_EXAMPLES = """\
examples:
  VAULT_TOKEN=$(imds-identity vault-login --role my-role) vault kv get secret/db
  imds-identity exec --vault-role my-role -- vault kv get secret/db
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = _EXAMPLES
    parser.description = (
        "Signs in to HashiCorp Vault with its azure method, and prints the Vault token. "
        "VAULT_CACERT, VAULT_CAPATH and VAULT_NAMESPACE have the same meaning as for vault."
    )
    parser.add_argument("--role", required=True, help="the name of the role in Vault")
    parser.add_argument(
        "--address", metavar="URL", help="the https URL of Vault (default: the value of VAULT_ADDR)"
    )
    parser.add_argument(
        "--mount",
        default=MOUNT,
        metavar="PATH",
        help="the path of the azure method (default: %(default)s)",
    )
    parser.add_argument(
        "--resource",
        default=RESOURCE,
        help="the resource that is configured for the method (default: %(default)s)",
    )
    add_token_options(parser)
    add_output(
        parser,
        ("text", "json"),
        "text",
        "text: the Vault token only (default); json: with its lifetime and policies",
    )


def run(args: argparse.Namespace) -> int:
    """Print the Vault token; return the exit status."""
    try:
        auth = vault_login(args, args.role, args.address, args.mount, args.resource)
    except ApiError as error:
        return print_api_error(args, error)
    print(auth["client_token"] if args.output == "text" else to_json(auth))
    return 0
