"""Flags of the commands that run a token endpoint."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from .._core.identity import SYSTEM_ASSIGNED, parse_identity
from .._core.scope import resource_of
from .._platform.clock import SYSTEM_CLOCK
from .arguments import add_application, add_token_options, token_client

if TYPE_CHECKING:
    import argparse
    import socket

    from .._core.identity import Identity
    from .._endpoint.policy import AccessPolicy
    from .._endpoint.server import TokenServer


def add_endpoint(parser: argparse.ArgumentParser) -> None:
    """Add the flags that restrict the endpoint's tokens and select their source."""
    add_token_options(parser)
    add_application(parser)
    parser.add_argument(
        "--allow-resource",
        action="append",
        metavar="RESOURCE",
        help="allow tokens for this resource only; may be repeated (default: all resources)",
    )


def identity_of(args: argparse.Namespace) -> Identity | None:
    """Return the identity that the flags select; None lets clients choose."""
    selected = parse_identity(
        client_id=args.client_id, object_id=args.object_id, resource_id=args.resource_id
    )
    return None if selected == SYSTEM_ASSIGNED else selected


def resources_of(args: argparse.Namespace) -> list[str] | None:
    """Return the allowed resources; None allows all."""
    if args.allow_resource is None:
        return None
    return [resource_of((resource,)) for resource in args.allow_resource]


def token_server(
    args: argparse.Namespace, listeners: list[socket.socket], policy: AccessPolicy
) -> TokenServer:
    """Return a server with tokens of the source that the flags select."""
    # Imported here, because `exec` starts its command first.
    from .._endpoint.handler import TokenHandler
    from .._endpoint.server import TokenServer

    handler = TokenHandler(partial(token_client, args, preload=True), SYSTEM_CLOCK)
    return TokenServer(listeners, policy, handler.handle, SYSTEM_CLOCK, handler.cached)
