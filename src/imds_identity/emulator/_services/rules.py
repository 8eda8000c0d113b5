"""The rules that every metadata request must keep, and the bodies of refusals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .._machine.versions import newest_versions, version_complaint
from .._messages import json_response

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._messages import Request, Response

_READ_ON = "For more information refer to aka.ms/azureimds"
_IDENTITY_CODES = {401: "unauthorized_client", 404: "not_found", 405: "method_not_allowed"}


@dataclass(frozen=True, slots=True)
class Complaint:
    """What is wrong with a request.

    Attributes:
        status: the status of the refusal.
        message: what is wrong, in words.
        code: what the identity category calls it, where that does not follow from the status.
        extra: further fields of the refusal.
        headers: further header fields of the refusal.
    """

    status: int
    message: str
    code: str = ""
    extra: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


def request_complaint(
    request: Request,
    *,
    methods: Sequence[str] = ("GET",),
    introduced: str | None,
    supported: list[str],
) -> Complaint | None:
    """Hold a request against the rules that all categories share.

    Args:
        request: the request.
        methods: the methods that its endpoint has.
        introduced: the api-version that introduced its category; None where none is needed.
        supported: the api-versions that this region knows.

    Returns:
        The first rule that it breaks, or None.
    """
    broken = method_complaint(request, methods) or _header_complaint(request)
    if broken is not None:
        return broken
    repeated = request.repeated_parameter()
    if repeated is not None:
        return Complaint(400, f"Bad request. Query parameter {repeated!r} was given more than once")
    if introduced is None:
        return None
    wrong = version_complaint(request.parameter("api-version"), introduced, supported)
    if wrong is not None:
        return Complaint(
            400, f"{wrong}. {_READ_ON}", extra={"newest-versions": newest_versions(supported)}
        )
    return None


def method_complaint(request: Request, methods: Sequence[str] = ("GET",)) -> Complaint | None:
    """What is wrong with a request's method, if anything."""
    if request.method in methods:
        return None
    return Complaint(405, "Method not allowed", headers={"Allow": ", ".join(methods)})


def _header_complaint(request: Request) -> Complaint | None:
    if request.header("x-forwarded-for") is not None:
        return Complaint(400, "Bad request. Requests with an X-Forwarded-For header are rejected")
    values = request.header_values("metadata")
    if not values or any(value.strip().lower() != "true" for value in values):
        return Complaint(400, "Bad request. Required metadata header not specified")
    return None


def json_only_complaint(request: Request) -> Complaint | None:
    """What is wrong with asking a category but instance for another format."""
    if request.parameter("format") in (None, "json"):
        return None
    return Complaint(400, "Bad request. Only format=json is supported for this request")


def metadata_error(complaint: Complaint) -> Response:
    """The refusal as every category but identity words it."""
    document = {"error": complaint.message, **complaint.extra}
    return json_response(complaint.status, document, complaint.headers)


def identity_error(complaint: Complaint) -> Response:
    """The refusal as the identity category words it."""
    document = {
        "error": complaint.code or _IDENTITY_CODES.get(complaint.status, "invalid_request"),
        "error_description": complaint.message.removeprefix("Bad request. "),
        **complaint.extra,
    }
    return json_response(complaint.status, document, complaint.headers)
