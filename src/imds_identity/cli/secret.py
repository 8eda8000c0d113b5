"""``imds-identity secret``: a secret of a key vault, for scripts."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from .arguments import add_output, add_source_of_tokens, add_verbosity
from .output import complain, reader_is_gone

if TYPE_CHECKING:
    import argparse

_EXAMPLES = """\
examples:
  imds-identity secret kv://my-vault/db --show
  imds-identity secret https://my-vault.vault.azure.net/secrets/key --file key.pem
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments to its parser."""
    parser.epilog = _EXAMPLES
    parser.description = (
        "Writes a secret of a key vault: its exact bytes, without a line end. Exit status: 0; 1 if "
        "it cannot be had, 2 for wrong usage."
    )
    parser.add_argument(
        "secrets",
        nargs="+",
        metavar="SECRET",
        help="https://VAULT.vault.azure.net/secrets/NAME[/VERSION], or "
        "kv://VAULT/NAME[/VERSION][#JSON.KEY]",
    )
    parser.add_argument("--show", action="store_true", help="write it to a terminal, too")
    parser.add_argument(
        "--file", metavar="FILE", help="write it to this file instead, which is given mode 0600"
    )
    parser.add_argument(
        "--resource",
        help="what the vault's token is for, where the vault has a name of your own: "
        "https://vault.azure.net or another cloud's",
    )
    parser.add_argument(
        "--cloud", metavar="NAME", help="where kv://VAULT is (default: in the machine's own cloud)"
    )
    add_source_of_tokens(parser)
    add_output(
        parser,
        ("text", "json"),
        "text",
        "text: the secret alone (default); json: with its attributes; a list of several",
    )
    add_verbosity(parser)


def run(args: argparse.Namespace) -> int:
    """Write what ``args`` ask for; the exit status.

    Raises:
        ValueError: if they ask for nonsense.
    """
    if args.file is None and not args.show and sys.stdout.isatty():
        raise ValueError("this is a terminal, where others may see the secret: pass --show")
    if len(args.secrets) > 1 and args.output == "text":
        raise ValueError("several secrets are written with -o json only")
    from ._api.hosts import cloud_of
    from ._api.sending import Problem, caller_for
    from ._api.vault import address_in, address_of, fetched

    addresses = [
        address_of(each) if each.startswith("https:") else address_in(each, partial(cloud_of, args))
        for each in args.secrets
    ]
    try:
        bundles = fetched(addresses, partial(caller_for, args), args.resource)
        _write(_written(bundles, args.output), args.file)
    except Problem as problem:
        return complain(problem)
    except OSError as error:
        if reader_is_gone(error):
            raise
        return complain(f"{args.file}: {error.strerror}")
    return 0


def _written(bundles: list[dict[str, object]], output: str) -> bytes:
    if output == "text":
        return str(bundles[0]["value"]).encode("utf-8", "surrogatepass")
    import json

    return (json.dumps(bundles if len(bundles) > 1 else bundles[0], indent=2) + "\n").encode()


def _write(content: bytes, path: str | None) -> None:
    if path is None:
        sys.stdout.buffer.write(content)
        return
    from .._platform.files import write_atomically

    write_atomically(path, content)
