"""How a token endpoint's JSON answer becomes a token."""

from __future__ import annotations

from .._core.failure import Malformed, Reason, Unavailable, sanitize
from .._core.token_response import REPORT, Fields, check_token, token_of
from .._http.dates import http_date

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._core.token import Token
    from .._http.messages import Response

# The Date header counts whole seconds and is written before the answer travels.
_SKEW_TOLERANCE = 2.0


def token_from(response: Response, random: float) -> Token:
    """The token in a 200 answer.

    How long it lives comes from ``expires_on`` less the service's own ``Date``, so that a skewed
    clock here neither serves an expired token nor refreshes in a loop, and is never longer than
    ``expires_in`` says: that counts from issuance. It counts from when the token was asked for:
    the ``Date`` was written later, so it cannot be too long, however late the answer was read.

    Raises:
        Unavailable: if the answer is not JSON and does not claim to be.
        Malformed: if it is no token, or one that has expired.
    """
    fields = fields_of(response)
    try:
        return _token(fields, response, random)
    except Malformed as failure:
        failure.status = response.status
        raise


def _token(fields: Fields, response: Response, random: float) -> Token:
    check_token(fields)
    expires_on = fields.moment("expires_on")
    if expires_on is None:
        raise Malformed("the answer has no expires_on", REPORT)
    sent_wall = response.received_wall - (response.received_at - response.sent_at)
    lifetime = expires_on - sent_wall + _ahead(response, sent_wall)
    if lifetime <= 0:
        raise Malformed(
            f"the token expired {-lifetime:.0f} s ago by its expires_on, {expires_on}",
            "Check this machine's clock. " + REPORT,
            reason=Reason.TOKEN_EXPIRED,
        )
    expires_in = fields.seconds("expires_in")
    if expires_in:  # Cloud Shell writes 0, whatever expires_on says
        lifetime = min(lifetime, expires_in)
    return token_of(fields, lifetime, response.sent_at, sent_wall, random)


def fields_of(response: Response) -> Fields:
    """The fields of the JSON object in a 200 answer; none of them goes into a message.

    Raises:
        Unavailable: if the answer is not JSON and does not claim to be.
        Malformed: if it is JSON of another kind, or broken.
    """
    kind = sanitize(response.headers.get("content-type", "")) or "no content type"
    size = f"{len(response.body)} bytes of {kind}"
    broken = False
    try:
        fields = response.fields()
    except ValueError:
        broken = True
    # Not inside the handler: an exception's context would keep the answer's text.
    if broken and "json" not in kind.lower():
        raise Unavailable(
            f"the answer is not JSON but {size}",
            "Something other than the metadata service answers at this address, "
            "such as a captive portal or a proxy: there is no managed identity here.",
            reason=Reason.WRONG_SERVICE,
            status=response.status,
        )
    if broken:
        raise Malformed(f"the answer is broken JSON: {size}", REPORT, status=response.status)
    if fields is None:
        raise Malformed(
            f"the answer is a JSON {type(response.json()).__name__} where an object was due",
            REPORT,
            status=response.status,
        )
    return fields


def _ahead(response: Response, sent_wall: float) -> float:
    """Seconds by which this machine's clock is ahead of the service's, 0 where that is noise."""
    service = http_date(response.headers.get("date", ""))
    if service is None:
        return 0.0
    ahead = sent_wall - service
    return ahead if abs(ahead) > _SKEW_TOLERANCE else 0.0
