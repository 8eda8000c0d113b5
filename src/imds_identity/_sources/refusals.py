"""What IMDS and the Arc agent have in common in how they answer a token request."""

from __future__ import annotations

from .._core.failure import Failure, Malformed, Reason, Refused, Unavailable, sanitize
from .._core.identity import ascii_lower
from .token_parsing import fields_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._core.identity import Identity
    from .._core.token_request import TokenRequest
    from .._http.messages import Response

_ECHOES = {
    "client_id": ("client_id",),
    "object_id": ("object_id",),
    "resource_id": ("msi_res_id", "mi_res_id"),
}

# https://learn.microsoft.com/entra/identity-platform/reference-error-codes
_UNKNOWN_RESOURCE = ("AADSTS500011", "AADSTS650057")
_DELETED = ("AADSTS700016", "AADSTS7000112")


def check_identity(response: Response, identity: Identity, *, required: bool) -> None:
    """Refuse a token that is not the selected identity's.

    Args:
        response: a 200 answer, which repeats the selector it was asked with.
        identity: whom was asked for.
        required: whether an answer that repeats nothing is refused as well.

    Raises:
        Malformed: if the answer names another identity, or none where one is required.
    """
    if not identity.selector:
        return
    fields = fields_of(response)
    echoes = [fields.get(name) for name in _ECHOES[identity.selector] if fields.get(name)]
    if not echoes and not required:
        return
    if not echoes or not all(_names(echo, identity) for echo in echoes):
        other = next((sanitize(str(echo)) for echo in echoes if not _names(echo, identity)), None)
        confirmation = f"answered for {identity.selector} {other!r}" if other else "named none"
        raise Malformed(
            f"the service did not confirm the {identity}: it {confirmation}",
            "Its token may be another identity's and was discarded. Older Azure Arc agents ignore "
            "the selector: update the agent, or use the system-assigned identity.",
            reason=Reason.IDENTITY_MISMATCH,
            status=response.status,
        )


def _names(echo: object, identity: Identity) -> bool:
    return isinstance(echo, str) and ascii_lower(echo) == ascii_lower(identity.value)


def refusal(response: Response, token_request: TokenRequest) -> Failure:
    """What an answer other than 200 means for whoever wants a token.

    Args:
        response: the answer.
        token_request: what was asked for.
    """
    status, error_text, rest = response.status, response.error_text, response.retry_after
    if response.is_redirect:
        return redirect_failure(response)
    if status == 400:
        return Unavailable(
            f"the service answered 400, {error_text}",
            f"Is the {token_request.identity} assigned here, and is {token_request.resource!r} a "
            "resource of its tenant? With several user-assigned identities one must be selected.",
            reason=reason_of(response),
            status=status,
            service_code=response.service_code,
        )
    if status == 429:
        asked = f" and asks for {rest:.0f} s of rest" if rest else ""
        return Refused(
            f"the service is throttling this machine (429, {error_text}){asked}",
            "Find what asks so often: of a VM no more than 20 a second and 5 at once are taken.",
            reason=Reason.THROTTLED,
            status=status,
            retry_after=rest,
        )
    if status in (404, 410) or status >= 500:
        return Refused(
            f"the service keeps answering {status}, {error_text}",
            "It is being updated or is ill; that mostly passes within minutes.",
            reason=Reason.SERVICE_FAILING,
            status=status,
            service_code=response.service_code,
            retry_after=rest,
        )
    return Refused(
        f"the service answered {status}, {error_text}",
        "Asking again will not help: if those are not the metadata service's own words, something "
        "else (a proxy, a firewall) answers in its place.",
        reason=reason_of(response),
        status=status,
        service_code=response.service_code,
    )


def redirect_failure(response: Response) -> Unavailable:
    """Return the failure for a redirect."""
    return Unavailable(
        f"the response is a redirect (HTTP {response.status}), which was not followed",
        "The metadata service never redirects: another program responds at this address.",
        reason=Reason.REDIRECT,
        status=response.status,
    )


def reason_of(response: Response) -> Reason:
    """Return the reason that the service's error text names."""
    code, text = response.service_code, response.error_text.lower()
    if code in _UNKNOWN_RESOURCE or "invalid_resource" in text:
        return Reason.UNKNOWN_RESOURCE
    if code:
        return Reason.IDENTITY_DELETED if code in _DELETED else Reason.ENTRA_REFUSED
    if response.status != 400:
        return Reason.REFUSED
    if "multiple" in text:
        return Reason.MULTIPLE_IDENTITIES
    return Reason.IDENTITY_NOT_FOUND if "not found" in text else Reason.BAD_REQUEST
