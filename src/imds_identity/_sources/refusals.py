"""Failures for responses that do not contain a token of the selected identity."""

from __future__ import annotations

import os
import sys

from .._core.failure import Failure, Malformed, Reason, Refused, Unavailable, sanitize
from .._core.identity import ascii_lower
from .token_parsing import fields_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._core.identity import Identity
    from .._core.token_request import TokenRequest
    from .._http.messages import Response

# The fields in which a response repeats the selector of its request.
_ECHO_FIELDS = {
    "client_id": ("client_id",),
    "object_id": ("object_id",),
    "resource_id": ("msi_res_id", "mi_res_id"),
}
# https://learn.microsoft.com/entra/identity-platform/reference-error-codes
_UNKNOWN_RESOURCE = ("AADSTS500011", "AADSTS650057")
_DELETED = ("AADSTS700016", "AADSTS7000112")


def check_identity(response: Response, identity: Identity, *, required: bool) -> None:
    """Check that a token is the selected identity's.

    Args:
        response: a response with status 200.
        identity: the requested identity.
        required: whether the response must repeat the selector.

    Raises:
        Malformed: if the response names another identity, or lacks a required one.
    """
    if not identity.selector:
        return
    fields = fields_of(response)
    echoes = [fields.get(name) for name in _ECHO_FIELDS[identity.selector] if fields.get(name)]
    if not echoes and not required:
        return
    others = [sanitize(str(echo)) for echo in echoes if not _is_same(echo, identity)]
    if not echoes or others:
        named = f"named {identity.selector} {others[0]!r}" if others else "did not name any"
        raise Malformed(
            f"the service did not confirm the {identity}: its response {named}",
            "The token may be another identity's and was discarded. Older Azure Arc agents ignore "
            "the selector: update the agent, or use the system-assigned identity.",
            reason=Reason.IDENTITY_MISMATCH,
            status=response.status,
        )


def _is_same(echo: object, identity: Identity) -> bool:
    return isinstance(echo, str) and ascii_lower(echo) == ascii_lower(identity.value)


def refusal(response: Response, token_request: TokenRequest) -> Failure:
    """Return the failure for a response with a status other than 200."""
    status, text, seconds = response.status, response.error_text, response.retry_after
    if response.is_redirect:
        return redirect_failure(response)
    if status == 400:
        return Unavailable(
            f"the service returned HTTP 400: {text}",
            f"Is the {token_request.identity} assigned here, and is {token_request.resource!r} a "
            "resource of its tenant? With several user-assigned identities, select one.",
            reason=reason_of(response),
            status=status,
            service_code=response.service_code,
        )
    if status == 429:
        retry = f": retry in {seconds:.0f} s" if seconds else ""
        return Refused(
            f"throttled by the service (HTTP 429, {text}){retry}",
            "Find the program that sends too many requests: a VM may send 20 per second, and 5 at "
            "the same time.",
            reason=Reason.THROTTLED,
            status=status,
            retry_after=seconds,
        )
    if status in (404, 410) or status >= 500:
        return Refused(
            f"the service keeps returning HTTP {status}: {text}",
            "It is being updated or is failing. Try again in a few minutes.",
            reason=Reason.SERVICE_FAILING,
            status=status,
            service_code=response.service_code,
            retry_after=seconds,
        )
    return Refused(
        f"the service returned HTTP {status}: {text}",
        "Retrying will not help. If this text is not the metadata service's own, a proxy or a "
        "firewall responded in its place.",
        reason=reason_of(response),
        status=status,
        service_code=response.service_code,
    )


def access_denied(response: Response, path: str) -> Refused:
    """Return the failure for a response of Azure's guest proxy agent, which has no body.

    https://github.com/Azure/GuestProxyAgent
    """
    user = f"user id {os.geteuid()}" if sys.platform != "win32" else "this user"
    # The agent reads the same link; sys.executable is the script of some programs.
    link = "/proc/self/exe"
    program = os.path.realpath(link if os.path.exists(link) else sys.executable or "unknown")
    if response.status == 403:
        problem = "the VM's access rules deny this process access to the metadata service"
        hint = ""
    elif response.status == 421:
        problem = "the VM's guest proxy agent could not determine which process sent the request"
        hint = "If that persists, restart the service azure-proxy-agent. "
    else:
        problem = "the VM's guest proxy agent, or the service behind it, failed"
        hint = "Try again in a few minutes. If that persists, check the service azure-proxy-agent. "
    return Refused(
        f"{problem} (HTTP {response.status} without a body)",
        f"{hint}The Metadata Security Protocol must allow {path} to {user} and the program "
        f"{sanitize(program)!r}: change that access rule in the VM's "
        "inVMAccessControlProfile (securityProfile.proxyAgentSettings.imds).",
        reason=Reason.METADATA_SECURITY,
        status=response.status,
        retry_after=response.retry_after,
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
    """Return the reason according to the service's error code or text."""
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
