"""``/health``: the health check of the emulator itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._messages import json_response

if TYPE_CHECKING:
    from .._messages import Response

PATH = "/health"


def health(profile: str) -> Response:
    """Return the response for an emulator that serves."""
    return json_response(200, {"profile": profile, "status": "ok"})
