"""Checks of what this user's processes share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._core.failure import sanitize
from .finding import Verdict, ok, skipped, warning

if TYPE_CHECKING:
    from ._facts.facts import Facts

_MOST_SHOWN = 3


def cache_is_this_users(facts: Facts) -> Verdict:
    """Whether there is a directory to share tokens in."""
    shared = facts.shared
    if shared.is_off:
        return ok("off: each process fetches its own tokens")
    if not shared.problem:
        return ok(sanitize(shared.path))
    if not shared.path:
        return ok(shared.problem)
    return warning(
        f"{sanitize(shared.path)}: {shared.problem}",
        f"the directory {sanitize(shared.path)} cannot be used to share tokens: {shared.problem}; "
        "each process asks the service by itself",
        "export IMDS_IDENTITY_CACHE=A_DIRECTORY_OF_THIS_USER, mode 700, in memory; or off",
    )


def cache_is_shown(facts: Facts) -> Verdict:
    """What is in it."""
    shared = facts.shared
    if shared.is_off or shared.problem or not shared.path:
        return skipped("nothing is shared")
    said = [
        f"{token.resource} for {token.selector}, {token.seconds_left:.0f} s left"
        for token in shared.tokens[:_MOST_SHOWN]
    ]
    more = len(shared.tokens) - len(said)
    said += [f"{more} more"] if more > 0 else []
    said += [f"{shared.failures} failures that spare requests"] if shared.failures else []
    return ok("; ".join(said) or "empty")
