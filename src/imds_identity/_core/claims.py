"""Claims challenges, and whether a cached token already satisfies one.

A resource rejects a token with a claims challenge, usually
``{"access_token": {"nbf": {"value": "…"}}}``: it requires a token that was issued after this time.
All callers with the rejected token receive the same challenge.
https://learn.microsoft.com/entra/identity-platform/claims-challenge
"""

from __future__ import annotations

# At the top, because they are used under the token cache's lock, where nothing is imported.
import json
from binascii import a2b_base64
from typing import NamedTuple

from .freshness import State, decide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeGuard

    from .failure import Failure
    from .token import Token

ANSWER_SECONDS = 30.0
"""Seconds for which a fetched token answers the same challenge again. A later caller with the same
claims was refused with the new token."""


class Challenge(NamedTuple):
    """The last claims challenge that was sent to the service, and its result.

    Attributes:
        claims: the claims.
        until: the time until which the result is valid for the same claims (``Clock.now``).
        failure: why there is no token for them; None if the current token satisfies them.
    """

    claims: str
    until: float
    failure: Failure | None = None

    def answers(self, claims: str, now: float) -> bool:
        """Return whether this result is valid for ``claims``, without another request."""
        return self.claims == claims and now < self.until <= now + ANSWER_SECONDS


def answers_challenge(
    token: Token | None, claims: str, challenge: Challenge | None, now: float
) -> TypeGuard[Token]:
    """Return whether ``token`` satisfies ``claims``: it was fetched for them, or issued later.

    Raise Failure if the service recently refused the same claims.
    """
    same = challenge is not None and challenge.answers(claims, now)
    if challenge is not None and same and challenge.failure is not None:
        raise challenge.failure.copy()
    if token is None or decide(token, now) is State.EXPIRED:
        return False
    return same or was_issued_after(token.value, claims)


def was_issued_after(token: str, claims: str) -> bool:
    """Return whether ``token`` was certainly issued after the time that ``claims`` require.

    Returns False if the claims contain no time or the token is not a JWT: only the service can
    satisfy other claims.
    """
    not_before = _timestamp(_nested(_object(claims), "access_token", "nbf", "value"))
    issued = _issued(token)
    return not_before is not None and issued is not None and issued > not_before


def issued_after(wall: float, token: Token | None) -> str:
    """Return the claims challenge of a resource that requires another token than ``token``.

    The challenge has the present Unix time, ``wall``, or else the time at which the token was
    issued: the clock of its service may be ahead.
    """
    latest = max(int(wall), (_issued(token.value) or 0) if token is not None else 0)
    return json.dumps({"access_token": {"nbf": {"essential": True, "value": str(latest)}}})


def is_later(token: Token, other: Token) -> bool:
    """Return whether ``token`` replaces ``other`` of the same key, because it was issued later.

    If the tokens do not contain their time of issue, the later request counts. That alone would be
    wrong: while a service creates a new token for one caller, it can return the old one from its
    cache to the next.
    """
    issued, other_issued = _issued(token.value), _issued(other.value)
    if issued is None or other_issued is None or issued == other_issued:
        return token.received_at > other.received_at
    return issued > other_issued


def _issued(token: str) -> int | None:
    payload = claims_in(token)
    return _timestamp(payload.get("nbf", payload.get("iat")))


def _nested(value: object, *names: str) -> object:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _timestamp(value: object) -> int | None:
    if type(value) is int:
        return value
    is_number = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 12
    return int(value) if is_number else None  # type: ignore[call-overload]


def claims_in(token: str) -> dict[str, object]:
    """Return the claims of a JWT without verification; empty if ``token`` is not a JWT."""
    return _object(_payload(token))


def _object(document: str | bytes) -> dict[str, object]:
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


_URL_SAFE = str.maketrans("-_", "+/")
