"""Pure functions: whether a token is fresh, due or expired, and when to refresh it."""

from __future__ import annotations

import enum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .token import Token

_HOUR = 3600.0
_LAST_MINUTES = 300.0
_SPREAD = 0.1
_FIRST_BACK_OFF = 30.0
_LONGEST_BACK_OFF = 300.0

FAILURE_SECONDS = 2.0
"""Seconds for which a failure is remembered if there is no valid token."""


class State(enum.Enum):
    """What to do with a token."""

    FRESH = "serve it"
    DUE = "serve it and refresh it in the background"
    EXPIRED = "wait for another"


def decide(token: Token | None, now: float) -> State:
    """Return the state of ``token`` at ``now`` (seconds, ``Clock.now``)."""
    if token is None or now >= token.expires_at:
        return State.EXPIRED
    return State.DUE if now >= token.refresh_at else State.FRESH


def refresh_delay(lifetime: float, refresh_in: float | None, random: float) -> float:
    """Return the seconds after which a token with this ``lifetime`` is due.

    That is ``refresh_in`` (seconds) if the service returned it, else an hour, or half of a lifetime
    of two hours or more, as in MSAL. In any case it is five minutes before the expiry at the
    latest, or half of a lifetime shorter than ten minutes. The delay grows with the lifetime and
    has no jumps.

    ``random`` (in [0, 1)) makes it up to a tenth earlier, so that machines that started together do
    not refresh together.
    """
    half, latest = lifetime / 2, lifetime - _LAST_MINUTES
    if refresh_in is not None and refresh_in > 0:
        delay = min(refresh_in, max(half, latest))
    else:
        delay = max(half, min(latest, _HOUR))
    return delay * (1 - _SPREAD * random)


def back_off(token: Token, now: float, random: float, retry_after: float | None) -> Token:
    """Return ``token`` with a later refresh time, after a refresh has failed.

    It is due after half of its remaining lifetime at the latest, even if Retry-After is longer, so
    that the cache notices a recovered service before the token expires.
    """
    failed_refreshes = token.failed_refreshes + 1
    delay = max(back_off_delay(failed_refreshes, random), retry_after or 0.0)
    refresh_at = now + min(delay, max((token.expires_at - now) / 2, 0.0))
    refresh_on = round(token.refresh_on + refresh_at - token.refresh_at)
    return token.replace(
        refresh_at=refresh_at, refresh_on=refresh_on, failed_refreshes=failed_refreshes
    )


def back_off_delay(failed_refreshes: int, random: float) -> float:
    """Return the seconds to wait after consecutive failed refreshes, with jitter ``random``."""
    delay = min(_FIRST_BACK_OFF * 2.0 ** min(failed_refreshes - 1, 10), _LONGEST_BACK_OFF)
    return delay * (0.5 + random)
