"""How a token endpoint's JSON answer becomes a token."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .._core.failure import Malformed, Unavailable
from .._core.freshness import refresh_delay
from .._core.token import Token
from .retry import http_date

if TYPE_CHECKING:
    from .exchange import Response

_NUMBER = re.compile(r"([0-9]{1,12})(?:\.[0-9]*)?")
# The Date header counts whole seconds and is written before the answer travels.
_SKEW_TOLERANCE = 2.0
_REPORT = "If it goes on, the service that answers there is at fault: report it."


def token_from(response: Response, random: float) -> Token:
    """The token in a 200 answer.

    How long it lives comes from ``expires_on`` less the service's own ``Date``, so that a skewed
    clock here neither serves an expired token nor refreshes in a loop, and is never longer than
    ``expires_in`` says: that counts from issuance.

    Raises:
        Unavailable: if the answer is not JSON and does not claim to be.
        Malformed: if it is no token, or one that has expired.
    """
    payload = payload_of(response)
    value = payload.get("access_token")
    if not isinstance(value, str) or not value:
        raise Malformed("the answer has no access_token", _REPORT, status=response.status)
    if not value.isprintable() or not value.isascii():
        raise Malformed("the access_token holds characters that no token has", _REPORT, status=200)
    expires_on = _seconds(payload.get("expires_on"))
    if expires_on is None:
        state = "a non-numeric" if "expires_on" in payload else "no"
        raise Malformed(f"the answer has {state} expires_on", _REPORT, status=response.status)
    correction = _clock_correction(response)
    local_expiry = expires_on + correction
    lifetime = local_expiry - response.received_wall
    expires_in = _seconds(payload.get("expires_in"))
    if expires_in is not None:
        lifetime = min(lifetime, expires_in)
    if lifetime <= 0:
        raise Malformed(
            f"the token expired {abs(lifetime):.0f} s ago by its expires_on, {expires_on}",
            "Check this machine's clock. " + _REPORT,
            status=response.status,
        )
    delay = refresh_delay(lifetime, _seconds(payload.get("refresh_in")), random)
    token_type = payload.get("token_type")
    return Token(
        value=value,
        token_type=token_type if isinstance(token_type, str) and token_type else "Bearer",
        expires_on=round(min(local_expiry, response.received_wall + lifetime)),
        refresh_on=int(response.received_wall + delay),
        received_at=response.received_at,
        refresh_at=response.received_at + delay,
        expires_at=response.received_at + lifetime,
    )


def payload_of(response: Response) -> dict[str, Any]:
    """The JSON object in a 200 answer; what is in it never goes into a message.

    Raises:
        Unavailable: if the answer is not JSON and does not claim to be.
        Malformed: if it is JSON of another kind, or broken.
    """
    kind = response.headers.get("content-type", "no content type")
    size = f"{len(response.body)} bytes of {kind!r}"
    try:
        payload = response.json()
    except (ValueError, RecursionError):
        if "json" not in kind.lower():
            raise Unavailable(
                f"the answer is not JSON but {size}",
                "Something other than the metadata service answers at this address, "
                "such as a captive portal or a proxy: there is no managed identity here.",
                status=response.status,
            ) from None
        raise Malformed(
            f"the answer is broken JSON: {size}", _REPORT, status=response.status
        ) from None
    if not isinstance(payload, dict):
        raise Malformed(
            f"the answer is a JSON {type(payload).__name__} where an object was due",
            _REPORT,
            status=response.status,
        )
    return payload


def _seconds(value: object) -> int | None:
    """A count of seconds, which these services mostly write as a string; None for nonsense."""
    if isinstance(value, bool):
        return None
    match = _NUMBER.fullmatch(str(value))
    return int(match[1]) if match else None


def _clock_correction(response: Response) -> float:
    """Seconds by which this machine's clock is ahead of the service's, 0 where that is noise."""
    service = http_date(response.headers.get("date", ""))
    if service is None:
        return 0.0
    ahead = response.received_wall - service
    return ahead if abs(ahead) > _SKEW_TOLERANCE else 0.0
