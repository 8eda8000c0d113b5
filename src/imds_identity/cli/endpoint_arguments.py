"""Flags of the commands that run a token endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._core.identity import SYSTEM_ASSIGNED, parse_identity
from .._core.scope import resource_of
from .arguments import add_cache, add_host, add_identity, add_verbosity

if TYPE_CHECKING:
    import argparse

    from .._core.identity import Identity


def add_endpoint(parser: argparse.ArgumentParser) -> None:
    """Add the flags that restrict the endpoint's tokens and select their source."""
    add_identity(parser)
    parser.add_argument(
        "--allow-resource",
        action="append",
        metavar="RESOURCE",
        help="allow tokens for this resource only; may be repeated (default: all resources)",
    )
    add_host(parser)
    add_cache(parser)
    add_verbosity(parser)


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
