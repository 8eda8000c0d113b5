"""The path that every request takes: limits, then faults, then its endpoint, then the record."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .._messages import Response, json_response

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._messages import Request
    from .._world.fault import Fault
    from .._world.world import World

    Endpoint = Callable[[Request, Fault | None], Response]

_NOTHING = Response(0)
_UNKNOWN = "unknown"


class Routes:
    """Which path leads to which endpoint. Exact paths come first, then the longest prefix."""

    def __init__(self) -> None:
        self._exact: dict[str, tuple[str, Endpoint]] = {}
        self._below: dict[str, tuple[str, Endpoint]] = {}

    def add(self, path: str, category: str, endpoint: Endpoint, *, below: bool = False) -> None:
        """Add an endpoint.

        Args:
            path: its path, without a trailing slash.
            category: what requests to it are recorded, limited and spoiled as.
            endpoint: what answers.
            below: whether it also answers for every path below.
        """
        self._exact[path] = (category, endpoint)
        if below:
            self._below[path + "/"] = (category, endpoint)

    def find(self, path: str) -> tuple[str, Endpoint]:
        """A path's category and endpoint."""
        found = self._exact.get(path)
        if found is not None:
            return found
        for prefix in sorted(self._below, key=len, reverse=True):
            if path.startswith(prefix):
                return self._below[prefix]
        return _UNKNOWN, _not_found


def _not_found(request: Request, fault: Fault | None) -> Response:
    del request, fault
    return json_response(404, {"error": "Not found"})


class Service:
    """Answers the requests of one listening socket.

    Args:
        world: the shared state.
        routes: where each path leads.
    """

    def __init__(self, world: World, routes: Routes) -> None:
        self._world = world
        self._routes = routes

    def handle(self, request: Request) -> Response:
        """Answer one request."""
        with self._world.lock:
            category, endpoint = self._routes.find(request.path)
            if not self._world.limits.admit(category):
                response, note = _too_many(category), "limited"
            else:
                response, note = self._answer(request, category, endpoint)
            self._world.log.add(request, response, category, self._world.clock.time(), note)
            return response

    def _answer(self, request: Request, category: str, endpoint: Endpoint) -> tuple[Response, str]:
        world = self._world
        fault = world.faults.take(category, _leg(request))
        if fault is not None and fault.replaces_answer():
            response = _NOTHING
        else:
            response = endpoint(request, fault)
        if fault is not None:
            response = fault.applied_to(response)
        if category == "identity":
            response = self._timed(response)
            if world.limits.enabled:
                world.limits.begin(category)
                response = replace(response, finished=lambda: self._ended(category))
        return response, f"fault: {fault.describe()}" if fault is not None else ""

    def _timed(self, response: Response) -> Response:
        if not self._world.latency:
            return response
        delivery = response.delivery
        longer = replace(delivery, delay=delivery.delay + self._world.latency)
        return replace(response, delivery=longer)

    def _ended(self, category: str) -> None:
        with self._world.lock:
            self._world.limits.end(category)


def _leg(request: Request) -> str:
    return "challenge" if request.header("authorization") is None else "answer"


def _too_many(category: str) -> Response:
    message = "Too many requests"
    if category == "identity":
        document = {"error": "too_many_requests", "error_description": message}
    else:
        document = {"error": message}
    return json_response(429, document)
