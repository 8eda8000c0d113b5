"""The path that every request takes: limits, then faults, then its endpoint, then the record."""

from __future__ import annotations

import functools
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from .._messages import Response, json_response
from .._state.records import Judged, leg_of
from .health import PATH as HEALTH_PATH
from .health import health

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._messages import Request
    from .._state.fault import Fault
    from .._state.records import RecordedRequest
    from .._state.state import World
    from .names import HostNames

    Endpoint = Callable[[Request, Fault | None], Response]

_NOTHING = Response(0)
_UNKNOWN = "unknown"
_LONGEST_NAME = 256


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
        names: under which names it may be asked.
    """

    def __init__(self, world: World, routes: Routes, names: HostNames) -> None:
        self._world = world
        self._routes = routes
        self._names = names

    def handle(self, request: Request) -> Response:
        """Answer one request."""
        if request.path == HEALTH_PATH:
            # Whoever waits for the emulator is no client: neither recorded nor spoiled.
            return health(self._world.profile)
        began = time.monotonic()
        world = self._world
        with world.lock:
            response, judged = self._judge(request)
            record = world.log.add(request, response, judged, world.clock.time())
        return replace(
            response, finished=functools.partial(self._finished, response, record, began)
        )

    def _judge(self, request: Request) -> tuple[Response, Judged]:
        category, endpoint = self._routes.find(request.path)
        if not self._names.admit(request):
            return _misdirected(request), Judged(category, "refused")
        if not self._world.limits.admit(category):
            return _too_many(category), Judged(category, "limited", {"status": 429})
        return self._answer(request, category, endpoint)

    def _finished(self, response: Response, record: RecordedRequest, began: float) -> None:
        with self._world.lock:
            self._world.log.finish(record, time.monotonic() - began)
            if response.finished is not None:
                response.finished()

    def _answer(
        self, request: Request, category: str, endpoint: Endpoint
    ) -> tuple[Response, Judged]:
        world = self._world
        fault = world.faults.take(category, leg_of(request))
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
                response = replace(response, finished=lambda: world.limits.end(category))
        if fault is None:
            return response, Judged(category)
        return response, Judged(category, f"fault: {fault.describe()}", fault.effects())

    def _timed(self, response: Response) -> Response:
        if not self._world.latency:
            return response
        delivery = response.delivery
        longer = replace(delivery, delay=delivery.delay + self._world.latency)
        return replace(response, delivery=longer)


def _misdirected(request: Request) -> Response:
    name = (request.header("host") or "")[:_LONGEST_NAME]
    message = (
        f"The Host {name!r} is no name of this machine, and a web page may be behind it. If it is "
        "one, start the emulator with --allow-host and that name."
    )
    return json_response(421, {"error": message})


def _too_many(category: str) -> Response:
    message = "Too many requests"
    if category == "identity":
        document = {"error": "too_many_requests", "error_description": message}
    else:
        document = {"error": message}
    return json_response(429, document)
