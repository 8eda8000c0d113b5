"""Pure rules: how good a token still is, and when to ask for the next one."""

from __future__ import annotations

import enum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .token import Token

_LONG_LIFE = 2 * 3600.0
_LAST_MINUTES = 300.0
_SPREAD = 0.1
_FIRST_BACK_OFF = 30.0
_LONGEST_BACK_OFF = 300.0

FAILURE_SECONDS = 2.0
"""For how long a failure is remembered where there is no token to serve."""


class State(enum.Enum):
    """What to do with a token."""

    FRESH = "serve it"
    DUE = "serve it and refresh it in the background"
    EXPIRED = "wait for another"


def decide(token: Token | None, now: float) -> State:
    """The state of ``token`` at ``now`` (seconds, ``Clock.now``)."""
    if token is None or now >= token.expires_at:
        return State.EXPIRED
    return State.DUE if now >= token.refresh_at else State.FRESH


def refresh_delay(lifetime: float, refresh_in: float | None, random: float) -> float:
    """Seconds after which a token that lives ``lifetime`` seconds falls due.

    At ``refresh_in`` if the service says so, else at half of a life of two hours or more (the rule
    of every MSAL), else five minutes before the end, or half-way where there are no five minutes.
    Up to a tenth earlier by ``random`` (in [0, 1)), so that machines that started together do not
    refresh together.
    """
    if refresh_in is not None and 0 < refresh_in < lifetime:
        delay = refresh_in
    elif lifetime >= _LONG_LIFE or lifetime <= _LAST_MINUTES:
        delay = lifetime / 2
    else:
        delay = lifetime - _LAST_MINUTES
    return delay * (1 - _SPREAD * random)


def back_off(token: Token, now: float, random: float, retry_after: float | None) -> Token:
    """``token`` after a refresh has failed: due again once the back-off is over.

    Half-way to its end it is due again in any case, however long the service asked to be left
    alone: a service that is well again must not be found out about by an expired token.

    Args:
        token: the present one.
        now: when the refresh failed (``Clock.now``).
        random: spreads the back-off, in [0, 1).
        retry_after: seconds for which the service asked to be left alone.
    """
    failed_refreshes = token.failed_refreshes + 1
    token_request = max(back_off_delay(failed_refreshes, random), retry_after or 0.0)
    refresh_at = now + min(token_request, max((token.expires_at - now) / 2, 0.0))
    refresh_on = round(token.refresh_on + refresh_at - token.refresh_at)
    return token.replaced(
        refresh_at=refresh_at, refresh_on=refresh_on, failed_refreshes=failed_refreshes
    )


def back_off_delay(failed_refreshes: int, random: float) -> float:
    """Return the seconds to wait after consecutive failed refreshes, with jitter ``random``."""
    delay = min(_FIRST_BACK_OFF * 2.0 ** min(failed_refreshes - 1, 10), _LONGEST_BACK_OFF)
    return delay * (0.5 + random)
