"""What a service says of a token, checked: the one way from an answer to a `Token`."""

from __future__ import annotations

import re

from .failure import Malformed
from .freshness import refresh_delay
from .token import Token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

LARGEST_TOKEN = 64 * 1024
"""Characters. A token has two thousand, and servers take no header much longer."""
REPORT = "If it goes on, the service that answers there is at fault: report it."

_TYPES = {"bearer": "Bearer"}
# As text, because compiling them would take longer than all else that is read of an entry.
_SECONDS = r"([0-9]{1,12})(?:\.[0-9]*)?"
# Azure ML on Linux and on Windows: 06/20/2025 02:57:58 +00:00, 6/20/2025 2:57:58 PM +00:00.
_DATE = (
    r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4}) ([0-9]{1,2}):([0-9]{2}):([0-9]{2})(?: ([AP])M)? \+00:00"
)
# The year 3000, after which Windows makes no date of a number.
_LATEST = 32_503_680_000


class Fields:
    """An answer's fields. Its repr shows their names only: one is a token.

    Args:
        values: the fields by name.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def get(self, name: str) -> Any:
        """The value of a field, None where it is missing."""
        return self._values.get(name)

    def seconds(self, name: str) -> int | None:
        """The seconds in a field, mostly written as a string; None where it is missing.

        Raises:
            Malformed: if the field is something else.
        """
        value = self.get(name)
        if value is None or value == "":
            return None
        match = re.fullmatch(_SECONDS, _short(value))
        if match is None:
            raise Malformed(f"the answer's {name} is no number of seconds", REPORT)
        return int(match[1])

    def moment(self, name: str) -> int | None:
        """The Unix time in a field, as seconds or as a date; None where it is missing.

        Raises:
            Malformed: if the field is something else.
        """
        value = self.get(name)
        match = re.fullmatch(_DATE, value) if isinstance(value, str) else None
        if match is None:
            return self.seconds(name)
        try:
            return _unix_time(match)
        except ValueError:
            raise Malformed(f"the answer's {name} is a date that there is not", REPORT) from None

    def __repr__(self) -> str:
        return f"Fields({sorted(map(str, self._values))})"


def _unix_time(date: re.Match[str]) -> int:
    from datetime import datetime, timezone

    month, day, year, hour, minute, second = map(int, date.groups()[:6])
    half = date[7]
    if half:
        if not 1 <= hour <= 12:
            raise ValueError("no hour of half a day")
        hour = hour % 12 + (12 if half == "P" else 0)
    moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
    return int(moment.timestamp())


def is_token(value: object) -> bool:
    """Whether ``value`` can be a token: printable ASCII without spaces, and not too long."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= LARGEST_TOKEN
        and value.isascii()
        and value.isprintable()
        and " " not in value
    )


def canonical_type(said: object) -> str | None:
    """How a token of type ``said`` is presented: ``Bearer``. None for an unknown type.

    It is the first word of an Authorization header, so nobody else's word gets there.
    """
    return _TYPES.get(said.lower()) if isinstance(said, str) and len(said) < 100 else None


def token_of(
    fields: Fields, lifetime: float, sent_at: float, sent_wall: float, random: float
) -> Token:
    """The token in an answer.

    Args:
        fields: the answer's, with ``access_token`` and maybe ``token_type`` and ``refresh_in``.
        lifetime: seconds from when it was asked for until it ends; not negative.
        sent_at: when it was asked for (``Clock.now``).
        sent_wall: that same moment as this machine's clock has it (``Clock.wall``).
        random: spreads the refreshes, in [0, 1).

    Raises:
        Malformed: if it is no token, or of an unknown type, or ends beyond all reason.
    """
    check_token(fields)
    token_type = fields.get("token_type")
    known = canonical_type("Bearer" if token_type is None else token_type)
    if known is None:
        raise Malformed("the answer's token_type is not Bearer", REPORT)
    if sent_wall + lifetime > _LATEST:
        raise Malformed("the token claims to be good beyond the year 3000", REPORT)
    delay = refresh_delay(lifetime, fields.seconds("refresh_in"), random)
    return Token(
        value=fields.get("access_token"),
        token_type=known,
        expires_on=round(sent_wall + lifetime),
        refresh_on=int(sent_wall + delay),
        received_at=sent_at,
        refresh_at=sent_at + delay,
        expires_at=sent_at + lifetime,
    )


def check_token(fields: Fields) -> None:
    """Refuse an answer whose ``access_token`` is none; what it is does not go into the message.

    Raises:
        Malformed: if there is none, or something else in its place.
    """
    if not fields.get("access_token"):
        raise Malformed("the answer has no access_token", REPORT)
    if not is_token(fields.get("access_token")):
        raise Malformed("the answer's access_token holds what no token has", REPORT)


def _short(value: object) -> str:
    # Not of anything else: a list may be nested too deeply, an integer too long to be written.
    if isinstance(value, int) and not 0 <= value < _LATEST * 10:
        return ""
    return str(value) if isinstance(value, str | int | float) else ""
