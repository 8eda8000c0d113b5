"""Pretend tokens that say whose they are, and the one judgement of what was handed out."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import NamedTuple

_HEADER = "eyJhbGciOiJzb2FrIiwidHlwIjoiSldUIn0"
SLACK = 3.0
"""Seconds past a token's end that are nobody's fault: a skew of two seconds is taken for noise, and
``Date`` counts whole ones."""

EXPIRED = "expired tokens served"
ANOTHERS = "others' tokens served"
REFUSABLE = "tokens served that no client may take"
REVOKED = "revoked tokens given for a claims challenge"


class IssuedToken(NamedTuple):
    """What a token says.

    Attributes:
        resource: what it is for.
        who: whose it is.
        minted: when it was made (`steady`).
        end: when it ends (`steady`).
        serial: tells it from all others.
        refusable: why no client may take it, or empty.
    """

    resource: str
    who: str
    minted: float
    end: float
    serial: int
    refusable: str = ""


def minted(facts: IssuedToken) -> str:
    """The token that says ``facts``."""
    payload = {"nbf": int(facts.minted), **facts._asdict()}
    body = base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip("=")
    return f"{_HEADER}.{body}.{_seal(body)}"


def read(token: str) -> IssuedToken:
    """What ``token`` says.

    Raises:
        ValueError: if it is damaged.
    """
    header, body, seal = token.split(".")
    if header != _HEADER or seal != _seal(body):
        raise ValueError("a damaged token")
    payload = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return IssuedToken(**{name: payload[name] for name in IssuedToken._fields})


def fault_of(
    facts: IssuedToken, resource: str, who: str, moment: float, since: float
) -> tuple[str, str] | None:
    """Which rule is broken by handing this out, and how.

    Args:
        facts: of the token.
        resource: what was asked for.
        who: for whom.
        moment: when it was handed out at the earliest (`steady`).
        since: it must have been minted no earlier than this (`steady`).
    """
    if facts.refusable:
        return REFUSABLE, facts.refusable
    if (facts.resource, facts.who) != (resource, who):
        return ANOTHERS, f"{facts.who} {facts.resource} for {who} {resource}"
    if facts.end + SLACK < moment:
        lived = facts.end - facts.minted
        return EXPIRED, f"{moment - facts.end:.1f} s past its end, of {lived:.0f} s of life"
    if facts.minted < since:
        return REVOKED, f"minted {since - facts.minted:.1f} s before the revocation"
    return None


def _seal(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]
