"""Checks of this machine's clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .finding import Verdict, failure, ok, skipped, unknown, warning

if TYPE_CHECKING:
    from ._facts.facts import Facts

_TOLERANCE = 60.0
ALLOWED_SKEW = 300.0
"""The clock difference, in seconds, that Azure's services accept when they validate a token."""
_REMEDY = "chronyc tracking; sudo chronyc makestep (Windows: w32tm /resync /force)"


def clock_offset(facts: Facts) -> float | None:
    """Return by how many seconds this machine's clock is ahead; None if unknown."""
    offsets = [r.clock_offset for r in facts.probe.requests if r.clock_offset is not None]
    return min(offsets, key=abs, default=None)


def check_clock(facts: Facts) -> Verdict:
    """Check this machine's clock against the Date header of the service's responses."""
    offset = clock_offset(facts)
    if offset is None:
        return unknown("no response has a Date header")
    direction = "ahead of" if offset > 0 else "behind"
    seen = f"{abs(offset):.0f} s {direction} the service's Date header"
    if abs(offset) <= _TOLERANCE:
        return ok(seen)
    meaning = (
        f"this machine's clock is {_duration(offset)} {'fast' if offset > 0 else 'slow'}: other "
        "clients may use expired tokens or skip their token caches, and services reject signatures"
    )
    return (failure if abs(offset) >= ALLOWED_SKEW else warning)(seen, meaning, _REMEDY)


def _duration(seconds: float) -> str:
    return f"{abs(seconds) / 60:.0f} minutes" if abs(seconds) >= 120 else f"{abs(seconds):.0f} s"


def check_token_validity(facts: Facts) -> Verdict:
    """Check the token's ``nbf`` and ``exp`` against the service's clock."""
    claims = facts.probe.claims
    if claims is None:
        return skipped("there is no token")
    not_before, expiry = claims.get("nbf"), claims.get("exp")
    if not isinstance(not_before, int | float) or not isinstance(expiry, int | float):
        return unknown("the token has no nbf or no exp claim")
    now = facts.system.wall_time - (clock_offset(facts) or 0.0)
    seen = f"nbf was {round(now - not_before)} s ago, exp is in {round(expiry - now)} s"
    if expiry <= now or not_before > now + ALLOWED_SKEW:
        return failure(
            seen,
            "the service issued a token that is not valid now, according to its nbf and exp claims",
            "compare the clock with another machine: date -u; then report it with this output",
        )
    return ok(seen)
