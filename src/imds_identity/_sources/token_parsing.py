"""Parses a token from the JSON response of a token endpoint."""

from __future__ import annotations

from .._core.failure import Malformed, Reason, Unavailable
from .._core.token_response import REPORT, Fields, check_token, token_of
from .._http.dates import http_date

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._core.token import Token
    from .._http.messages import Response

# Date and expires_in have whole seconds, and the response takes time to arrive.
_TOLERANCE = 2.0


def token_from(response: Response, random: float) -> Token:
    """Return the token in a response with status 200.

    Raise Unavailable if the response is not JSON and not declared as JSON; Malformed if there is no
    valid token, or it has expired.

    Its lifetime is ``expires_on`` minus the service's own ``Date``, so that with a wrong local
    clock the cache neither returns expired tokens nor refreshes in a loop. It is at most
    ``expires_in``, which is sufficient alone. It starts when the request was sent: the ``Date`` is
    later, so the lifetime is never too long, even if the response was read late.
    """
    fields = fields_of(response)
    try:
        return _token(fields, response, random)
    except Malformed as failure:
        failure.status = response.status
        raise


def _token(fields: Fields, response: Response, random: float) -> Token:
    check_token(fields)
    sent_wall = response.received_wall - (response.received_at - response.sent_at)
    lifetime = _lifetime(fields, response, sent_wall)
    return token_of(fields, lifetime, response.sent_at, sent_wall, random)


def _lifetime(fields: Fields, response: Response, sent_wall: float) -> float:
    """Return the seconds from the request to the expiry."""
    # A cached token's expires_in should count down. Microsoft's documentation says that it counts
    # from issuance, so where both fields are present the earlier expiry is used.
    expires_on, expires_in = fields.moment("expires_on"), fields.seconds("expires_in")
    if expires_on is None:
        if not expires_in:
            raise Malformed(
                "the response has neither a valid expires_on nor an expires_in above 0", REPORT
            )
        return expires_in
    lifetime = expires_on - sent_wall + _clock_skew(response, sent_wall)
    if lifetime <= 0:
        raise Malformed(
            f"the token expired {abs(lifetime):.0f} s ago by its expires_on, {expires_on}",
            "Check this machine's clock. " + REPORT,
            reason=Reason.TOKEN_EXPIRED,
        )
    if expires_in and expires_in < lifetime - _TOLERANCE:  # Cloud Shell always returns 0
        return expires_in
    return lifetime  # so that the caller gets the service's own expires_on


def fields_of(response: Response) -> Fields:
    """Return the fields of the JSON object in a response with status 200.

    Error messages never contain fields, because one of them is the token. Raise Unavailable if the
    response is not JSON and not declared as JSON; Malformed if it is not valid JSON, or not an
    object.
    """
    broken = False
    try:
        fields = response.fields()
    except ValueError:
        broken = True
    # Not inside the handler: an exception's context would keep the response's text.
    if broken and "json" not in response.headers.get("content-type", "").lower():
        raise Unavailable(
            f"the response is not JSON: {response.content}",
            "It did not come from a token service but from another program at this address, such "
            "as a captive portal or a proxy.",
            reason=Reason.WRONG_SERVICE,
            status=response.status,
        )
    if broken:
        problem = f"the response is not valid JSON: {response.content}"
        raise Malformed(problem, REPORT, status=response.status)
    if fields is None:
        raise Malformed(
            f"the response is a JSON {type(response.json()).__name__} instead of an object",
            REPORT,
            status=response.status,
        )
    return fields


def _clock_skew(response: Response, sent_wall: float) -> float:
    """Return the seconds by which the local clock is ahead of the service's, 0 if negligible."""
    service = http_date(response.headers.get("date", ""))
    if service is None:
        return 0.0
    ahead = sent_wall - service
    return ahead if abs(ahead) > _TOLERANCE else 0.0
