"""Failures for responses that do not contain a token of the selected identity."""

from __future__ import annotations

import os
import sys

from .._core.claims import claims_in
from .._core.failure import Failure, Malformed, Reason, Refused, Unavailable, sanitize
from .._core.identity import ascii_lower
from .token_parsing import fields_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeVar

    from .._core.identity import Identity
    from .._core.token_request import TokenRequest
    from .._core.token_response import Fields
    from .._http.exchange import Steps
    from .._http.messages import Response

    T = TypeVar("T")

# The fields in which a response repeats the selector of its request.
_ECHO_FIELDS = {
    "client_id": ("client_id",),
    "object_id": ("object_id",),
    "resource_id": ("msi_res_id", "mi_res_id"),
}
# The claims of a token that name its identity.
_CLAIMS = {"client_id": ("appid", "azp"), "object_id": ("oid",), "resource_id": ("xms_mirid",)}
# https://learn.microsoft.com/entra/identity-platform/reference-error-codes
_UNKNOWN_RESOURCE = ("AADSTS500011", "AADSTS650057")
_UNKNOWN_RESOURCE_TEXTS = ("invalid_resource", "audiencenotsupported")  # the latter: Cloud Shell
_DELETED = ("AADSTS700016", "AADSTS7000112")
# Error texts and codes of IMDS, App Service, Service Fabric, Container Instances on Windows, and
# Azure Machine Learning.
_NO_IDENTITY = (
    *("not found", "not_found", "identity found", "notfound", "notdefined"),
    "sso failure",
)
_NO_RESPONSE_OF_SERVICE = frozenset(
    {
        Reason.UNREACHABLE, Reason.NO_RESPONSE, Reason.TLS, Reason.WRONG_SERVICE, Reason.REDIRECT,
    }
)  # fmt: skip


def check_identity(response: Response, identity: Identity, *, required: bool) -> None:
    """Check that a token is the selected identity's, by its claims and by the response's fields.

    Raise Malformed if the response or the token names another identity, or lacks a required one.

    Args:
        response: a response with status 200.
        identity: the requested identity.
        required: whether the response must repeat the selector.
    """
    if not identity.selector:
        return
    fields = fields_of(response)
    token = fields.get("access_token")
    claims = claims_in(token) if isinstance(token, str) else {}
    echoes = _named(fields, _ECHO_FIELDS[identity.selector])
    named = [("response", name) for name in echoes]
    named += [("token", name) for name in _named(claims, _CLAIMS[identity.selector])]
    others = [(where, name) for where, name in named if not _is_same(name, identity)]
    if others:
        where, name = others[0]
        # Not str(name): that fails for a deeply nested list.
        text = name if isinstance(name, str) else type(name).__name__
        seen = f"its {where} named {identity.selector} {sanitize(text)!r}"
    elif required and not echoes:
        seen = "its response did not name any"
    else:
        return
    older = "Older Azure Arc agents ignore the selector: update the agent, or use"
    raise Malformed(
        f"the service did not confirm the {identity}: {seen}",
        "The token may be another identity's and was discarded. "
        f"{older if required else 'Correct the selector, or omit it to use'} the system-assigned "
        "identity.",
        reason=Reason.IDENTITY_MISMATCH,
        status=response.status,
    )


def _named(fields: Fields | Mapping[str, object], names: tuple[str, ...]) -> list[object]:
    return [fields.get(name) for name in names if fields.get(name)]


def _is_same(name: object, identity: Identity) -> bool:
    return isinstance(name, str) and _canonical(name) == _canonical(identity.value)


def _canonical(value: str) -> str:
    return ascii_lower(value).strip("/")


def from_existing_service(steps: Steps[T]) -> Steps[T]:
    """Return the result of ``steps``. Without a response of the service, the failure ends a chain.

    The service certainly exists, so its identity must not be replaced by another one.
    """
    try:
        return (yield from steps)
    except Unavailable as failure:
        if failure.reason not in _NO_RESPONSE_OF_SERVICE:
            raise
        raise Refused(
            failure.problem, failure.hint, reason=failure.reason, status=failure.status
        ) from None


def refusal(response: Response, token_request: TokenRequest) -> Failure:
    """Return the failure for a response with a status other than 200."""
    status, text, seconds = response.status, response.error_text, response.retry_after
    if response.is_redirect:
        return redirect_failure(response)
    if status == 400:
        return not_assigned(response, token_request)
    if status == 429:
        retry = f": retry in {seconds:.0f} s" if seconds else ""
        return Refused(
            f"throttled by the service (HTTP 429, {text}){retry}",
            "Find the program that sends too many requests. On a VM, the limits are 20 per second "
            "and 5 at the same time.",
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
    link = "/proc/self/exe" if sys.platform == "linux" else ""
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
        f"{sanitize(program)!r}. Change that access rule in the VM's "
        "inVMAccessControlProfile (securityProfile.proxyAgentSettings.imds).",
        reason=Reason.METADATA_SECURITY,
        status=response.status,
        retry_after=response.retry_after,
    )


def not_assigned(
    response: Response, token_request: TokenRequest, question: str = ""
) -> Unavailable:
    """Return the failure for a response that there is no such identity, or no such resource."""
    return Unavailable(
        f"the service returned HTTP {response.status}: {response.error_text}",
        f"Is the {token_request.identity} assigned here, and is {token_request.resource!r} a "
        "resource of its tenant? With several user-assigned identities, select one."
        f"{question and ' ' + question}",
        reason=reason_of(response, is_about_identity=True),
        status=response.status,
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


def reason_of(response: Response, *, is_about_identity: bool = False) -> Reason:
    """Return the reason according to the service's error code or text."""
    code, text = response.service_code, response.error_text.lower()
    if code in _UNKNOWN_RESOURCE or any(each in text for each in _UNKNOWN_RESOURCE_TEXTS):
        return Reason.UNKNOWN_RESOURCE
    if code:
        return Reason.IDENTITY_DELETED if code in _DELETED else Reason.ENTRA_REFUSED
    if response.status != 400 and not is_about_identity:
        return Reason.REFUSED
    if "multiple" in text:
        return Reason.MULTIPLE_IDENTITIES
    if any(words in text for words in _NO_IDENTITY):
        return Reason.IDENTITY_NOT_FOUND
    return Reason.BAD_REQUEST if response.status == 400 else Reason.UNAVAILABLE
