"""Flags of the commands that have a token endpoint, and what is built of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._core.identity import SYSTEM_ASSIGNED, parse_identity
from .._core.scope import resource_of
from .arguments import add_cache, add_host, add_identity, add_verbosity

if TYPE_CHECKING:
    import argparse

    from .._core.identity import Identity


def add_endpoint(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say whose tokens the endpoint gives, and for what."""
    add_identity(parser)
    parser.add_argument(
        "--allow-resource",
        action="append",
        metavar="RESOURCE",
        help="give tokens for this resource and no other; may be repeated",
    )
    add_host(parser)
    add_cache(parser)
    add_verbosity(parser)


def identity_of(args: argparse.Namespace) -> Identity | None:
    """The one identity that the flags select; None where clients choose.

    Raises:
        ValueError: if they select none that there can be.
    """
    chosen = parse_identity(
        client_id=args.client_id, object_id=args.object_id, resource_id=args.resource_id
    )
    return None if chosen == SYSTEM_ASSIGNED else chosen


def resources_of(args: argparse.Namespace) -> list[str] | None:
    """What tokens are given for; None for anything.

    Raises:
        ValueError: if one names no resource.
    """
    if args.allow_resource is None:
        return None
    return [resource_of((resource,)) for resource in args.allow_resource]
