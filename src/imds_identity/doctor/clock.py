"""Checks of this machine's clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .finding import Verdict, failure, ok, skipped, unknown, warning

if TYPE_CHECKING:
    from ._facts.facts import Facts

_NOISE = 60.0
ALLOWANCE = 300.0
"""Seconds by which the clocks of a token's maker and taker may differ, at Azure's services."""
_REMEDY = "chronyc tracking; sudo chronyc makestep (Windows: w32tm /resync /force)"


def ahead(facts: Facts) -> float | None:
    """Seconds by which this machine's clock is ahead of the service's, None if unknown."""
    known = [r.ahead for r in facts.contact.requests if r.ahead is not None]
    return min(known, key=abs, default=None)


def clock_is_right(facts: Facts) -> Verdict:
    """Whether the clock agrees with the service's Date."""
    seconds = ahead(facts)
    if seconds is None:
        return unknown("no answer told the time")
    seen = f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} the service's Date"
    if abs(seconds) <= _NOISE:
        return ok(seen)
    meaning = (
        f"this machine's clock is {_minutes(seconds)} {'fast' if seconds > 0 else 'slow'}: other "
        "clients serve expired tokens or fetch anew each time, and signatures are refused"
    )
    return (failure if abs(seconds) >= ALLOWANCE else warning)(seen, meaning, _REMEDY)


def _minutes(seconds: float) -> str:
    return f"{abs(seconds) / 60:.0f} minutes" if abs(seconds) >= 120 else f"{abs(seconds):.0f} s"


def token_is_in_its_time(facts: Facts) -> Verdict:
    """Whether the token is good now by its own ``nbf`` and ``exp`` and the service's clock."""
    claims = facts.contact.claims
    if claims is None:
        return skipped("there is no token")
    begins, ends = claims.get("nbf"), claims.get("exp")
    if not isinstance(begins, int | float) or not isinstance(ends, int | float):
        return unknown("the token tells no nbf and exp")
    now = facts.system.wall - (ahead(facts) or 0.0)
    seen = f"it began {round(now - begins)} s ago and ends in {round(ends - now)} s"
    if ends <= now or begins > now + ALLOWANCE:
        return failure(
            seen,
            "the service gave a token that is not good now, by the token's own nbf and exp",
            "compare with another clock: date -u; then report it with this table",
        )
    return ok(seen)
