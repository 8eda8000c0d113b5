"""The handler of the admin port: a page and an API that show and change the emulator.

By default it listens on the loopback interface only. Requests that other web sites make a browser
send are rejected by the Host header (DNS rebinding), Origin and Sec-Fetch-Site (forged posts).
"""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING

from .._field_types import did_you_mean
from .._machine.identities import IdentitySpec
from .._messages import Response, json_response
from .._profiles.request_handler import HEALTH_PATH, health
from .._state.events import EventSpec
from .._state.fault import Fault
from .._state.recording import effects_to_json
from .api_request import ApiError, build_from_json, number
from .changes import Changes, ChangesApi, ClockChange, SecretSpec, SettingsChange, remove
from .forms import FormError, build_from_form, parse_form
from .page import RejectedForm, View, render_page, static_file
from .search import RequestFilter, names_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._messages import Request
    from .._profiles.allowed_hosts import AllowedHosts
    from .._state.request_log import RecordedRequest
    from .._state.state import EmulatorState
    from .page import PageContext

_MAX_PATH = 100  # characters of a path in a message
_SAFE = {"GET", "HEAD"}
_SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class AdminHandler:
    """Handles the requests of the admin port."""

    def __init__(self, state: EmulatorState, context: PageContext, hosts: AllowedHosts) -> None:
        self._state = state
        self._context = context
        self._hosts = hosts
        changes = Changes(state)
        self._handlers: dict[tuple[str, str], Callable[[Request], Response]] = {
            ("GET", "/"): lambda request: render_page(state, context, View.of(request)),
            ("GET", HEALTH_PATH): lambda _: health(state.profile),
            ("GET", "/api/requests"): self._list_requests,
            ("GET", "/api/tokens"): self._list_tokens,
            ("GET", "/api/faults"): self._list_faults,
            ("POST", "/api/faults"): self._add_fault,
            ("DELETE", "/api/faults"): self._clear_faults,
            ("GET", "/api/events"): self._list_events,
            ("POST", "/api/events"): self._add_event,
            ("DELETE", "/api/events"): self._cancel_event,
            ("POST", "/api/revoke"): self._revoke,
            ("POST", "/api/reset"): self._reset,
            **ChangesApi(state).handlers(),
        }
        self._forms: dict[str, Callable[[dict[str, str]], object]] = {
            "/do/fault": lambda form: state.set_fault(build_from_form(Fault, form)),
            "/do/clear-fault": lambda form: state.clear_faults(int(form["number"])),
            "/do/event": lambda form: state.schedule_event(build_from_form(EventSpec, form)),
            "/do/approve-event": lambda form: state.approve_event(form["event_id"]),
            "/do/cancel-event": lambda form: state.cancel_event(form["event_id"]),
            "/do/revoke": lambda _: state.revoke_tokens(),
            "/do/reset": lambda _: state.reset(),
            "/do/clock": lambda form: changes.change_clock(build_from_form(ClockChange, form)),
            "/do/settings": lambda form: changes.change_settings(
                build_from_form(SettingsChange, form)
            ),
            "/do/identity": lambda form: changes.add_identity(build_from_form(IdentitySpec, form)),
            "/do/remove-identity": lambda form: changes.remove_identity(form["client_id"]),
            "/do/secret": lambda form: changes.set_secret(build_from_form(SecretSpec, form)),
            "/do/delete-secret": lambda form: changes.delete_secret(form["name"]),
        }

    def handle(self, request: Request) -> Response:
        """Return the response to a request."""
        try:
            self._check_origin(request)
            response = self._route(request)
        except ApiError as error:
            response = error.response()
        except (ValueError, TypeError, LookupError) as error:
            response = ApiError(400, f"Invalid request: {error}").response()
        return replace(response, headers={**_SECURITY_HEADERS, **response.headers})

    def _check_origin(self, request: Request) -> None:
        if not self._hosts.allows(request):
            raise ApiError(
                421, "Open this page by an IP address, localhost or a name set with --allow-host."
            )
        if request.method in _SAFE:
            return
        same_origin = request.header("origin") in (None, f"http://{request.header('host')}")
        same_site = request.header("sec-fetch-site") in (None, "same-origin", "none")
        if not (same_origin and same_site):
            raise ApiError(403, "Requests from other web sites are not allowed.")

    def _route(self, request: Request) -> Response:
        form = self._forms.get(request.path)
        if form is not None and request.method == "POST":
            return self._submit(request, form)
        if request.path.startswith("/static/") and request.method == "GET":
            return self._static(request)
        found = self._handlers.get((request.method, request.path))
        if found is not None:
            return found(request)
        raise self._unknown(request)

    def _unknown(self, request: Request) -> ApiError:
        known = {*self._handlers, *(("POST", path) for path in self._forms)}
        methods = sorted(method for method, path in known if path == request.path)
        if methods:
            message = f"{request.path} does not support {request.method}, but {', '.join(methods)}."
            return ApiError(405, message)
        near = did_you_mean(request.path, sorted({path for _, path in known}))
        return ApiError(404, f"There is nothing at {request.path[:_MAX_PATH]}.{near}")

    def _static(self, request: Request) -> Response:
        found = static_file(request.path.removeprefix("/static/"))
        if found is None:
            raise ApiError(404, "Not found.")
        return found

    def _submit(self, request: Request, action: Callable[[dict[str, str]], object]) -> Response:
        form = parse_form(request.body)
        try:
            action(form)
        except KeyError as error:
            raise ApiError(400, f"The field {error} is missing.") from None
        except LookupError:
            pass  # it does not exist any more, which is what the form wanted
        except ValueError as error:
            errors = error.errors if isinstance(error, FormError) else {"": str(error)}
            rejected = RejectedForm(request.path.rpartition("/")[2], form, errors)
            return render_page(self._state, self._context, View.of(request), rejected)
        query = request.target.partition("?")[2]
        return Response(303, headers={"Location": f"/?{query}" if query else "/"})

    def _list_requests(self, request: Request) -> Response:
        after, limit = number(request, "after") or 0, number(request, "limit")
        search, status, category = (
            request.parameter(name) or "" for name in ("search", "status", "category")
        )
        try:
            wanted = RequestFilter(search, status, category)
        except ValueError as error:
            raise ApiError(400, str(error), "invalid", "status") from None
        newer = (each for each in self._state.recorded_requests() if each.number > after)
        found = wanted.matching(newer, names_of(self._state.identities))
        latest = found if limit is None else found[len(found) - min(limit, len(found)) :]
        return json_response(200, {"requests": [_record_to_json(record) for record in latest]})

    def _list_tokens(self, _: Request) -> Response:
        names = ("resource", "client_id", "issued", "expires")
        listed = [
            {name: getattr(token, name) for name in names} for token in self._state.issued_tokens()
        ]
        return json_response(200, {"tokens": listed})

    def _list_faults(self, _: Request) -> Response:
        listed = [
            {"number": number, "category": fault.category, "does": fault.describe()}
            for number, fault in self._state.active_faults()
        ]
        return json_response(200, {"faults": listed})

    def _add_fault(self, request: Request) -> Response:
        return json_response(
            201, {"number": self._state.set_fault(build_from_json(Fault, request))}
        )

    def _clear_faults(self, request: Request) -> Response:
        self._state.clear_faults(number(request, "number"))
        return json_response(200, {})

    def _list_events(self, _: Request) -> Response:
        return json_response(
            200, {"events": [asdict(event) for event in self._state.current_events()]}
        )

    def _add_event(self, request: Request) -> Response:
        event_id = self._state.schedule_event(build_from_json(EventSpec, request))
        return json_response(201, {"event_id": event_id})

    def _cancel_event(self, request: Request) -> Response:
        return remove(request, "event_id", self._state.cancel_event)

    def _revoke(self, _: Request) -> Response:
        self._state.revoke_tokens()
        return json_response(200, {})

    def _reset(self, _: Request) -> Response:
        self._state.reset()
        return json_response(200, {})


def _record_to_json(record: RecordedRequest) -> dict[str, object]:
    # asdict() would copy each header, which takes most of the time of a long list.
    values = {each.name: getattr(record, each.name) for each in fields(record)}
    return {**values, "effects": effects_to_json(record.effects)}
