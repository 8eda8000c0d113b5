"""The checks that metadata requests must pass, and the error responses to those that fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._machine.versions import newest_versions, version_error
from .._messages import json_response

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .._messages import Request, Response
    from .._state.state import EmulatorState

_READ_ON = "For more information refer to aka.ms/azureimds"
_IDENTITY_CODES = {401: "unauthorized_client", 404: "not_found", 405: "method_not_allowed"}


class ApiError(Exception):
    """An error response; ``code`` is for the identity category, ``extra`` adds to the body."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str = "",
        extra: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.extra = extra or {}
        self.headers = headers or {}

    def response(self, category: str) -> Response:
        """Return the response in the format of a category."""
        if category == "identity":
            document: dict[str, object] = {
                "error": self.code or _IDENTITY_CODES.get(self.status, "invalid_request"),
                "error_description": self.message.removeprefix("Bad request. "),
            }
        else:
            document = {"error": self.message}
        return json_response(self.status, {**document, **self.extra}, self.headers)


def throttled(category: str) -> Response:
    """Return the response to a request that exceeds the limits."""
    identity = category == "identity"
    text = "Temporarily throttled, too many requests" if identity else "Too many requests"
    return ApiError(429, text).response(category)


class StateEndpoint:
    """An endpoint that needs only the emulator's state."""

    def __init__(self, state: EmulatorState) -> None:
        self._state = state


def check_request(
    request: Request,
    *,
    methods: Sequence[str] = ("GET",),
    introduced: str | None,
    supported: list[str],
    json_only: bool = True,
) -> None:
    """Raise ApiError if a request fails a check that all categories share."""
    check_method(request, methods)
    _check_headers(request)
    repeated = request.repeated_parameter()
    if repeated is not None:
        raise ApiError(400, f"Bad request. Query parameter {repeated!r} was given more than once")
    if introduced is not None:
        error = version_error(request.parameter("api-version"), introduced, supported)
        if error is not None:
            newest = {"newest-versions": newest_versions(supported)}
            raise ApiError(400, f"{error}. {_READ_ON}", extra=newest)
    if json_only and request.parameter("format") not in (None, "json"):
        raise ApiError(400, "Bad request. Only format=json is supported for this request")


def check_method(request: Request, methods: Sequence[str] = ("GET",)) -> None:
    """Raise ApiError if the endpoint does not support a request's method."""
    if request.method not in methods:
        raise ApiError(405, "Method not allowed", headers={"Allow": ", ".join(methods)})


def _check_headers(request: Request) -> None:
    if request.header("x-forwarded-for") is not None:
        raise ApiError(400, "Bad request. Requests with an X-Forwarded-For header are rejected")
    values = request.header_values("metadata")
    if not values or any(value.strip().lower() != "true" for value in values):
        raise ApiError(400, "Bad request. Required metadata header not specified")
