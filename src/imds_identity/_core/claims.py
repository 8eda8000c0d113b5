"""What a token says of itself."""

from __future__ import annotations

from typing import Any


def claims_in(token: str) -> dict[str, Any]:
    """The claims of a JWT, unverified; nothing if it is none."""
    import base64
    import json

    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}
