"""``imds-identity cache``: what the processes of this user share, without the tokens."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .._core.failure import sanitize
from .._core.identity import Identity
from .._shared_cache.location import shared_cache_for
from .arguments import add_cache, add_verbosity
from .output import complain

if TYPE_CHECKING:
    import argparse

    from .._shared_cache.record import Record
    from .._shared_cache.store import SharedCache


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments to its parser."""
    parser.description = "Shows or clears the tokens that this user's processes share."
    parser.add_argument(
        "action", choices=("show", "clear"), help="tell what is shared, but no token; or remove it"
    )
    add_cache(parser, "--directory")
    add_verbosity(parser)


def run(args: argparse.Namespace) -> int:
    """Do what ``args`` say; the exit status.

    Raises:
        ValueError: if they name no directory.
    """
    if args.cache is not None and not os.path.isdir(args.cache):
        raise ValueError(f"{args.cache!r} is no directory")
    shared_cache = shared_cache_for(os.path.abspath(args.cache) if args.cache else None)
    if shared_cache is None:
        return complain("nothing is shared: IMDS_IDENTITY_CACHE is off")
    if not shared_cache.usable():
        return complain(
            f"{sanitize(shared_cache.directory.path) or 'no private directory in memory'} cannot "
            "be used; IMDS_IDENTITY_CACHE=DIRECTORY names another"
        )
    where = sanitize(shared_cache.directory.path)
    if args.action == "clear":
        print(f"{shared_cache.clear()} removed from {where}")
        return 0
    records = shared_cache.records()
    print(f"{len(records)} in {where}")
    for record in records:
        print("\n".join(_lines(record, shared_cache)))
    return 0


def _lines(record: Record, shared_cache: SharedCache) -> list[str]:
    key, now = record.key, shared_cache.clock.now()
    # Whatever wrote the entry: nothing in it is to be a command to the terminal.
    lines = [
        sanitize(key.resource),
        f"  identity  {sanitize(str(Identity(key.selector, key.identity)))}",
        f"  source    {sanitize(key.source)} at {sanitize(key.endpoint)}",
    ]
    if record.token is None:
        return [*lines, f"  no token  {sanitize(str(record.failure))}"]
    token = record.token
    return [
        *lines,
        f"  age       {_duration(now - token.received_at)}",
        f"  refresh   {_until(token.refresh_at - now, 'due')}",
        f"  expires   {_until(token.expires_at - now, 'has expired')}",
    ]


def _until(seconds: float, over: str) -> str:
    return f"in {_duration(seconds)}" if seconds > 0 else over


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
