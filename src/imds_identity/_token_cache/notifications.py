"""What is told of a fetch, in the log and to hooks, once nobody waits for it any more.

A handler may be slow, or use the very credential: it is never called by one whom others wait for.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .._core.event import FETCHED, SHARED, Event, outcome_of
from .._core.failure import Failure, Unavailable, sanitize
from .._platform.fork import fork_safe
from .options import is_logged

if TYPE_CHECKING:
    from .._core.identity import Identity
    from .._core.source import Source
    from .._core.token import Token
    from .flight import FetchResult
    from .options import CallOptions, FetchTrace

_LOGGER = logging.getLogger("imds_identity")
_HOSTS = {"imds": "Azure VM (IMDS)", "arc": "Azure Arc (HIMDS)"}


def log_credential(whose: str, source: Source, identity: Identity) -> None:
    """Log what a new credential will use.

    Args:
        whose: the class of the credential.
        source: where its tokens come from.
        identity: whose they are.
    """
    if not identity.selector and source.client_id:
        words = f"client_id {sanitize(source.client_id)!r}"
    else:
        words = str(identity) if identity.selector else f"the {identity}"
    with fork_safe():
        host = _HOSTS.get(source.name, str(source))
        _LOGGER.info("%s will use %s with %s", whose, host, words)


def log_shared_token(request_summary: str, token: Token, now: float) -> None:
    """Log that another process's token is taken over, without a fetch."""
    with fork_safe():
        minutes = (token.expires_at - now) / 60
        _LOGGER.debug(
            "took over the token of another process for %s, good for %.0f min",
            request_summary,
            minutes,
        )


def log_failed_refresh(token: Token, now: float, failure: Failure) -> None:
    """Log that a refresh has failed."""
    with fork_safe():
        _LOGGER.warning(
            "refreshing a token failed; the present one is good for %.0f more minutes, and the "
            "next attempt is in %.0f s: %s",
            (token.expires_at - now) / 60,
            token.refresh_at - now,
            failure,
        )


def notify(
    source: Source,
    request_summary: str,
    call_options: CallOptions | None,
    trace: FetchTrace,
    result: FetchResult,
) -> None:
    """Log what came of a fetch, and call the hook of whose it was.

    Args:
        source: what was asked.
        request_summary: source, resource and identity, in words.
        call_options: the caller's.
        trace: of the fetch.
        result: how it ended.
    """
    event = _event(source, trace, result)
    with fork_safe():
        _log(event, request_summary, trace, result)
    if call_options is None or call_options.on_event is None:
        return
    try:
        call_options.on_event(event)
    except Exception:
        with fork_safe():
            _LOGGER.warning("an on_event hook raised an exception", exc_info=True)


def _event(source: Source, trace: FetchTrace, result: FetchResult) -> Event:
    remaining = max(0.0, result.token.expires_at - result.now) if result.token else 0.0
    if isinstance(result.outcome, Failure):
        outcome = outcome_of(result.outcome)
        return Event("failure", source.name, outcome, result.seconds, remaining)
    name: str = "refresh" if result.refreshed else "fetch"
    outcome = FETCHED if trace.requested else SHARED
    return Event(name, source.name, outcome, result.seconds, remaining)  # type: ignore[arg-type]


def _log(event: Event, request_summary: str, trace: FetchTrace, result: FetchResult) -> None:
    if not is_logged():
        return
    for request in trace.requests:
        _LOGGER.debug("%s", request)
    if isinstance(result.outcome, Failure):
        what = "gave way" if isinstance(result.outcome, Unavailable) else "got no token"
        _LOGGER.debug("%s after %.3f s: %s", what, event.seconds, result.outcome)
        return
    verb = {"fetch": "fetched", "refresh": "refreshed"}[event.name]
    if event.outcome == SHARED:
        verb = "took over from another process"
    _LOGGER.debug(
        "%s a token for %s in %.3f s, good for %.0f min",
        verb,
        request_summary,
        event.seconds,
        event.remaining / 60,
    )
