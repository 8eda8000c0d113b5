"""Fake tokens that contain what they were issued for, and the rules for returned tokens."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import NamedTuple

_HEADER = "eyJhbGciOiJzb2FrIiwidHlwIjoiSldUIn0"
SLACK = 3.0
"""Tolerated seconds past a token's expiry: the package ignores a clock skew of up to two seconds,
and ``Date`` headers have whole seconds."""

EXPIRED = "expired tokens returned"
WRONG_TOKEN = "tokens returned for another identity or resource"
INVALID = "invalid tokens returned"
REVOKED = "revoked tokens returned after a claims challenge"


class IssuedToken(NamedTuple):
    """The content of a fake token.

    Attributes:
        resource: the resource that accepts it.
        identity: the identity that it was issued to.
        issued_at: when it was issued (`monotonic`).
        expires_at: when it expires (`monotonic`).
        serial: a unique number.
        invalid: why clients must refuse the response that contains it, or empty.
    """

    resource: str
    identity: str
    issued_at: float
    expires_at: float
    serial: int
    invalid: str = ""


def encode(issued: IssuedToken) -> str:
    """Return the token with the content ``issued``."""
    payload = {"nbf": int(issued.issued_at), **issued._asdict()}
    body = base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip("=")
    return f"{_HEADER}.{body}.{_signature(body)}"


def decode(token: str) -> IssuedToken:
    """Return the content of ``token``; raise ValueError if it is damaged."""
    header, body, signature = token.split(".")
    if header != _HEADER or signature != _signature(body):
        raise ValueError("a damaged token")
    payload = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return IssuedToken(**{name: payload[name] for name in IssuedToken._fields})


def find_violation(
    issued: IssuedToken, resource: str, identity: str, returned_at: float, not_before: float
) -> tuple[str, str] | None:
    """Return the rule that a credential breaks by returning this token, and the details.

    Args:
        issued: the content of the token.
        resource: the requested resource.
        identity: the requested identity.
        returned_at: the earliest time when it can have been returned (`monotonic`).
        not_before: it must have been issued at this time or later (`monotonic`).
    """
    if issued.invalid:
        return INVALID, issued.invalid
    if (issued.resource, issued.identity) != (resource, identity):
        return WRONG_TOKEN, f"{issued.identity} {issued.resource} for {identity} {resource}"
    if issued.expires_at + SLACK < returned_at:
        lifetime = issued.expires_at - issued.issued_at
        late = returned_at - issued.expires_at
        return EXPIRED, f"{late:.1f} s after expiry, of a lifetime of {lifetime:.0f} s"
    if issued.issued_at < not_before:
        early = not_before - issued.issued_at
        return REVOKED, f"issued {early:.1f} s before the revocation"
    return None


def _signature(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]
