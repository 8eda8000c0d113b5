"""``docker-credential-imds-identity``: credentials for Azure Container Registry.

https://github.com/docker/docker-credential-helpers
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .._core.failure import Failure, escape
from .arguments import add_application, add_cloud, add_token_options
from .output import FAILED, failure_lines, failure_status, read_input

if TYPE_CHECKING:
    import argparse

_ACTIONS = ("get", "list", "store", "erase")
_USER = "00000000-0000-0000-0000-000000000000"
_NOT_FOUND = "credentials not found in native keychain"
"""With this text, clients try the next helper, or no credentials."""
_MAX_INPUT = 64 * 1024
_EXAMPLES = """\
examples:
  echo my-registry.azurecr.io | imds-identity docker-credential get
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = _EXAMPLES
    parser.description = (
        "A credential helper for docker, podman, skopeo, buildah, oras and helm. It returns "
        "credentials for Azure Container Registry and stores none."
    )
    parser.add_argument("action", choices=_ACTIONS, metavar="ACTION", help="%(choices)s")
    add_cloud(parser, "the registries that may get a token")
    add_token_options(parser)
    add_application(parser)


def run(args: argparse.Namespace) -> int:
    """Execute one action of the protocol; return the exit status."""
    if args.action == "list":
        print("{}")
        return 0
    server = read_input(_MAX_INPUT).decode("utf-8", "replace")
    if args.action == "store":
        return _error("nothing can be stored: registries of Azure need no login with this helper")
    return _get(args, server) if args.action == "get" else 0


def _get(args: argparse.Namespace, server: str) -> int:
    from ._api.container_registry import registry_client, registry_of

    registry = registry_of(server)
    if registry is None:
        return _error(_NOT_FOUND)
    try:
        client = registry_client(args, registry)
        token = client.token(client.entry(registry))
    except (Failure, ValueError) as error:
        return _error(error)
    print(json.dumps({"ServerURL": server.strip(), "Username": _USER, "Secret": token.value}))
    return 0


def _error(error: object) -> int:
    """Print an error where clients of the protocol expect it; return the exit status."""
    if not isinstance(error, Failure):
        print(escape(str(error)))
        return FAILED
    print(escape("\n".join(failure_lines(error)), keep="\n"))
    return failure_status(error)
