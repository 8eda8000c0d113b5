"""The admin page: requests, faults, events, tokens and identities, with controls."""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

from .._machine.identities import SystemAssigned
from .._messages import Response
from .._state.events import NOTICE, SOURCES
from .._state.fault import CATEGORIES, DOCUMENTS
from . import text
from .snippets import snippets

if TYPE_CHECKING:
    from collections.abc import Mapping

    import jinja2

    from .._machine.identities import Identity
    from .._state.state import EmulatorState

_MAX_ROWS = 100
_MEDIA_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# The most common faults, as the fields of the form.
_PRESETS: tuple[tuple[str, Mapping[str, str]], ...] = (
    ("429, three times", {"status": "429", "retry_after": "2", "times": "3"}),
    ("500, once", {"status": "500", "times": "1"}),
    ("410 for 70 s", {"status": "410", "seconds": "70"}),
    ("Connection reset, once", {"reset": "on", "times": "1"}),
    ("Denied by access rules, once", {"denied": "on", "category": "*", "times": "1"}),
    ("5 s delay, once", {"delay": "5", "times": "1"}),
    ("Expired token, once", {"token_lifetime": "-60", "times": "1"}),
)


class PageContext(NamedTuple):
    """The URLs that the page shows, and the shell lines for clients; ``vault`` may be empty."""

    endpoint: str
    exports: str
    vault: str


class RejectedForm(NamedTuple):
    """A form to show again; an error of the whole form has an empty name."""

    form: str = ""
    values: Mapping[str, str] = {}
    errors: Mapping[str, str] = {}


@functools.cache
def _templates() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__ or "", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        time=text.format_time, rfc3339=text.rfc3339_time, duration=text.format_duration
    )
    return environment


def render_page(
    state: EmulatorState, context: PageContext, rejected: RejectedForm | None = None
) -> Response:
    """Return the whole page, perhaps with a form that has errors."""
    page = _templates().get_template("page.html")
    content = page.render(
        context=context,
        identities=[_identity(state, context, identity) for identity in state.identities],
        presets=_PRESETS,
        categories=(*CATEGORIES, "*"),
        documents=DOCUMENTS,
        event_types=tuple(NOTICE),
        sources=SOURCES,
        rejected=rejected or RejectedForm(),
        **_live_values(state),
    )
    return _html(content, 200 if rejected is None else 400)


def render_live(state: EmulatorState) -> Response:
    """Return the part of the page that is refreshed."""
    return _html(_templates().get_template("live.html").render(**_live_values(state)), 200)


def static_file(name: str) -> Response | None:
    """Return a style sheet or script, or None if there is none with this name."""
    media_type = _MEDIA_TYPES.get(name[name.rfind(".") :])
    file = files(__package__ or "").joinpath("static").joinpath(name)
    if media_type is None or "/" in name or not file.is_file():
        return None
    return Response(200, file.read_bytes(), media_type)


def _html(content: str, status: int) -> Response:
    body = content.encode("utf-8", "replace")
    headers = {"Content-Security-Policy": _POLICY}
    return Response(status, body, "text/html; charset=utf-8", headers)


def _live_values(state: EmulatorState) -> dict[str, object]:
    now = state.clock.time()
    with state.lock:
        return {
            "state": state,
            "now": now,
            "faults": [
                {
                    "number": active.number,
                    "effects": text.describe_effects(active.fault),
                    "scope": text.describe_scope(active),
                    "applied": active.applied,
                    "left": None if active.ends is None else max(0.0, active.ends - now),
                }
                for active in state.faults.active()
            ],
            "events": sorted(state.current_events(), key=lambda event: event.not_before),
            "tokens": list(reversed(state.issued_tokens()))[:_MAX_ROWS],
            "revoked_up_to": state.tokens.revoked_up_to,
            "requests": list(reversed(state.recorded_requests()[-_MAX_ROWS:])),
        }


def _identity(state: EmulatorState, context: PageContext, identity: Identity) -> dict[str, object]:
    system = isinstance(identity, SystemAssigned)
    principal = state.principal(identity)
    return {
        "name": "System-assigned" if system else principal.resource_id.rpartition("/")[2],
        "ids": (
            ("client_id", identity.client_id),
            ("object_id", identity.object_id),
            ("resource id", principal.resource_id),
        ),
        "snippets": snippets(state, context.endpoint, identity),
    }
