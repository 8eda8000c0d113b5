"""Claims challenges: whether a token that is there answers one already.

A resource refuses a token with claims, mostly ``{"access_token": {"nbf": {"value": "…"}}}``: "none
that was issued before this moment". Many callers hold the refused token and are told the same.
https://learn.microsoft.com/entra/identity-platform/claims-challenge
"""

from __future__ import annotations

# Here and not where they are used: that is under the broker's lock, where nothing is imported.
import json
from binascii import a2b_base64
from typing import NamedTuple

from .freshness import State, decide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeGuard

    from .failure import Failure
    from .token import Token

ANSWER_SECONDS = 30.0
"""For how long what a challenge brought is the answer to the same challenge: whoever comes with it
later than this was refused with the new token, and not with the old one."""


class Challenge(NamedTuple):
    """The last claims challenge that was taken to the service, and what came of it.

    Attributes:
        claims: the claims.
        until: until when this is the answer to the same claims (``Clock.now``).
        failure: why there is no token for them; None if the present token is the answer.
    """

    claims: str
    until: float
    failure: Failure | None = None

    def answers(self, claims: str, now: float) -> bool:
        """Whether these claims need not be taken to the service once more."""
        return self.claims == claims and now < self.until <= now + ANSWER_SECONDS


def answers_challenge(
    token: Token | None, claims: str, challenge: Challenge | None, now: float
) -> TypeGuard[Token]:
    """Return whether ``token`` answers ``claims``: it was fetched for them, or issued later.

    Args:
        token: a token that this process or another one has.
        claims: the claims challenge that a resource sent.
        challenge: the last one that was taken to the service, with its result.
        now: the time (``Clock.now``).

    Raises:
        Failure: if the service refused the same claims a moment ago.
    """
    same = challenge is not None and challenge.answers(claims, now)
    if challenge is not None and same and challenge.failure is not None:
        raise challenge.failure.copy()
    if token is None or decide(token, now) is State.EXPIRED:
        return False
    return same or was_issued_after(token.value, claims)


def was_issued_after(token: str, claims: str) -> bool:
    """Whether ``token`` is known to be from after the moment that ``claims`` ask for.

    It is not where the claims ask for no moment, or the token is no JWT: what a resource means by
    other claims, only the service can meet.
    """
    token_request = _moment(_nested(_object(claims), "access_token", "nbf", "value"))
    issued = _issued(token)
    return token_request is not None and issued is not None and issued > token_request


def is_later(token: Token, other: Token) -> bool:
    """Whether ``token`` replaces ``other``, of the same key: if it was issued later.

    Where that is not told it goes by when they were asked for. That alone would be wrong: while a
    service makes a new token for one caller, it gives the old one of its cache to the next.
    """
    issued, before = _issued(token.value), _issued(other.value)
    if issued is None or before is None or issued == before:
        return token.received_at > other.received_at
    return issued > before


def _issued(token: str) -> int | None:
    payload = claims_in(token)
    return _moment(payload.get("nbf", payload.get("iat")))


def _nested(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _moment(value: object) -> int | None:
    if type(value) is int:
        return value
    is_number = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 12
    return int(value) if is_number else None  # type: ignore[call-overload]


def claims_in(token: str) -> dict[str, Any]:
    """The claims of a JWT, unverified; none if it is no JWT."""
    return _object(_payload(token))


def _object(document: str | bytes) -> dict[str, Any]:
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
