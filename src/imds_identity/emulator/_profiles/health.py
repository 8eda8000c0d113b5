"""``/health``: whether the emulator serves, for whatever starts it and waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._messages import json_response

if TYPE_CHECKING:
    from .._messages import Response

PATH = "/health"


def health(profile: str) -> Response:
    """The answer: it serves, and as what.

    Args:
        profile: the kind of host.
    """
    return json_response(200, {"profile": profile, "status": "ok"})
