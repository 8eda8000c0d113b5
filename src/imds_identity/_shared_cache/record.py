"""What a process leaves for the others about one key, and what of that is believed.

An entry that is torn, foreign, of another place, in another format or impossible is as good as
none, whoever wrote it: reading one never raises.
"""

from __future__ import annotations

import json

from .._core.failure import failure_from_dict, failure_to_dict
from .._core.key import Key
from .._core.token import Token
from .._core.token_response import canonical_type, is_token
from .._platform.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .._core.claims import Challenge
    from .._core.failure import Failure
    from .._platform.clock import Clock
    from .namespace import Namespace

FORMAT = 3
_LONGEST_LIFE = 10 * 366 * 86400.0
_LARGEST_NUMBER = 1e11
_LONGEST_TEXT = 64 * 1024
_CLOCKS_AGREE = 60.0
"""Seconds by which the wall clock and the steady one may differ over how old a token is: a clock
that is being set right slowly stays below it."""


class Record(NamedTuple):
    """What is known of a key: a token, or why there was none a moment ago.

    Attributes:
        key: whose.
        token: the token, if there is one.
        failure: why there is none.
        failure_until: until when that is worth knowing (``Clock.now``).
        challenge: the last claims challenge that was taken to the service.
    """

    key: Key
    token: Token | None = None
    failure: Failure | None = None
    failure_until: float = 0.0
    challenge: Challenge | None = None


class _InvalidRecordError(ValueError):
    """No process of ours wrote this."""


def dumps(record: Record, namespace: Namespace) -> bytes:
    """``record`` as it is left for others."""
    challenge = record.challenge
    return json.dumps(
        {
            "format": FORMAT,
            "namespace": list(namespace),
            "key": list(record.key),
            "token": record.token.facts() if record.token else None,
            "failure": failure_to_dict(record.failure) if record.failure else None,
            "failure_until": record.failure_until,
            "challenge": challenge
            and [
                challenge.claims,
                challenge.until,
                failure_to_dict(challenge.failure) if challenge.failure else None,
            ],
        }
    ).encode()


def loads(content: bytes, namespace: Namespace, clock: Clock) -> Record | None:
    """The entry that `dumps` made of ``content``, if it is one of ``namespace`` and can be true."""
    try:
        document = json.loads(content)
        if document["format"] != FORMAT or document["namespace"] != list(namespace):
            return None
        return Record(
            Key(*(_text(part) for part in document["key"])),
            _token(document["token"], clock),
            None if document["failure"] is None else failure_from_dict(document["failure"]),
            _number(document["failure_until"]),
            _challenge(document["challenge"]),
        )
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise _InvalidRecordError("no text")
    return value


def _number(value: object, least: float = 0.0, most: float = _LARGEST_NUMBER) -> float:
    # By type, because True is an int; a comparison also tells what is not a number (NaN).
    if type(value) not in (int, float) or not least <= value <= most:  # type: ignore[operator]
        raise _InvalidRecordError("no number in range")
    return value  # type: ignore[return-value]


def _token(facts: dict[str, Any] | None, clock: Clock) -> Token | None:
    if facts is None:
        return None
    token = Token(**facts)
    counts = (token.expires_on, token.refresh_on, token.failed_refreshes)
    if not all(type(count) is int for count in counts):
        raise _InvalidRecordError("no counts")
    if not is_token(token.value) or canonical_type(token.token_type) != token.token_type:
        raise _InvalidRecordError("no token")
    for count in counts:
        _number(count)
    received_at = _number(token.received_at, most=clock.now())  # later: of another clock
    _number(token.refresh_at, least=received_at)
    life = _number(token.expires_at - received_at, most=_LONGEST_LIFE)
    _check_clocks(token, life, clock)
    return token


def _check_clocks(token: Token, life: float, clock: Clock) -> None:
    """A token is as old by one clock as by the other, or one of them is not that of its time.

    Where nothing tells one boot from the next, the steady clock of an entry may be another's.
    """
    wall = clock.wall()
    if life <= 0 or wall >= token.expires_on:
        raise _InvalidRecordError("it has expired")
    age = clock.now() - token.received_at
    if not abs(wall - (token.expires_on - life) - age) <= _CLOCKS_AGREE:
        raise _InvalidRecordError("the clocks disagree")


def _challenge(said: list[Any] | None) -> Challenge | None:
    if said is None:
        return None
    from .._core.claims import Challenge

    claims, until, failure = said
    return Challenge(
        _text(claims), _number(until), None if failure is None else failure_from_dict(failure)
    )
