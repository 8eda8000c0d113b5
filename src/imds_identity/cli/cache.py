"""``imds-identity cache``: what the processes of this user share, without the tokens."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .._core.failure import quote
from .._core.identity import Identity
from .._machine.choice import machine_cache
from .arguments import add_cache, add_verbosity
from .complaint import complain

if TYPE_CHECKING:
    import argparse

    from .._machine.entries import Entry
    from .._machine.store import MachineCache


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
    machine = machine_cache(os.path.abspath(args.cache) if args.cache else None)
    if machine is None:
        return complain("nothing is shared: IMDS_IDENTITY_CACHE is off")
    if not machine.usable():
        return complain(
            f"{quote(machine.directory.path) or 'no private directory in memory'} cannot be used; "
            "IMDS_IDENTITY_CACHE=DIRECTORY names another"
        )
    where = quote(machine.directory.path)
    if args.action == "clear":
        print(f"{machine.clear()} removed from {where}")
        return 0
    entries = machine.entries()
    print(f"{len(entries)} in {where}")
    for entry in entries:
        print("\n".join(_lines(entry, machine)))
    return 0


def _lines(entry: Entry, machine: MachineCache) -> list[str]:
    key, now = entry.key, machine.clock.now()
    # Whatever wrote the entry: nothing in it is to be a command to the terminal.
    lines = [
        quote(key.resource),
        f"  identity  {quote(str(Identity(key.selector, key.identity)))}",
        f"  source    {quote(key.source)} at {quote(key.endpoint)}",
    ]
    if entry.token is None:
        return [*lines, f"  no token  {quote(str(entry.failure))}"]
    token = entry.token
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
