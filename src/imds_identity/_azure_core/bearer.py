"""Tokens on requests of HTTP clients: where they may go, and claims challenges."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .._core.source import shown_url

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CHALLENGE_CLAIMS = re.compile(r'\bclaims="([A-Za-z0-9+/_=-]+)"', re.IGNORECASE)
_INSUFFICIENT = re.compile(r'\berror="insufficient_claims"', re.IGNORECASE)


def origin_of(url: str | None) -> tuple[str, str, int]:
    """Return scheme, host and port of ``url``."""
    parts = urlsplit(url or "")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return parts.scheme, parts.hostname or "", port


def check_url(url: str | None) -> None:
    """Refuse a URL that would send a token unencrypted to another machine (ValueError)."""
    scheme, host, _ = origin_of(url)
    # Other libraries take a backslash for the end of the host name.
    is_loopback = host in _LOOPBACK and "\\" not in (url or "")
    if scheme != "https" and not (scheme == "http" and is_loopback):
        shown = shown_url(url or "")
        raise ValueError(f"a token must not be sent unencrypted: use https, not {shown!r}")


def claims_of(status: int, headers: Mapping[str, str]) -> str | None:
    """Return the decoded claims of a response that is a claims challenge, else None.

    https://learn.microsoft.com/entra/identity-platform/claims-challenge
    """
    header = headers.get("WWW-Authenticate", "")
    match = _CHALLENGE_CLAIMS.search(header)
    if status != 401 or match is None or not _INSUFFICIENT.search(header):
        return None
    encoded = match[1].replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except ValueError:
        return None
