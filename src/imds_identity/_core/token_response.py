"""Validates the fields of a token response: every `Token` is created here."""

from __future__ import annotations

import re

from .failure import Malformed
from .freshness import refresh_delay
from .token import Token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MAX_TOKEN = 64 * 1024
"""Characters. A token has about two thousand, and servers accept no header that is much longer."""
REPORT = "If this persists, report it to the operator of the service."

# Not compiled: that takes longer than reading everything else of a shared record.
_SECONDS = r"([0-9]{1,12})(?:\.[0-9]*)?"
# Azure ML on Linux and on Windows: 06/20/2025 02:57:58 +00:00, 6/20/2025 2:57:58 PM +00:00.
_US_DATE = (
    r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4}) ([0-9]{1,2}):([0-9]{2}):([0-9]{2})(?: ([AP])M)? \+00:00"
)
# .NET services: 2024-10-18T19:51:37.0000000+00:00. Without an offset, it could be a local time.
_ISO_DATE = (
    r"(?i)([0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]+)?"
    r" ?(Z|[+-][0-9]{2}:?[0-9]{2})"
)
# The year 3000: Windows cannot convert later times.
_LATEST = 32_503_680_000


class Fields:
    """The fields of a response. The repr shows only names: one value is a token."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    def get(self, name: str) -> Any:
        """Return the value of a field; None if it is missing."""
        return self._values.get(name)

    def seconds(self, name: str) -> int | None:
        """Return the seconds in a field, usually a string; None if there is no such number."""
        match = re.fullmatch(_SECONDS, _short(self.get(name)))
        return int(match[1]) if match else None

    def moment(self, name: str) -> int | None:
        """Return the Unix time in a field, in seconds or as a date; None if there is none."""
        value = self.get(name)
        if not isinstance(value, str):
            return self.seconds(name)
        try:
            if match := re.fullmatch(_US_DATE, value):
                return _us_date(match)
            if match := re.fullmatch(_ISO_DATE, value):
                return _iso_date(match)
        except ValueError:  # not a day of the calendar, or not a time of the day
            return None
        return self.seconds(name)

    def __repr__(self) -> str:
        return f"Fields({sorted(map(str, self._values))})"


def _iso_date(date: re.Match[str]) -> int:
    from datetime import datetime

    offset = "+00:00" if date[2] in "Zz" else f"{date[2][:3]}:{date[2][-2:]}"
    return int(datetime.fromisoformat(f"{date[1].upper()}{offset}").timestamp())


def _us_date(date: re.Match[str]) -> int:
    from datetime import datetime, timezone

    month, day, year, hour, minute, second = map(int, date.groups()[:6])
    half = date[7]
    if half:
        if not 1 <= hour <= 12:
            raise ValueError("not an hour from 1 to 12")
        hour = hour % 12 + (12 if half == "P" else 0)
    moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
    return int(moment.timestamp())


def is_token(value: object) -> bool:
    """Whether ``value`` may be a token: printable ASCII without spaces, and not too long."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= MAX_TOKEN
        and value.isascii()
        and value.isprintable()
        and " " not in value
    )


def canonical_type(value: object) -> str | None:
    """Return ``Bearer`` for any spelling of it; None for an unknown type.

    The Authorization header begins with it, so it must not be the service's own text.
    """
    return "Bearer" if isinstance(value, str) and value.lower() == "bearer" else None


def token_of(
    fields: Fields, lifetime: float, sent_at: float, sent_wall: float, random: float
) -> Token:
    """Return the token in a response.

    Raise Malformed if there is no valid token, its type is unknown, or it is valid for too long.

    Args:
        fields: ``access_token``, and optionally ``token_type`` and ``refresh_in``.
        lifetime: seconds from the request to expiry; not negative.
        sent_at: when the request was sent (``Clock.now``).
        sent_wall: the same moment by ``Clock.wall``.
        random: jitter of the refresh, in [0, 1).
    """
    check_token(fields)
    token_type = fields.get("token_type")
    # Test doubles write 1. Only text can name a type that the package does not support.
    canonical = canonical_type(token_type if isinstance(token_type, str) else "Bearer")
    if canonical is None:
        raise Malformed("the response's token_type is not Bearer", REPORT)
    if sent_wall + lifetime > _LATEST:
        raise Malformed("the token claims to be valid beyond the year 3000", REPORT)
    delay = refresh_delay(lifetime, fields.seconds("refresh_in"), random)
    return Token(
        value=fields.get("access_token"),
        token_type=canonical,
        expires_on=round(sent_wall + lifetime),
        refresh_on=int(sent_wall + delay),
        received_at=sent_at,
        refresh_at=sent_at + delay,
        expires_at=sent_at + lifetime,
    )


def check_token(fields: Fields) -> None:
    """Raise Malformed if ``access_token`` is missing or invalid; the message does not quote it."""
    if not fields.get("access_token"):
        raise Malformed("the response has no access_token", REPORT)
    if not is_token(fields.get("access_token")):
        raise Malformed("the access_token contains invalid characters or is too long", REPORT)


def _short(value: object) -> str:
    # Nothing else: str() fails for a deeply nested list, and for a very large integer.
    if isinstance(value, int) and not 0 <= value < _LATEST * 10:
        return ""
    return str(value) if isinstance(value, str | int | float) else ""
