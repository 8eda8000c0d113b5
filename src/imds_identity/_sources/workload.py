"""A Kubernetes workload's identity: its own token, exchanged for one of Microsoft Entra ID.

https://learn.microsoft.com/azure/aks/workload-identity-overview
https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from .._core.failure import Failure, Malformed, Refused, Unavailable, quote
from .._core.issued import REPORT, check_token, token_of
from .._core.secret import Secret
from .._wire.answer import fields_of
from .._wire.exchange import Random, Request, Response, Steps
from .._wire.patience import AS_USUAL, Patience
from .._wire.retry import TOKEN_RULES, answered
from .token_answer import refusal

if TYPE_CHECKING:
    from .._core.token import Token
    from .._core.token_request import TokenRequest

_PATH = "/oauth2/v2.0/token"
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_LONGEST_ASSERTION = 65536
# Entra ID is not on this machine: nothing there is "being updated" for want of an answer.
_RULES = {status: rule for status, rule in TOKEN_RULES.items() if status not in (404, 410)}


def exchange(
    authority: str,
    variable: str,
    wanted: TokenRequest,
    random: Random,
    assertion: Secret,
    patience: Patience = AS_USUAL,
) -> Steps[Token]:
    """One token from Microsoft Entra ID, by one request if all is well.

    Args:
        authority: its URL with the tenant; what is asked follows from it and from no answer.
        variable: the environment variable that named it.
        wanted: what for, and as which client.
        random: spreads retries and refreshes.
        assertion: the workload's own token.
        patience: what the caller wants otherwise.

    Raises:
        Failure: when there is none to be had.
    """
    if wanted.identity.selector != "client_id":
        raise Refused(
            f"workload identity cannot select an identity by {wanted.identity.selector}",
            "Leave the selector out, or use the client id.",
        )
    if not authority.lower().startswith("https://"):
        raise Unavailable(
            f"{variable} must begin with https: the workload's own token is sent there",
            f"Correct or unset {variable}.",
        )
    try:
        response = yield from answered(
            _request(authority, wanted, assertion),
            random,
            absent=f"{variable} says where Microsoft Entra ID is.",
            rules=_RULES,
            patience=patience,
        )
        if response.status != 200:
            raise _refusal(response, wanted)
        return _token(response, random())
    except Failure as failure:
        # A service may say whatever it likes, what it was sent included.
        failure.hide(assertion)
        raise


def assertion_in(path: str) -> Secret:
    """The workload's own token, read anew for each exchange: Kubernetes replaces it.

    Args:
        path: the file that it is in.

    Raises:
        Unavailable: if there is none.
    """
    reason = ""
    try:
        with open(path, encoding="ascii") as file:
            assertion = Secret(file.read(_LONGEST_ASSERTION + 1).strip())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
    else:
        if 0 < len(assertion) <= _LONGEST_ASSERTION:
            return assertion
        reason = "it holds no token"
    raise Unavailable(
        f"{quote(path)!r} cannot be used: {reason}",
        "AZURE_FEDERATED_TOKEN_FILE names the file with this workload's token.",
    )


def _request(authority: str, wanted: TokenRequest, assertion: Secret) -> Request:
    claims = _claims(wanted)
    return Request(
        authority + _PATH,
        {"Content-Type": "application/x-www-form-urlencoded"},
        "POST",
        urlencode(
            {
                "client_id": wanted.identity.value,
                "client_assertion": assertion.reveal(),
                "client_assertion_type": _ASSERTION_TYPE,
                "grant_type": "client_credentials",
                "scope": f"{wanted.resource}/.default",
                **({"claims": claims} if claims else {}),
            }
        ).encode(),
        over_internet=True,
    )


def _claims(wanted: TokenRequest) -> str | None:
    """The claims of a challenge, and that the client would meet another one if it can.

    https://learn.microsoft.com/entra/identity-platform/claims-challenge#how-to-communicate-client-capabilities-to-microsoft-entra-id
    """
    if not wanted.cae:
        return wanted.claims
    import json

    try:
        claims = json.loads(wanted.claims or "{}")
        of_token = claims.setdefault("access_token", {})
        of_token["xms_cc"] = {"values": ["CP1"]}
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise Refused(
            "the claims are no JSON object with an object access_token",
            "Pass them as the service's challenge had them, base64-decoded.",
        ) from None
    return json.dumps(claims)


def _refusal(response: Response, wanted: TokenRequest) -> Failure:
    status = response.status
    if status < 400 or status in _RULES:
        return refusal(response, wanted)
    return Refused(
        f"Microsoft Entra ID answered {status}, {response.words}",
        "Does the client have a federated credential for this workload, in the tenant that "
        "AZURE_TENANT_ID names?",
        status=status,
    )


def _token(response: Response, random: float) -> Token:
    fields = fields_of(response)
    check_token(fields)
    # This service keeps no token for others: what it gives is as old as its answer.
    lifetime = fields.seconds("expires_in")
    if not lifetime:
        raise Malformed("the answer has no expires_in above 0", REPORT, status=response.status)
    sent_wall = response.received_wall - (response.received_at - response.sent_at)
    return token_of(fields, lifetime, response.sent_at, sent_wall, random)
