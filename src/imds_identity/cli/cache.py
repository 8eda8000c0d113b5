"""``imds-identity cache``: show or clear the shared token cache."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from .._core.failure import sanitize
from .._core.identity import Identity
from .._platform.proxy_agent import is_enforcing
from .._shared_cache.location import shared_cache_for
from .._shared_cache.open_directory import NoUsableDirectory
from .arguments import add_cache, add_output, add_verbosity
from .output import print_error, to_json

if TYPE_CHECKING:
    import argparse

    from .._shared_cache.record import Record
    from .._shared_cache.store import SharedCache


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.description = "Shows or clears the cache in which this user's processes share tokens."
    parser.add_argument(
        "action", choices=("show", "clear"), help="list the entries, without tokens; or remove them"
    )
    add_cache(parser, "--directory")
    add_verbosity(parser)
    add_output(parser, ("text", "json"), "text")


def run(args: argparse.Namespace) -> int:
    """Show or clear the cache; return the exit status."""
    shared_cache = shared_cache_for() if args.cache is None else _shared_cache_at(args.cache)
    if shared_cache is None:
        return _print_off(args)
    if not shared_cache.usable():
        path = sanitize(shared_cache.directory.path) or "no private directory in memory"
        return print_error(
            f"the shared token cache cannot be used ({path}): set IMDS_IDENTITY_CACHE to a private "
            "directory"
        )
    path = sanitize(shared_cache.directory.path)
    is_json = args.output == "json"
    if args.action == "clear":
        removed = shared_cache.clear()
        print(
            to_json({"directory": path, "removed": removed})
            if is_json
            else f"{removed} removed from {path}"
        )
        return 0
    records = shared_cache.records()
    if is_json:
        print(to_json({"directory": path, "entries": [*map(_document, records)]}))
        return 0
    print(f"{len(records)} in {path}")
    for record in records:
        print("\n".join(_lines(record, shared_cache)))
    return 0


def _print_off(args: argparse.Namespace) -> int:
    if args.output == "json":
        print(to_json({"directory": None, "entries": []}))
    elif is_enforcing():
        print(
            "the shared token cache is off, because this VM enforces the Metadata Security "
            "Protocol: pass --directory, or set IMDS_IDENTITY_CACHE to a private directory"
        )
    else:
        print("the shared token cache is off: unset IMDS_IDENTITY_CACHE to enable it")
    return 0


def _document(record: Record) -> dict[str, object]:
    key, token = record.key, record.token
    return {
        "resource": sanitize(key.resource),
        "identity": sanitize(str(Identity(key.selector, key.identity))),
        "source": sanitize(key.source),
        "endpoint": sanitize(key.endpoint),
        "expires_on": token.expires_on if token else None,
        "failure": sanitize(str(record.failure)) if token is None else None,
    }


def _shared_cache_at(path: str) -> SharedCache | None:
    """Return the shared cache of an existing directory; raise ValueError if there is none."""
    shared_cache = shared_cache_for(os.path.abspath(path))
    with suppress(NoUsableDirectory):  # it hangs, which the caller reports
        if shared_cache is None or not shared_cache.directory.run(os.path.isdir, path):
            raise ValueError(f"{path!r} is not a directory")
    return shared_cache


def _lines(record: Record, shared_cache: SharedCache) -> list[str]:
    key, now = record.key, shared_cache.clock.now()
    # Another process wrote the entry, so it may contain escape sequences.
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
        f"  expires   {_until(token.expires_at - now, 'expired')}",
    ]


def _until(seconds: float, over: str) -> str:
    return f"in {_duration(seconds)}" if seconds > 0 else over


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
