"""The admin port: an API and a page that show and change the emulator while it runs.

It listens on the loopback interface only. What browsers of this machine are made to send by other
sites is refused: by the Host header (DNS rebinding), by Origin and by Sec-Fetch-Site (forged
posts).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .._messages import Response, json_response
from .._profiles.health import PATH as HEALTH_PATH
from .._profiles.health import health
from .._state.events import Announcement
from .._state.fault import Fault
from .forms import BadFormError, fields_of, made
from .page import Mistake, live, page, static

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._messages import Request
    from .._profiles.names import HostNames
    from .._state.state import World
    from .page import Place

_SAFE = {"GET", "HEAD"}


class _RefusedError(Exception):
    """A request that is answered with a status and a sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Admin:
    """Answers on the admin port.

    Args:
        world: what is shown and changed.
        place: where the emulator is.
        names: under which names it may be asked.
    """

    def __init__(self, world: World, place: Place, names: HostNames) -> None:
        self._world = world
        self._place = place
        self._names = names
        self._answers: dict[tuple[str, str], Callable[[Request], Response]] = {
            ("GET", "/"): lambda _: page(world, place),
            ("GET", "/live"): lambda _: live(world),
            ("GET", HEALTH_PATH): lambda _: health(world.profile),
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
        }
        self._forms: dict[str, Callable[[dict[str, str]], object]] = {
            "/do/fault": lambda form: world.set_fault(made(Fault, form)),
            "/do/clear-fault": lambda form: world.clear_faults(int(form["number"])),
            "/do/event": lambda form: world.schedule_event(made(Announcement, form)),
            "/do/approve-event": lambda form: world.approve_event(form["event_id"]),
            "/do/cancel-event": lambda form: world.cancel_event(form["event_id"]),
            "/do/revoke": lambda _: world.revoke_tokens(),
            "/do/reset": lambda _: world.reset(),
        }

    def handle(self, request: Request) -> Response:
        """Answer one request."""
        try:
            self._check_source(request)
            return self._secured(self._route(request))
        except _RefusedError as error:
            return self._secured(json_response(error.status, {"error": str(error)}))
        except (ValueError, TypeError, LookupError) as error:
            return self._secured(json_response(400, {"error": f"That makes no sense: {error}"}))

    def _check_source(self, request: Request) -> None:
        if not self._names.admit(request):
            raise _RefusedError(
                421, "Use an address, localhost or a name given with --allow-host for this page."
            )
        if request.method in _SAFE:
            return
        origin = request.header("origin")
        if origin is not None and origin != f"http://{request.header('host')}":
            raise _RefusedError(403, "Other sites may not change anything here.")
        if request.header("sec-fetch-site") not in (None, "same-origin", "none"):
            raise _RefusedError(403, "Other sites may not change anything here.")

    def _route(self, request: Request) -> Response:
        form = self._forms.get(request.path)
        if form is not None and request.method == "POST":
            return self._submit(request, form)
        if request.path.startswith("/static/") and request.method == "GET":
            return self._static(request)
        found = self._answers.get((request.method, request.path))
        if found is not None:
            return found(request)
        known = request.path in self._forms or any(
            path == request.path for _, path in self._answers
        )
        raise _RefusedError(405 if known else 404, "There is no such thing here.")

    def _secured(self, response: Response) -> Response:
        headers = {
            "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "same-origin",
            "Cache-Control": "no-store",
        }
        return Response(
            response.status,
            response.body,
            response.content_type,
            {**headers, **response.headers},
        )

    def _static(self, request: Request) -> Response:
        found = static(request.path.removeprefix("/static/"))
        if found is None:
            raise _RefusedError(404, "There is no such thing here.")
        return found

    def _submit(self, request: Request, act: Callable[[dict[str, str]], object]) -> Response:
        fields = fields_of(request.body)
        try:
            act(fields)
        except BadFormError as error:
            mistake = Mistake(request.path.rpartition("/")[2], fields, error.errors)
            return page(self._world, self._place, mistake)
        return Response(303, headers={"Location": "/"})

    # The API.

    def _list_requests(self, request: Request) -> Response:
        after = int(request.parameter("after") or 0)
        records = [
            asdict(record) for record in self._world.recorded_requests() if record.number > after
        ]
        return json_response(200, {"requests": records})

    def _list_tokens(self, request: Request) -> Response:
        del request
        shown = [
            {
                "resource": token.resource,
                "client_id": token.client_id,
                "issued": token.issued,
                "expires": token.expires,
            }
            for token in self._world.issued_tokens()
        ]
        return json_response(200, {"tokens": shown})

    def _list_faults(self, request: Request) -> Response:
        del request
        shown = [
            {"number": number, "category": fault.category, "does": fault.describe()}
            for number, fault in self._world.active_faults()
        ]
        return json_response(200, {"faults": shown})

    def _add_fault(self, request: Request) -> Response:
        return json_response(201, {"number": self._world.set_fault(Fault(**_json_of(request)))})

    def _clear_faults(self, request: Request) -> Response:
        number = request.parameter("number")
        self._world.clear_faults(int(number) if number is not None else None)
        return json_response(200, {})

    def _list_events(self, request: Request) -> Response:
        del request
        return json_response(
            200, {"events": [asdict(event) for event in self._world.current_events()]}
        )

    def _add_event(self, request: Request) -> Response:
        announcement = Announcement(**_json_of(request))
        return json_response(201, {"event_id": self._world.schedule_event(announcement)})

    def _cancel_event(self, request: Request) -> Response:
        event_id = request.parameter("event_id")
        if event_id is None:
            raise _RefusedError(400, "Say which event, as /api/events?event_id=…")
        self._world.cancel_event(event_id)
        return json_response(200, {})

    def _revoke(self, request: Request) -> Response:
        del request
        self._world.revoke_tokens()
        return json_response(200, {})

    def _reset(self, request: Request) -> Response:
        del request
        self._world.reset()
        return json_response(200, {})


def _json_of(request: Request) -> dict[str, Any]:
    # A form of another site cannot send this type, and a script needs a preflight that fails.
    if (request.header("content-type") or "").partition(";")[0].strip() != "application/json":
        raise _RefusedError(415, "The body must be application/json.")
    try:
        document = json.loads(request.body)
    except (ValueError, RecursionError):
        raise _RefusedError(400, "The body is not JSON.") from None
    if not isinstance(document, dict):
        raise _RefusedError(400, "The body must be a JSON object.")
    return document
