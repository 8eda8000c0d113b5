"""What a token says of itself."""

from __future__ import annotations

import json
from binascii import a2b_base64
from typing import Any

_URL_SAFE = str.maketrans("-_", "+/")


def claims_in(token: str) -> dict[str, Any]:
    """The claims of a JWT, unverified; none if it is no JWT."""
    return json_object(_payload(token))


def json_object(document: str | bytes) -> dict[str, Any]:
    """The JSON object that ``document`` is; an empty one if it is something else."""
    try:
        value = json.loads(document)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _payload(token: str) -> bytes:
    part = f"{token}.".split(".")[1].translate(_URL_SAFE)
    try:
        return a2b_base64(part + "=" * (-len(part) % 4))
    except ValueError:
        return b""
