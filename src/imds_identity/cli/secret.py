"""``imds-identity secret``: print a Key Vault secret."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from .._platform.environment import add_variables, variable_value
from ..metadata.clouds import PUBLIC
from ._api.client import ApiError, api_client, print_api_error
from ._api.hosts import cloud_getter, origin_url
from ._api.sender import Sender, tls_context
from ._api.vault import fetch_secrets, parse_reference, parse_secret_url
from .arguments import add_application, add_cloud, add_output, add_token_options
from .output import is_broken_pipe, print_error, to_json, write_bytes

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from ..metadata.clouds import Cloud
    from ._api.client import ApiClient
    from ._api.vault import SecretAddress

add_variables("IMDS_EMULATOR_KEY_VAULT_URL", "IMDS_EMULATOR_KEY_VAULT_CA_FILE")
_VAULTS = f"https://{PUBLIC.key_vault_suffix}"
_EXAMPLES = """\
examples:
  imds-identity secret kv://my-vault/db --show
  imds-identity secret https://my-vault.vault.azure.net/secrets/key --file key.pem
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = _EXAMPLES
    parser.description = "Prints a Key Vault secret: its exact bytes, without a line break."
    parser.add_argument(
        "secrets",
        nargs="+",
        metavar="SECRET",
        help="https://VAULT.vault.azure.net/secrets/NAME[/VERSION], or "
        "kv://VAULT/NAME[/VERSION][#JSON.KEY]",
    )
    parser.add_argument("--show", action="store_true", help="allow printing to a terminal")
    parser.add_argument(
        "--file", metavar="FILE", help="write the secret to this file, with mode 0600"
    )
    parser.add_argument(
        "--resource",
        help="the token's resource, for a vault with a custom domain: https://vault.azure.net or "
        "another cloud's",
    )
    add_cloud(parser, "kv://VAULT and of the vaults that may get a token")
    add_token_options(parser)
    add_application(parser)
    add_output(
        parser,
        ("text", "json"),
        "text",
        "text: the secret only (default); json: with its attributes; a list if there are several",
    )


def run(args: argparse.Namespace) -> int:
    """Print the secrets; return the exit status."""
    if args.file is None and not args.show and sys.stdout.isatty():
        raise ValueError("standard output is a terminal; pass --show to print the secret anyway")
    if len(args.secrets) > 1 and args.output == "text":
        raise ValueError("several secrets require -o json")
    cloud = cloud_getter(args)
    addresses = [
        parse_secret_url(each)
        if each.startswith(("https:", "http:"))
        else parse_reference(each, cloud)
        for each in args.secrets
    ]
    try:
        bundles = fetch_secrets(addresses, *_clients(args, addresses, cloud))
        _write(_formatted(bundles, args.output), args.file)
    except ApiError as error:
        return print_api_error(args, error)
    except OSError as error:
        if is_broken_pipe(error):
            raise
        return print_error(f"{args.file}: {error.strerror}")
    return 0


def _clients(
    args: argparse.Namespace, addresses: list[SecretAddress], cloud: Callable[[], Cloud]
) -> tuple[Callable[[str], ApiClient], Callable[[], Cloud], str | None]:
    """Return the arguments of `fetch_secrets`; the emulator's variables describe its vault."""
    url, ca_file = (variable_value(f"IMDS_EMULATOR_KEY_VAULT_{n}") for n in ("URL", "CA_FILE"))
    if not url or not ca_file or {each.vault for each in addresses} != {origin_url(url)}:
        return partial(api_client, args), cloud, args.resource
    send = Sender(tls_context(ca_file))
    return partial(api_client, args, send=send), cloud, args.resource or _VAULTS


def _formatted(bundles: list[dict[str, object]], output: str) -> bytes:
    if output == "text":
        return str(bundles[0]["value"]).encode("utf-8", "surrogatepass")
    return (to_json(bundles if len(bundles) > 1 else bundles[0]) + "\n").encode()


def _write(content: bytes, path: str | None) -> None:
    if path is None:
        write_bytes(content)
        return
    from .._platform.output_files import write_output

    write_output(path, content)
