"""What the requests of the API contain, and the errors if it is not valid."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeVar

from .._field_types import UnknownNameError, build, field_types
from .._messages import json_response
from .forms import mentioned

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._messages import Request, Response

_T = TypeVar("_T")
_MAX_DIGITS = 15
_CODES = {
    400: "invalid-request",
    403: "other-site",
    404: "not-found",
    405: "method-not-allowed",
    409: "conflict",
    415: "not-json",
    421: "wrong-host",
}


class ApiError(Exception):
    """An error response; ``field`` is the attribute or parameter that is not valid."""

    def __init__(self, status: int, message: str, code: str = "", field: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code or _CODES[status]
        self.field = field

    def response(self) -> Response:
        document = {"error": str(self), "code": self.code}
        return json_response(
            self.status, {**document, **({"field": self.field} if self.field else {})}
        )


def number(request: Request, name: str) -> int | None:
    """Return a parameter that is a whole number; None if it is missing."""
    text = request.parameter(name)
    if text is not None and not (text.isdecimal() and len(text) <= _MAX_DIGITS):
        raise ApiError(400, f"{name} must be a whole number, not {text!r}.", "invalid", name)
    return None if text is None else int(text)


def required(request: Request, name: str) -> str:
    """Return a parameter; ApiError if it is missing."""
    value = request.parameter(name)
    if value is None:
        message = f"The parameter {name} is missing: {request.path}?{name}=…"
        raise ApiError(400, message, "missing-parameter", name)
    return value


def build_from_json(cls: Callable[..., _T], request: Request) -> _T:
    """Build a dataclass from a JSON body; ApiError if an attribute is not valid."""
    values = _json_body(request)
    try:
        return build(cls, values)
    except UnknownNameError as error:
        raise ApiError(400, str(error), "unknown-attribute", error.name) from None
    except ValueError as error:
        field = mentioned(str(error), field_types(cls))
        raise ApiError(400, str(error), "invalid", field) from None


def _json_body(request: Request) -> dict[str, object]:
    # A form on another site cannot send this type; a script needs a preflight request, which fails.
    if (request.header("content-type") or "").partition(";")[
        0
    ].strip().lower() != "application/json":
        raise ApiError(415, "The body must be application/json.")
    try:
        document = json.loads(request.body)
    except (ValueError, RecursionError):
        raise ApiError(400, "The body is not JSON.") from None
    if not isinstance(document, dict):
        raise ApiError(400, "The body must be a JSON object.")
    return document
