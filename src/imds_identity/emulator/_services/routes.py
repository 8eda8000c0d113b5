"""Which path leads to which endpoint, for each kind of host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._messages import json_response

if TYPE_CHECKING:
    from .._messages import Request, Response
    from .._world.faults import Fault
    from .service import Endpoint

UNKNOWN = "unknown"


class Routes:
    """A table of paths. Exact ones come first, then the longest prefix."""

    def __init__(self) -> None:
        self._exact: dict[str, tuple[str, Endpoint]] = {}
        self._below: dict[str, tuple[str, Endpoint]] = {}

    def add(self, path: str, category: str, endpoint: Endpoint, *, below: bool = False) -> None:
        """Adds an endpoint.

        Args:
            path: Its path, without a trailing slash.
            category: What requests to it are recorded, limited and spoiled as.
            endpoint: Answers.
            below: Whether it also answers for every path below.
        """
        self._exact[path] = (category, endpoint)
        if below:
            self._below[path + "/"] = (category, endpoint)

    def __call__(self, path: str) -> tuple[str, Endpoint]:
        """Returns a path's category and endpoint."""
        found = self._exact.get(path)
        if found is not None:
            return found
        for prefix in sorted(self._below, key=len, reverse=True):
            if path.startswith(prefix):
                return self._below[prefix]
        return UNKNOWN, _not_found


def _not_found(request: Request, fault: Fault | None) -> Response:
    del request, fault
    return json_response(404, {"error": "Not found"})
