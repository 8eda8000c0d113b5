"""The admin page: requests first, and next to them a request, faults, events and so on."""

from __future__ import annotations

import functools
from dataclasses import asdict
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from .._machine.identities import SystemAssigned
from .._messages import Response
from .._state.events import NOTICE, SOURCES
from .._state.fault import CATEGORIES, DOCUMENTS
from . import request_details, text
from .search import STATUSES, RequestFilter, names_of
from .snippets import snippets

if TYPE_CHECKING:
    from collections.abc import Mapping

    import jinja2

    from .._machine.identities import Identity
    from .._messages import Request
    from .._state.state import EmulatorState

_MAX_ROWS = 100
_PANES = {name: f"{name}.html" for name in ("faults", "events", "identities", "tokens", "settings")}
_PANES_OF_FORMS = {
    "clock": "settings",
    "event": "events",
    "fault": "faults",
    "identity": "identities",
    "secret": "settings",
    "settings": "settings",
}
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


class View(NamedTuple):
    """The part of the page that its URL selects: requests, and a pane or the number of one."""

    filter: RequestFilter
    pane: str = ""

    @classmethod
    def of(cls, request: Request) -> View:
        """Return the view of a URL; values that are not valid have no effect."""
        search, status, category, before, pane = (
            request.parameter(name) or ""
            for name in ("search", "status", "category", "before", "view")
        )
        number = int(before) if before.isdecimal() and len(before) < 20 else 0
        known = status if status in STATUSES else ""
        return cls(RequestFilter(search, known, category, number), pane)

    def link(self, path: str = "/", **changes: str | int) -> str:
        """Return the URL of this view with changes."""
        values = {**asdict(self.filter), "view": self.pane, **changes}
        query = urlencode({name: value for name, value in values.items() if value})
        return f"{path}?{query}" if query else path


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
        clock=text.format_clock,
        count=text.format_count,
        duration=text.format_duration,
        indented=request_details.indent_json,
        pretty=request_details.pretty_json,
        rfc3339=text.rfc3339_time,
        time=text.format_time,
    )
    return environment


def render_page(
    state: EmulatorState,
    context: PageContext,
    view: View,
    rejected: RejectedForm | None = None,
) -> Response:
    """Return the page, perhaps with a form that has errors."""
    if rejected is not None:
        view = view._replace(pane=_PANES_OF_FORMS.get(rejected.form, view.pane))
    names = names_of(state.identities)
    values: dict[str, object] = {
        "fault_categories": (*CATEGORIES, "*"),
        "context": context,
        "link": view.link,
        "names": names,
        "rejected": rejected or RejectedForm(),
        "state": state,
        "statuses": STATUSES,
        "view": view,
    }
    with state.lock:
        values["now"] = state.clock.time()
        values["records"] = records = state.recorded_requests()
        values["categories"] = (*CATEGORIES, *({"unknown"} & {each.category for each in records}))
        values["faults"] = state.faults.active()
        values["events"] = sorted(state.current_events(), key=lambda event: event.not_before)
        values["tokens"] = state.issued_tokens()
    values["selection"] = view.filter.select(records, names, _MAX_ROWS)
    values.update(_pane_values(state, context, view, values))
    content = _templates().get_template("page.html").render(values)
    return _html(content, 200 if rejected is None else 400)


def _pane_values(
    state: EmulatorState, context: PageContext, view: View, values: Mapping[str, Any]
) -> dict[str, object]:
    shows_identities = view.pane == "identities" or not values["records"]
    identities = state.identities if shows_identities else ()
    found = [each for each in values["records"] if str(each.number) == view.pane]
    return {
        "template": "request.html" if view.pane.isdecimal() else _PANES.get(view.pane, ""),
        "active": [_active_fault(active, values["now"]) for active in values["faults"]],
        "documents": DOCUMENTS,
        "event_types": tuple(NOTICE),
        "identities": [_identity(state, context, identity) for identity in identities],
        "max_rows": _MAX_ROWS,
        "presets": _PRESETS,
        "sources": SOURCES,
        **(_details(found[0], context) if found else {"record": None}),
    }


def _details(record: Any, context: PageContext) -> dict[str, object]:
    return {
        "record": record,
        "curl": request_details.curl(record, context.endpoint, context.vault),
        "token": request_details.decode_token(record.token) if record.token else None,
    }


def _active_fault(active: Any, now: float) -> dict[str, object]:
    return {
        "number": active.number,
        "effects": text.describe_effects(active.fault),
        "scope": text.describe_scope(active),
        "applied": active.applied,
        "left": None if active.ends is None else max(0.0, active.ends - now),
    }


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


def _identity(state: EmulatorState, context: PageContext, identity: Identity) -> dict[str, object]:
    system = isinstance(identity, SystemAssigned)
    principal = state.principal(identity)
    return {
        "name": "System-assigned" if system else principal.resource_id.rpartition("/")[2],
        "ids": (
            ("Client ID", identity.client_id),
            ("Object ID", identity.object_id),
            ("Resource ID", principal.resource_id),
        ),
        "snippets": snippets(state, context.endpoint, identity),
    }
