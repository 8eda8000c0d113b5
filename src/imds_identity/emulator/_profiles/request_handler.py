"""The handling of a request: limits, then faults, then the endpoint, then the log."""

from __future__ import annotations

import functools
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from .._messages import Response, json_response
from .._services.request_checks import ApiError, throttled
from .._state.fault import OTHER_SERVICES, Fault
from .._state.request_log import Outcome, leg_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .._messages import Request
    from .._state.request_log import RecordedRequest
    from .._state.state import EmulatorState
    from .allowed_hosts import AllowedHosts

    Endpoint = Callable[[Request, Fault | None], Response]

HEALTH_PATH = "/health"
_EMPTY = Response(0)
_AGENT_HEADER = {"x-ms-azure-host-authorization": "value"}
_UNKNOWN = "unknown"
_MAX_NAME_LENGTH = 256


class Routes:
    """The endpoints by path: an exact path takes precedence, then the longest prefix."""

    def __init__(self) -> None:
        self._exact: dict[str, tuple[str, Endpoint]] = {}
        self._prefixes: dict[str, tuple[str, Endpoint]] = {}
        self._suffixes: dict[str, tuple[str, Endpoint]] = {}

    def add(self, path: str, category: str, endpoint: Endpoint, *, prefix: bool = False) -> None:
        """Add an endpoint with the category of its requests; a prefix includes all paths below."""
        self._exact[path] = (category, endpoint)
        if prefix:
            self._prefixes[path + "/"] = (category, endpoint)

    def add_suffix(self, path: str, category: str, endpoint: Endpoint) -> None:
        """Add an endpoint for all paths with this end, such as one for any tenant."""
        self._suffixes[path] = (category, endpoint)

    def find(self, path: str) -> tuple[str, Endpoint]:
        """Return the category and endpoint of a path."""
        found = self._exact.get(path)
        if found is not None:
            return found
        for prefix in sorted(self._prefixes, key=len, reverse=True):
            if path.startswith(prefix):
                return self._prefixes[prefix]
        for suffix, found in self._suffixes.items():
            if path.endswith(suffix):
                return found
        return _UNKNOWN, _not_found


def _not_found(_request: Request, _fault: Fault | None) -> Response:
    return json_response(404, {"error": "Not found"})


def health(profile: str) -> Response:
    """Return the response to a health check of the emulator itself."""
    return json_response(200, {"profile": profile, "status": "ok"})


class RequestHandler:
    """Handles the requests of one listening socket."""

    def __init__(self, state: EmulatorState, routes: Routes, hosts: AllowedHosts) -> None:
        self._state = state
        self._routes = routes
        self._hosts = hosts

    def handle(self, request: Request) -> Response:
        """Return the response to a request, and log both."""
        if request.path == HEALTH_PATH:
            # A health check is not a client's request: it is not logged and faults do not apply.
            return health(self._state.profile)
        started = time.monotonic()
        with self._state.lock:
            response, outcome = self._relay(*self._process(request))
            return self._log(request, response, outcome, started)

    def log_rejected(self, request: Request, response: Response) -> Response:
        """Log a request that the server rejected, because it is not valid HTTP."""
        category, _ = self._routes.find(request.path)
        with self._state.lock:
            return self._log(request, response, Outcome(category, "malformed"), time.monotonic())

    def _log(
        self, request: Request, response: Response, outcome: Outcome, started: float
    ) -> Response:
        use = self._state.tokens.take_use()
        record = self._state.log.add(request, response, outcome, self._state.clock.time(), use)
        return response.finishing(functools.partial(self._finish, response, record, started))

    def _relay(self, response: Response, outcome: Outcome) -> tuple[Response, Outcome]:
        """Add the header of the Metadata Security Protocol's agent to a response it relays."""
        agent = self._state.metadata_security != "off" and outcome.category not in OTHER_SERVICES
        if not agent or "denied" in outcome.effects:
            return response, outcome
        return replace(response, headers={**response.headers, **_AGENT_HEADER}), outcome

    def _process(self, request: Request) -> tuple[Response, Outcome]:
        category, endpoint = self._routes.find(request.path)
        if not self._hosts.allows(request):
            return _misdirected(request), Outcome(category, "refused")
        if self._state.metadata_security == "deny" and category not in OTHER_SERVICES:
            denial = Fault(denied=True)
            return denial.applied_to(_EMPTY), Outcome(category, "denied", denial.effects())
        if not self._state.limits.admit(category):
            return throttled(category), Outcome(category, "limited", {"status": 429})
        return self._respond(request, category, endpoint)

    def _finish(
        self,
        response: Response,
        record: RecordedRequest,
        started: float,
        headers: Mapping[str, str],
    ) -> None:
        with self._state.lock:
            self._state.log.finish(record, time.monotonic() - started, headers)
            if response.finished is not None:
                response.finished(headers)

    def _respond(
        self, request: Request, category: str, endpoint: Endpoint
    ) -> tuple[Response, Outcome]:
        state = self._state
        fault = state.faults.match(category, leg_of(request))
        outcome = Outcome(category)
        if fault is None:
            response = _call(endpoint, request, category, None)
        else:
            original = _EMPTY
            if not fault.replaces_answer():
                original = _call(endpoint, request, category, fault)
            response = fault.applied_to(original, category)
            outcome = Outcome(category, f"fault: {fault.describe()}", fault.effects())
        if category == "identity":
            response = self._add_latency(response)
            if state.limits.enabled:
                state.limits.begin(category)
                response = response.finishing(lambda _: state.limits.end(category))
        return response, outcome

    def _add_latency(self, response: Response) -> Response:
        if not self._state.latency:
            return response
        delivery = response.delivery
        longer = replace(delivery, delay=delivery.delay + self._state.latency)
        return replace(response, delivery=longer)


def _call(endpoint: Endpoint, request: Request, category: str, fault: Fault | None) -> Response:
    try:
        return endpoint(request, fault)
    except ApiError as error:
        return error.response(category)


def _misdirected(request: Request) -> Response:
    name = (request.header("host") or "")[:_MAX_NAME_LENGTH]
    message = (
        f"The Host {name!r} is not a name of this machine; a web page may have sent the request. "
        "To accept this name, start the emulator with --allow-host."
    )
    return json_response(421, {"error": message})
