"""Checks of the shared token cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._core.failure import sanitize
from .finding import Verdict, ok, skipped, warning

if TYPE_CHECKING:
    from ._facts.facts import Facts

_MAX_SHOWN = 3


def check_cache_directory(facts: Facts) -> Verdict:
    """Check that the cache directory can be used."""
    cache = facts.cache
    if cache.is_off:
        return ok("off: each process fetches its own tokens")
    if not cache.problem:
        return ok(sanitize(cache.path))
    if not cache.path:
        return ok(cache.problem)
    path = sanitize(cache.path)
    return warning(
        f"{path}: {cache.problem}",
        f"the directory {path} cannot be used for the shared token cache: {cache.problem}; each "
        "process fetches its own tokens",
        "export IMDS_IDENTITY_CACHE=DIRECTORY (owned by this user, mode 700, on a memory-backed "
        "file system), or IMDS_IDENTITY_CACHE=off",
    )


def check_cache_contents(facts: Facts) -> Verdict:
    """Show the cached tokens and failures."""
    cache = facts.cache
    if cache.is_off or cache.problem or not cache.path:
        return skipped("there is no shared token cache")
    parts = [
        f"{token.resource} for {token.selector}, {token.seconds_left:.0f} s left"
        for token in cache.tokens[:_MAX_SHOWN]
    ]
    more = len(cache.tokens) - len(parts)
    parts += [f"{more} more"] if more > 0 else []
    parts += [f"{cache.failures} cached failures"] if cache.failures else []
    return ok("; ".join(parts) or "empty")
