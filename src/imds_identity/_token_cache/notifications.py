"""Log messages and hook calls about fetches, made when no caller waits for the fetch any more.

A log handler or a hook may be slow, or use the same credential.
"""

from __future__ import annotations

from .._core.event import FETCHED, SHARED, Event, outcome_of
from .._core.failure import Failure, Unavailable, sanitize
from .._platform.log import is_logged, log, log_in_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._core.identity import Identity
    from .._core.source import Source
    from .._core.token import Token
    from .._sources.host import TokenSource
    from .flight import FetchResult
    from .options import CallOptions, FetchTrace

_VERBS = {"fetch": "fetched", "refresh": "refreshed"}


_noted: dict[str, object] = {}
"""The notes about unused variables that this process has logged."""


def log_credential(class_name: str, source: TokenSource, identity: Identity) -> None:
    """Log which host and identity a new credential uses."""
    resolved = source.resolve(identity)
    name = sanitize(str(resolved)) if resolved.selector else f"the {resolved}"
    host = source.label if source.is_per_machine else source
    log_in_thread("INFO", "%s will use %s with %s", class_name, host, name)


def warn_of_unused_variable(class_name: str, source: TokenSource, identity: Identity) -> None:
    """Log once that AZURE_CLIENT_ID is set, but not used: DefaultAzureCredential uses it."""
    note, marker = source.unused_variable_note(identity), object()
    if not note or _noted.setdefault(note, marker) is not marker:
        return
    resolved = source.resolve(identity)
    log_in_thread(
        "WARNING",
        "%s requests tokens from %s as %s, which may differ from the identity of "
        "DefaultAzureCredential: %s",
        class_name,
        source.label,
        sanitize(str(resolved)),
        note,
    )


def forget_notes() -> None:
    """Log notes about unused variables again."""
    _noted.clear()


def log_shared_token(summary: str, token: Token, now: float) -> None:
    """Log that a token of another process is used."""
    minutes = (token.expires_at - now) / 60
    message = "using the token of another process for %s, valid for %.0f min"
    log_in_thread("DEBUG", message, summary, minutes)


def log_failed_refresh(token: Token, now: float, failure: Failure) -> None:
    """Log that a refresh failed while the current token is still valid."""
    log(
        "WARNING",
        "refreshing a token failed; the current one is valid for %.0f more minutes, and the next "
        "attempt is in %.0f s: %s",
        (token.expires_at - now) / 60,
        token.refresh_at - now,
        failure,
    )


def notify(
    source: Source, options: CallOptions | None, trace: FetchTrace, result: FetchResult
) -> None:
    """Log the result of a fetch, and call the caller's ``on_event`` hook, if there is one."""
    if not is_logged("INFO") and (options is None or options.on_event is None):
        return
    event = _event(source, trace, result)
    if is_logged("INFO"):
        _log_result(event, trace, result)
    if options is None or options.on_event is None:
        return
    try:
        options.on_event(event)
    except Exception:  # noqa: BLE001 - a hook must not harm its caller
        log("WARNING", "an on_event hook raised an exception", exc_info=True)


def _event(source: Source, trace: FetchTrace, result: FetchResult) -> Event:
    remaining = max(0.0, result.token.expires_at - result.now) if result.token else 0.0
    if isinstance(result.outcome, Failure):
        outcome = outcome_of(result.outcome)
        return Event("failure", source.name, outcome, result.seconds, remaining)
    outcome = FETCHED if trace.requested else SHARED
    name = "refresh" if result.refreshed else "fetch"
    return Event(name, source.name, outcome, result.seconds, remaining)  # type: ignore[arg-type]


def _log_result(event: Event, trace: FetchTrace, result: FetchResult) -> None:
    for request in trace.requests:
        log("DEBUG", "%s", request)
    if isinstance(result.outcome, Failure):
        unavailable = isinstance(result.outcome, Unavailable)
        what = "no managed identity is available" if unavailable else "fetching a token failed"
        log("DEBUG", "%s after %.3f s: %s", what, event.seconds, result.outcome)
        return
    minutes = round(event.remaining / 60)
    log(
        "INFO",
        "%s a token for %s in %.0f ms, expires in %s",
        "received from another process" if event.outcome == SHARED else _VERBS[event.name],
        trace.summary,
        event.seconds * 1000,
        f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min",
    )
