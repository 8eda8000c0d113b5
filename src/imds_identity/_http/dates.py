"""Dates and delays in HTTP header fields."""

from __future__ import annotations


def http_date(value: str) -> float | None:
    """Return the Unix time of an HTTP date, or None if ``value`` is not a date."""
    if not value:
        return None
    from datetime import timezone
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(value)
        # Without a zone (-0000) it is UTC and not local time.
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError, IndexError):
        return None


def retry_after_seconds(value: str, now: float) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks the client to wait, None if invalid.

    Args:
        value: a number of seconds or an HTTP date.
        now: the Unix time of the response, preferably by the server's own ``Date``.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    moment = http_date(value)
    return None if moment is None else max(0.0, moment - now)
