"""Claims challenges: whether a token that is there answers one already.

A resource refuses a token with claims, mostly ``{"access_token": {"nbf": {"value": "…"}}}``: "none
that was issued before this moment". Many callers hold the refused token and are told the same.
https://learn.microsoft.com/entra/identity-platform/claims-challenge
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .failure import Failure

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


def was_issued_after(token: str, claims: str) -> bool | None:
    """Whether ``token`` is from after the moment that ``claims`` ask for.

    None where that cannot be told: the claims ask for no moment, or the token is no JWT.
    """
    wanted = _moment(_nested(_object(claims.encode()), "access_token", "nbf", "value"))
    payload = _object(_payload(token))
    issued = _moment(payload.get("nbf", payload.get("iat")))
    return None if wanted is None or issued is None else issued > wanted


def _nested(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _moment(value: object) -> int | None:
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else None


def _payload(token: str) -> bytes:
    from base64 import urlsafe_b64decode

    part = f"{token}.".split(".")[1]
    try:
        return urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        return b""


def _object(document: bytes) -> dict[str, Any]:
    import json

    try:
        value = json.loads(document)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
