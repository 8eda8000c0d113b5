"""What is told of a fetch, in the log and to hooks, once nobody waits for it any more.

A handler may be slow, or use the very credential: it is never called by one whom others wait for.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .._core.event import FETCHED, SHARED, Event, outcome_of
from .._core.failure import Failure, Unavailable, quote
from .._runtime.fork import whole
from .manner import listens

if TYPE_CHECKING:
    from .._core.identity import Identity
    from .._core.source import Source
    from .._core.token import Token
    from .flight import Landing
    from .manner import Manner, Notes

_LOGGER = logging.getLogger("imds_identity")
_HOSTS = {"imds": "Azure VM (IMDS)", "arc": "Azure Arc (HIMDS)"}


def tell_use(whose: str, source: Source, identity: Identity) -> None:
    """Log what a new credential will use.

    Args:
        whose: the class of the credential.
        source: where its tokens come from.
        identity: whose they are.
    """
    if not identity.selector and source.client_id:
        words = f"client_id {quote(source.client_id)!r}"
    else:
        words = str(identity) if identity.selector else f"the {identity}"
    with whole():
        host = _HOSTS.get(source.name, str(source))
        _LOGGER.info("%s will use %s with %s", whose, host, words)


def tell_sharing(asked: str, token: Token, now: float) -> None:
    """Log that another process's token is taken over, without a fetch."""
    with whole():
        minutes = (token.expires_at - now) / 60
        _LOGGER.debug(
            "took over the token of another process for %s, good for %.0f min", asked, minutes
        )


def tell_setback(token: Token, now: float, failure: Failure) -> None:
    """Log that a refresh has failed."""
    with whole():
        _LOGGER.warning(
            "refreshing a token failed; the present one is good for %.0f more minutes, and the "
            "next attempt is in %.0f s: %s",
            (token.expires_at - now) / 60,
            token.refresh_at - now,
            failure,
        )


def tell_landing(
    source: Source, asked: str, manner: Manner | None, notes: Notes, landing: Landing
) -> None:
    """Log what came of a fetch, and call the hook of whose it was.

    Args:
        source: what was asked.
        asked: source, resource and identity, in words.
        manner: the caller's.
        notes: of the fetch.
        landing: how it ended.
    """
    event = _event(source, notes, landing)
    with whole():
        _log(event, asked, notes, landing)
    if manner is None or manner.on_event is None:
        return
    try:
        manner.on_event(event)
    except Exception:
        with whole():
            _LOGGER.warning("an on_event hook raised an exception", exc_info=True)


def _event(source: Source, notes: Notes, landing: Landing) -> Event:
    remaining = max(0.0, landing.token.expires_at - landing.now) if landing.token else 0.0
    if isinstance(landing.outcome, Failure):
        outcome = outcome_of(landing.outcome)
        return Event("failure", source.name, outcome, landing.seconds, remaining)
    name: str = "refresh" if landing.refreshed else "fetch"
    outcome = FETCHED if notes.asked else SHARED
    return Event(name, source.name, outcome, landing.seconds, remaining)  # type: ignore[arg-type]


def _log(event: Event, asked: str, notes: Notes, landing: Landing) -> None:
    if not listens():
        return
    for request in notes.requests:
        _LOGGER.debug("%s", request)
    if isinstance(landing.outcome, Failure):
        what = "gave way" if isinstance(landing.outcome, Unavailable) else "got no token"
        _LOGGER.debug("%s after %.3f s: %s", what, event.seconds, landing.outcome)
        return
    verb = {"fetch": "fetched", "refresh": "refreshed"}[event.name]
    if event.outcome == SHARED:
        verb = "took over from another process"
    _LOGGER.debug(
        "%s a token for %s in %.3f s, good for %.0f min",
        verb,
        asked,
        event.seconds,
        event.remaining / 60,
    )
