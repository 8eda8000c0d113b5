"""The record of one key that processes share, and its validation.

Reading never raises: a record that is incomplete, of another namespace or format, or impossible is
ignored, no matter which program wrote it.
"""

from __future__ import annotations

import functools
import json
from typing import NamedTuple

from .._core.failure import failure_from_dict, failure_to_dict
from .._core.key import Key
from .._core.secret import sha256
from .._core.token import Token
from .._core.token_response import canonical_type, is_token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .._core.claims import Challenge
    from .._core.failure import Failure
    from .._platform.clock import Clock
    from .namespace import Namespace

FORMAT = 3
DIGEST_LENGTH = 40
LONGEST_LIFE = 10 * 366 * 86400.0
_LARGEST_NUMBER = 1e11
_CLOCK_TOLERANCE = 60.0
"""Seconds by which a token's ages by the wall clock and by the steady clock may differ: while NTP
corrects the wall clock gradually, they differ by less."""


class Record(NamedTuple):
    """A token, or the failure of the latest fetch."""

    key: Key
    token: Token | None = None
    failure: Failure | None = None
    failure_until: float = 0.0
    """The moment until which ``failure`` is reported (``Clock.now``)."""
    challenge: Challenge | None = None
    """The last claims challenge that was sent to the service."""


@functools.lru_cache(maxsize=256)
def digest_of(namespace: Namespace, key: Key) -> str:
    """Return the name of the files for ``key``, which does not reveal the identity."""
    content = json.dumps([FORMAT, *namespace, *key]).encode()
    return sha256(content)[:DIGEST_LENGTH]


def expiry_of(record: Record) -> float:
    """Return the time from which no process needs ``record`` (``Clock.now``)."""
    return max(
        record.token.expires_at if record.token else 0.0,
        record.failure_until,
        record.challenge.until if record.challenge else 0.0,
    )


def dumps(record: Record, namespace: Namespace) -> bytes:
    """Serialize ``record``."""
    challenge = record.challenge
    document = {
        "format": FORMAT,
        "namespace": list(namespace),
        "key": list(record.key),
        "token": record.token and record.token.facts(),
        "failure": record.failure and failure_to_dict(record.failure),
        "failure_until": record.failure_until,
        "challenge": challenge
        and [
            challenge.claims,
            challenge.until,
            challenge.failure and failure_to_dict(challenge.failure),
        ],
    }
    return json.dumps(document).encode()


def loads(content: bytes, namespace: Namespace, clock: Clock) -> Record | None:
    """Deserialize a record; return None unless it is valid and of ``namespace``."""
    try:
        document = json.loads(content)
        if document["format"] != FORMAT or document["namespace"] != list(namespace):
            return None
        return Record(
            Key(*(_text(part) for part in document["key"])),
            _token(document["token"], clock),
            _failure(document["failure"]),
            _number(document["failure_until"]),
            _challenge(document["challenge"]),
        )
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise ValueError("not a text")


def _number(value: object, least: float = 0.0, most: float = _LARGEST_NUMBER) -> float:
    # Not isinstance, because True is an int. The comparison is false for NaN.
    if type(value) not in (int, float) or not least <= value <= most:  # type: ignore[operator]
        raise ValueError("not a number in range")
    return value  # type: ignore[return-value]


def _failure(facts: object) -> Failure | None:
    return None if facts is None else failure_from_dict(facts)


def _token(facts: dict[str, Any] | None, clock: Clock) -> Token | None:
    if facts is None:
        return None
    token = Token(**facts)
    for count in (token.expires_on, token.refresh_on, token.failed_refreshes):
        _number(count)
        if type(count) is not int:
            raise ValueError("not a count")
    if (
        not is_token(token.value)
        or canonical_type(token.token_type) != token.token_type
        or not token.token_type
    ):
        raise ValueError("not a token")
    received_at = _number(token.received_at, most=clock.now())  # later: from another boot
    _number(token.refresh_at, least=received_at)
    life = _number(token.expires_at - received_at, most=LONGEST_LIFE)
    _check_clocks(token, life, clock)
    return token


def _check_clocks(token: Token, life: float, clock: Clock) -> None:
    """Raise ValueError if the token has expired or its ages by both clocks differ.

    They differ if the record is from another boot, on systems without a boot ID.
    """
    wall = clock.wall()
    if life <= 0 or wall >= token.expires_on:
        raise ValueError("expired")
    age = clock.now() - token.received_at
    if not abs(wall - (token.expires_on - life) - age) <= _CLOCK_TOLERANCE:
        raise ValueError("the clocks disagree")


def _challenge(facts: list[Any] | None) -> Challenge | None:
    if facts is None:
        return None
    from .._core.claims import Challenge

    claims, until, failure = facts
    return Challenge(_text(claims), _number(until), _failure(failure))
