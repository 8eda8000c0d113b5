"""A Kubernetes workload's identity: its own token, exchanged for one of Microsoft Entra ID.

MSAL writes the request, and our own HTTP path sends it: MSAL would ask two endpoints more, and by a
session that knows none of our bounds.

https://learn.microsoft.com/azure/aks/workload-identity-overview
https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import msal

from .._core.failure import Failure, Malformed, Reason, Refused, Unavailable, sanitize
from .._core.secret import Secret
from .._core.token_response import REPORT, check_token, token_of
from .._http.messages import Request, Response
from .._http.retry import TOKEN_RULES, with_retries
from .._http.retry_options import DEFAULT_RETRY, RetryOptions
from .refusals import reason_of, refusal
from .token_parsing import fields_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._core.token import Token
    from .._core.token_request import TokenRequest
    from .._http.exchange import Random, Steps

_PATH = "/oauth2/v2.0/token"
_LONGEST_ASSERTION = 65536
# Entra ID is not on this machine: nothing there is "being updated" for want of an answer.
_RULES = {status: rule for status, rule in TOKEN_RULES.items() if status not in (404, 410)}


def exchange(
    authority: str,
    variable: str,
    token_request: TokenRequest,
    random: Random,
    assertion: Secret,
    retry_options: RetryOptions = DEFAULT_RETRY,
) -> Steps[Token]:
    """One token from Microsoft Entra ID, by one request if all is well.

    Args:
        authority: its URL with the tenant; what is asked follows from it and from no answer.
        variable: the environment variable that named it.
        token_request: what for, and as which client.
        random: spreads retries and refreshes.
        assertion: the workload's own token.
        retry_options: what the caller wants otherwise.

    Raises:
        Failure: when there is none to be had.
    """
    if token_request.identity.selector != "client_id":
        raise Refused(
            f"workload identity cannot select an identity by {token_request.identity.selector}",
            "Leave the selector out, or use the client id.",
            reason=Reason.UNSUPPORTED,
        )
    if not authority.lower().startswith("https://"):
        raise Unavailable(
            f"{variable} must begin with https: the workload's own token is sent there",
            f"Correct or unset {variable}.",
            reason=Reason.INVALID_SETTING,
        )
    try:
        response = yield from with_retries(
            _request(authority, token_request, assertion),
            random,
            unreachable_hint=f"{variable} says where Microsoft Entra ID is.",
            rules=_RULES,
            retry_options=retry_options,
        )
        if response.status != 200:
            raise _refusal(response, token_request)
        return _token(response, random())
    except Failure as failure:
        # A service may say whatever it likes, what it was sent included.
        failure.redact(assertion)
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
        f"{sanitize(path)!r} cannot be used: {reason}",
        "AZURE_FEDERATED_TOKEN_FILE names the file with this workload's token.",
        reason=Reason.FEDERATED_TOKEN,
    )


def _request(authority: str, token_request: TokenRequest, assertion: Secret) -> Request:
    """The token request in MSAL's words."""
    writer = _Writer(authority)
    try:
        app = msal.ConfidentialClientApplication(
            token_request.identity.value,
            authority=authority,
            instance_discovery=False,
            client_credential={"client_assertion": assertion.reveal},
            client_capabilities=["CP1"] if token_request.cae else None,
            http_client=writer,
        )
        scopes = [f"{token_request.resource}/.default"]
        app.acquire_token_for_client(scopes, claims_challenge=token_request.claims)
    except Exception as error:  # noqa: BLE001 - whatever MSAL trips over
        tripped = f" ({type(error).__name__}: {sanitize(str(error))})"
    else:
        if writer.request is not None:
            return writer.request
        tripped = ""
    # Not inside the handler: an exception's context holds MSAL's frames, and those the assertion.
    if token_request.claims:
        raise Refused(
            f"the claims are no JSON object with an object access_token{tripped}",
            "Pass them as the service's challenge had them, base64-decoded.",
            reason=Reason.BAD_REQUEST,
        )
    raise Refused(
        f"MSAL writes no token request{tripped}",
        "AZURE_TENANT_ID and AZURE_CLIENT_ID are those of the app registration.",
        reason=Reason.INVALID_SETTING,
    )


class _Writer:
    """In MSAL's eyes an HTTP client. It keeps the token request, and sends nothing."""

    def __init__(self, authority: str) -> None:
        self.request: Request | None = None
        self._authority = authority

    def get(self, url: str, **_: Any) -> _Said:  # noqa: ARG002
        """What the authority would say of itself, which follows from its URL."""
        return _Said(
            200,
            {
                "issuer": f"{self._authority}/v2.0",
                "authorization_endpoint": f"{self._authority}/oauth2/v2.0/authorize",
                "token_endpoint": self._authority + _PATH,
            },
        )

    def post(self, url: str, data: Mapping[str, str], **_: Any) -> _Said:  # noqa: ARG002
        """Keep the one request, without what MSAL would like to know of a user."""
        form = {name: value for name, value in data.items() if name != "client_info"}
        self.request = Request(
            self._authority + _PATH,
            {"Content-Type": "application/x-www-form-urlencoded"},
            "POST",
            urlencode(form).encode(),
            over_internet=True,
        )
        return _Said(400, {"error": "not_sent_yet"})

    def close(self) -> None:
        """There is nothing to close."""


class _Said:
    """As much of an HTTP response as MSAL reads."""

    def __init__(self, status: int, said: Mapping[str, str]) -> None:
        self.status_code = status
        self.text = json.dumps(said)
        self.headers: Mapping[str, str] = {}

    def raise_for_status(self) -> None:
        """Nothing: MSAL reads the status itself."""


def _refusal(response: Response, token_request: TokenRequest) -> Failure:
    status = response.status
    if status < 400 or status in _RULES:
        return refusal(response, token_request)
    return Refused(
        f"Microsoft Entra ID answered {status}, {response.error_text}",
        "Does the client have a federated credential for this workload, in the tenant that "
        "AZURE_TENANT_ID names?",
        reason=reason_of(response),
        status=status,
        service_code=response.service_code,
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
